"""The memory as a command opens it: that of a running server, or its own, with a fleet where a model embeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchai.config import LoadedConfig
    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService
    from benchai.runtime.endpoints import Endpoints


@asynccontextmanager
async def opened_memory(loaded: LoadedConfig, namespace: str | None) -> AsyncIterator[tuple[MemoryService, Namespace]]:
    """The memory of a configuration, and the namespace that a command is about.

    Raises:
        NamespaceError: the namespace is not written as one.
        UsageError: the memory is switched off.
        StoreError: it can't be opened.
    """
    from benchai.graphs.memories import Memories

    ns = _parsed(loaded.config.memory.project if namespace is None else namespace)
    async with AsyncExitStack() as stack:
        memories = Memories(loaded)
        if memories.asks_models and not memories.served:
            endpoints = await stack.enter_async_context(opened_endpoints(loaded))
            memories = Memories(loaded, endpoints)
        await stack.enter_async_context(memories)
        yield await stack.enter_async_context(memories.use()), ns


def _parsed(text: str) -> Namespace:
    """A namespace, behind the name of an API key and a colon that of who uses the key."""
    from benchai.memory.namespace import Namespace

    key, colon, below = text.partition(":")
    if not colon:
        return Namespace.parse(text)
    from benchai.graphs.remembering import user_of

    return Namespace.parse(below, user_of(key))


@asynccontextmanager
async def opened_endpoints(loaded: LoadedConfig) -> AsyncIterator[Endpoints]:
    """Where the models of a configuration answer: a running server's fleet, or one of its own."""
    from benchai.runtime.attached import attached
    from benchai.runtime.fleet.fleet import Fleet

    served = attached(loaded, lambda _: None)
    if served is not None:
        yield served
        return
    async with Fleet(loaded, lambda _: None) as fleet:
        yield fleet
