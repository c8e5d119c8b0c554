"""The memory as a command opens it: that of a running server, or its own, with a fleet where a model embeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchai.config import LoadedConfig
    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService
    from benchai.runtime.endpoints import Endpoints


@asynccontextmanager
async def opened_memory(config: Path | None, namespace: str | None) -> AsyncIterator[tuple[MemoryService, Namespace]]:
    """The memory of a configuration, and the namespace that a command is about.

    Raises:
        ConfigError: the configuration is wrong.
        NamespaceError: the namespace is not written as one.
        UsageError: the memory is switched off.
        StoreError: it can't be opened.
    """
    from benchai.config import load_config
    from benchai.graphs.memories import Memories

    loaded = load_config(config)
    ns = _parsed(loaded.config.memory.project if namespace is None else namespace)
    async with AsyncExitStack() as stack:
        memories = Memories(loaded)
        if memories.asks_models and not memories.served:
            endpoints, _ = await stack.enter_async_context(opened_endpoints(config))
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
async def opened_endpoints(config: Path | None) -> AsyncIterator[tuple[Endpoints, LoadedConfig]]:
    """Where the models of a configuration answer: a running server's fleet, or one of its own.

    Raises:
        ConfigError: the configuration is wrong.
    """
    from benchai.config import load_config
    from benchai.runtime.attached import AttachedFleet
    from benchai.runtime.fleet.fleet import Fleet
    from benchai.runtime.serving import models_of, running_server

    loaded, server = load_config(config), running_server()
    if server is not None and server.models == models_of(loaded):
        yield AttachedFleet(server, loaded, lambda _: None), loaded
        return
    async with Fleet(loaded, lambda _: None) as fleet:
        yield fleet, loaded
