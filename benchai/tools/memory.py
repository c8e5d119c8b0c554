"""Tools over the memory: find in it, keep something, forget something.

The tools know it by a small protocol; the run gives them one that stays within the run's namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pydantic import Field

from benchai.errors import ToolError
from benchai.tools.tool import Tool, ToolArgs, ToolContext

__all__ = ["FORGET", "MEMORY_TOOLS", "RECALL", "REMEMBER", "SEARCH_MEMORY", "Recalled", "Recollection"]

MOST = 20


class Recalled(NamedTuple):
    """Something found: its id, where it stands, when it was said or added (ISO date), and its text."""

    id: str
    place: str
    date: str
    text: str


class Recollection(Protocol):
    """The memory, as a run may use it."""

    async def search(self, query: str, count: int) -> Sequence[Recalled]:
        """Passages of documents."""

    async def recall(self, query: str, count: int) -> Sequence[Recalled]:
        """What was said, learned and done before."""

    async def remember(self, text: str) -> str:
        """Keep a note; its id."""

    async def forget(self, id: str) -> int:
        """Forget what has this id, and what came from it; how much that was."""


class SearchArgs(ToolArgs):
    """Arguments of search_memory and recall."""

    query: str = Field(description="What to look for, in words", min_length=1, max_length=2000)
    count: int = Field(5, description="How many passages at most", ge=1, le=MOST)


class RememberArgs(ToolArgs):
    """Arguments of remember."""

    text: str = Field(description="One fact, as a sentence that stands alone", min_length=1, max_length=4000)


class ForgetArgs(ToolArgs):
    """Arguments of forget."""

    id: str = Field(description="Id of what is to be forgotten, such as f12", pattern=r"^[dtfhsp][0-9]{1,18}$")


async def _search(args: SearchArgs, ctx: ToolContext) -> str:
    return _shown(await _memory(ctx).search(args.query, args.count), "the documents")


async def _recall(args: SearchArgs, ctx: ToolContext) -> str:
    return _shown(await _memory(ctx).recall(args.query, args.count), "the memory")


async def _remember(args: RememberArgs, ctx: ToolContext) -> str:
    return f"kept as {await _memory(ctx).remember(args.text)}"


async def _forget(args: ForgetArgs, ctx: ToolContext) -> str:
    count = await _memory(ctx).forget(args.id)
    return f"forgot {args.id}" + (f" and {count - 1} more that came from it" if count > 1 else "")


def _shown(found: Sequence[Recalled], where: str) -> str:
    if not found:
        return f"nothing in {where} matches"
    return "\n\n".join(f"[{one.id}] {one.place} ({one.date})\n{one.text}" for one in found)


def _memory(ctx: ToolContext) -> Recollection:
    if ctx.memory is None:
        raise ToolError("this run has no memory", hint="memory.enabled in benchai.yaml switches it on")
    return ctx.memory


# what was kept may have been written by others: a document, a web page that was talked about
SEARCH_MEMORY = Tool("search_memory", "Find passages in the user's documents.", SearchArgs, _search, trusted=False)
RECALL = Tool(
    "recall", "Find what was said, learned and done in earlier conversations.", SearchArgs, _recall, trusted=False
)
REMEMBER = Tool("remember", "Keep a fact for later conversations.", RememberArgs, _remember, "write")
FORGET = Tool("forget", "Forget something by its id, with all that came from it.", ForgetArgs, _forget, "write")
MEMORY_TOOLS = (SEARCH_MEMORY, RECALL, REMEMBER, FORGET)
