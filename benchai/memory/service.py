"""What callers may ask of the memory, in this process or of the server that owns it, and how that goes over HTTP."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

from benchai.memory.audit import Doubtful
from benchai.memory.careful import Place, Proven
from benchai.memory.distil import Summary, Work
from benchai.memory.facts import Added, Fact, Known, Why
from benchai.memory.forget import Forgotten, Target
from benchai.memory.howtos import Howto
from benchai.memory.importing import Imported
from benchai.memory.namespace import Namespace
from benchai.memory.reindex import Reindexed
from benchai.memory.search import Found, Query
from benchai.memory.store import Put
from benchai.memory.tuning import Metric, Tuned
from benchai.memory.turns import Said, Thread, Turn
from benchai.memory.types import Document, Passage, Stamp
from benchai.memory.upkeep import Stats, Verdict


class MemoryService(Protocol):
    """See ``Memory``, which says what each call does and raises."""

    async def known(self, ns: Namespace, prefix: str = "") -> dict[str, Stamp]:
        """Documents of this very namespace whose source begins with a prefix."""

    async def put(self, ns: Namespace, documents: Sequence[Document]) -> Put:
        """Keep documents; one of the same source is replaced."""

    async def drop(self, ns: Namespace, sources: Sequence[str]) -> int:
        """Forget documents of this very namespace; how many there were."""

    async def move(self, ns: Namespace, old: str, new: str) -> bool:
        """Give a document another source."""

    async def search(self, ns: Namespace, query: Query) -> Found:
        """What the memory holds on a question."""

    async def passages(self, ns: Namespace, id: str) -> list[Passage]:
        """The passages of what an id stands for."""

    async def record(self, ns: Namespace, thread: str, run: str, turns: Sequence[Said]) -> list[int]:
        """Keep the turns of a run."""

    async def turns_of(self, ns: Namespace, thread: str) -> list[Turn]:
        """The turns of a thread."""

    async def turn(self, ns: Namespace, id: str) -> Turn:
        """One turn."""

    async def threads(self, ns: Namespace) -> list[Thread]:
        """The threads that have turns."""

    async def learn(self, ns: Namespace, fact: Fact, sources: Sequence[int] = (), extractor: str = "user") -> Added:
        """Keep a fact."""

    async def remember(self, ns: Namespace, text: str, sources: Sequence[int] = ()) -> Added:
        """Keep a free note."""

    async def facts(
        self, ns: Namespace, as_of: float | None = None, subject: str | None = None, relation: str | None = None
    ) -> list[Known]:
        """The facts that hold, or held at a time."""

    async def fact(self, ns: Namespace, id: str) -> Known:
        """One fact."""

    async def edit(
        self,
        ns: Namespace,
        id: str,
        text: str | None = None,
        value: str | None = None,
        confidence: float | None = None,
    ) -> Known:
        """Correct a fact."""

    async def why(self, ns: Namespace, id: str) -> Why:
        """How a fact was learned."""

    async def worked(
        self, ns: Namespace, task: str, steps: Sequence[str], workflow: str, sources: Sequence[int] = ()
    ) -> Howto:
        """Keep steps by which a task was done."""

    async def howtos(self, ns: Namespace) -> list[Howto]:
        """The how-tos that a call sees."""

    async def audit(self, ns: Namespace) -> list[Doubtful]:
        """The facts that are doubtful."""

    async def due(self, ns: Namespace, budget: int) -> list[Work]:
        """What is to be summarised."""

    async def stale(self, ns: Namespace) -> list[Work]:
        """What is to be summarised again."""

    async def summarised(self, ns: Namespace, work: Work, text: str, extractor: str) -> Summary | None:
        """Keep a summary."""

    async def drop_summary(self, ns: Namespace, id: str) -> None:
        """Delete a summary."""

    async def summaries(self, ns: Namespace, thread: str | None = None) -> list[Summary]:
        """The summaries that a call sees."""

    async def exported(self, ns: Namespace, markdown: bool = False) -> str:
        """All that a namespace holds, as text."""

    async def imported(self, ns: Namespace, lines: Sequence[str]) -> Imported:
        """Keep what an export holds."""

    async def imported_markdown(self, ns: Namespace, files: Mapping[str, str]) -> Imported:
        """Keep what Markdown files hold."""

    async def label(self, ns: Namespace, query: str, passage: str, good: bool = True) -> None:
        """Note that a passage answers a question, or does not."""

    async def tune(self, ns: Namespace, metric: Metric = "ndcg") -> Tuned:
        """Learn the legs' weights from what was labelled."""

    async def would_forget(self, ns: Namespace, target: Target) -> Forgotten:
        """What ``forget`` would do."""

    async def forget(self, ns: Namespace, target: Target) -> Forgotten:
        """Forget sources, and what was derived from them."""

    async def forget_proved(self, ns: Namespace, target: Target, elsewhere: Sequence[Place] = ()) -> Proven:
        """Forget, and look for what was forgotten in all bytes."""

    async def stats(self, ns: Namespace) -> Stats:
        """What is kept, and what it takes."""

    async def verify(self) -> Verdict:
        """Look at every page and every row."""

    async def index(self) -> Reindexed | None:
        """Embed all that has no vector yet."""

    async def rebuild(self) -> Reindexed | None:
        """Make all indexes anew."""

    async def vacuum(self, give_up: str | None = None) -> dict[str, str]:
        """Make the file small, and empty what the vectors have left; what could not be emptied."""


class Call(NamedTuple):
    """One call as JSON: its arguments as one object, and its result."""

    arguments: type[BaseModel]
    result: TypeAdapter[Any]


@cache
def calls() -> dict[str, Call]:
    """All calls by name, as ``MemoryService`` has them."""
    names = [name for name, found in vars(MemoryService).items() if inspect.iscoroutinefunction(found)]
    return {name: _call(name) for name in names}


def arguments_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The arguments of a call as JSON.

    Raises:
        TypeError: they do not fit the call.
    """
    bound = inspect.signature(getattr(MemoryService, name)).bind(None, *args, **kwargs).arguments
    bound.pop("self")
    return calls()[name].arguments(**bound).model_dump_json().encode()


def _call(name: str) -> Call:
    function = getattr(MemoryService, name)
    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        one.name: (hints[one.name], ... if one.default is one.empty else one.default)
        for one in list(inspect.signature(function).parameters.values())[1:]
    }
    model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    return Call(model, TypeAdapter(hints["return"]))
