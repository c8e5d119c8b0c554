"""Documents of the memory as resources."""

from __future__ import annotations

import base64
import glob
import mimetypes
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ListResourcesResult, ReadResourceResult, Resource, TextResourceContents

from benchai.errors import UnknownMemory
from benchai.graphs.remembering import namespace_of
from benchai.server.mcp.house import House
from benchai.server.mcp.recall import NOWHERE

if TYPE_CHECKING:
    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService
    from benchai.memory.types import Passage

SCHEME = "benchai://documents/"
#: Documents of one page of the list.
PAGE = 100
#: Characters that two pieces may share: more than the cutter gives them; fewer are chance.
MOST_SHARED, LEAST_SHARED = 400, 8
#: What a client is told that reads a resource which is not there, as the protocol has it.
NOT_FOUND = -32002


class Documents:
    """What a key's user keeps; a client sees nothing of another one's."""

    def __init__(self, house: House) -> None:
        self._memories = house.memories

    async def listed(self, owner: str, cursor: str | None) -> ListResourcesResult:
        """One page of the documents, by their sources.

        Raises:
            MCPError: the cursor is none of ours.
            BenchAIError: the memory can't be read.
        """
        after = _after(cursor)
        sources: set[str] = set()
        if self._memories.exists:
            async with self._memories.use() as memory:
                for level in self._namespace(owner).visible():
                    sources |= (await memory.known(level)).keys()
        following = sorted(source for source in sources if source > after)
        shown = following[:PAGE]
        more = _cursor(shown[-1]) if len(following) > PAGE else None
        return ListResourcesResult(resources=[_resource(one) for one in shown], next_cursor=more)

    async def read(self, owner: str, uri: str) -> ReadResourceResult:
        """What a document says, as it was read when it was added.

        Raises:
            MCPError: there is no such document.
            BenchAIError: the memory can't be read.
        """
        source = unquote(uri.removeprefix(SCHEME)) if uri.startswith(SCHEME) else ""
        found: Sequence[Passage] = ()
        if source and self._memories.exists:
            async with self._memories.use() as memory:
                found = await _passages(memory, self._namespace(owner), source)
        if not found:
            raise MCPError(NOT_FOUND, f"there is no document {uri[:200]!r}; 'resources/list' names them", {"uri": uri})
        contents = TextResourceContents(uri=uri, mime_type="text/plain", text=joined([one.text for one in found]))
        return ReadResourceResult(contents=[contents])

    def _namespace(self, owner: str) -> Namespace:
        return namespace_of(self._memories.loaded.config.memory, NOWHERE, owner or None)


async def _passages(memory: MemoryService, ns: Namespace, source: str) -> list[Passage]:
    """The passages of a document, in their order; none where the call does not see it."""
    from benchai.memory.forget import Target

    for level in ns.visible():
        # the one question that leads from a source to passages; it changes nothing
        named = await memory.would_forget(level, Target(source=glob.escape(source)))
        for number in named.passages:
            with suppress(UnknownMemory):
                [passage] = await memory.passages(level, f"p{number}")
                if passage.source == source:
                    return await memory.passages(level, passage.owner)
    return []


def joined(pieces: Sequence[str]) -> str:
    """Pieces of a document as one text; what two of them share, as prose is cut, stands there once."""
    text = ""
    for piece in pieces:
        longest = min(MOST_SHARED, len(piece), len(text))
        shared = next((n for n in range(longest, LEAST_SHARED, -1) if text.endswith(piece[:n])), 0)
        text += piece[shared:] if shared or not text else f"\n\n{piece}"
    return text


def _resource(source: str) -> Resource:
    kind, _ = mimetypes.guess_type(source)
    title = source.rstrip("/").rpartition("/")[2] or source
    described = f"{source}, as text" + (f" (of {kind})" if kind and not kind.startswith("text/") else "")
    return Resource(
        uri=f"{SCHEME}{quote(source, safe='')}",
        name=source,
        title=title,
        description=described,
        mime_type="text/plain",
    )


def _cursor(source: str) -> str:
    return base64.urlsafe_b64encode(source.encode()).decode()


def _after(cursor: str | None) -> str:
    """The source after which a page begins.

    Raises:
        MCPError: the cursor is none of ours.
    """
    try:
        return base64.b64decode((cursor or "").encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise MCPError(INVALID_PARAMS, f"the cursor {(cursor or '')[:100]!r} is none of this server's") from None
