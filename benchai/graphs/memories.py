"""The memory of a configuration: opened where it is used, or that of the server which owns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from benchai.config import LoadedConfig, paths
from benchai.errors import UsageError
from benchai.runtime.attached import error_from, refusal
from benchai.runtime.serving import ServerRecord, running_server

if TYPE_CHECKING:
    from benchai.memory.embed import Embedder
    from benchai.memory.memory import Memory
    from benchai.memory.rerank import Reranker
    from benchai.memory.service import MemoryService
    from benchai.runtime.endpoints import Endpoints


class Memories:
    """Hands out the memory; while nobody uses it here, other processes may own it.

    Args:
        loaded: The configuration.
        endpoints: Where the models of the roles embed and rerank answer; None: they can't be asked.
        owner: Whether this process is the server: once open, the memory stays with it until it ends.
    """

    def __init__(self, loaded: LoadedConfig, endpoints: Endpoints | None = None, *, owner: bool = False) -> None:
        self.loaded = loaded
        self._endpoints = endpoints
        self._owner = owner
        self._stack: AsyncExitStack | None = None
        self._memory: MemoryService | None = None
        self._users = 0
        self._turn = asyncio.Lock()

    @property
    def enabled(self) -> bool:
        """Whether the configuration wants a memory."""
        return self.loaded.config.memory.enabled

    @property
    def embeds_by_role(self) -> bool:
        """Whether a model of the fleet makes the vectors."""
        wanted = self.loaded.config.memory.embedder
        return wanted == "role" or (wanted == "auto" and self._embeds())

    @property
    def asks_models(self) -> bool:
        """Whether models of the fleet are asked in a search."""
        return self.embeds_by_role or self.loaded.config.memory.rerank == "role"

    @property
    def served(self) -> bool:
        """Whether a running server owns this memory."""
        return self._server() is not None

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept; cheap, where nothing is there nothing need be opened."""
        return (self.loaded.memory_folder / paths.MEMORY_FILE).exists()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._turn:
            await self._close()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[MemoryService]:
        """The memory, for as long as the context is open.

        Raises:
            UsageError: the configuration switches it off.
            StoreInUse: another process owns it and did not let go of it.
            StoreError: it can't be opened, or the server that owns it can't be reached.
        """
        memory = await self._take()
        try:
            yield memory
        finally:
            await asyncio.shield(self._leave())

    async def _take(self) -> MemoryService:
        if not self.enabled:
            raise UsageError("the memory is switched off", hint="memory.enabled in benchai.yaml says so")
        async with self._turn:
            if self._memory is None:
                async with AsyncExitStack() as stack:
                    self._memory = await self._open(stack)
                    self._stack = stack.pop_all()
            self._users += 1
            return self._memory

    async def _leave(self) -> None:
        async with self._turn:
            self._users -= 1
            if not self._users and not self._owner:
                await self._close()

    async def _close(self) -> None:
        if self._stack is not None:
            stack, self._stack, self._memory = self._stack, None, None
            await stack.aclose()

    async def _open(self, stack: AsyncExitStack) -> MemoryService:
        server = self._server()
        if server is not None:
            from benchai.memory.remote import remote_memory

            return await stack.enter_async_context(
                remote_memory(server.url, server.token, lambda text: error_from(refusal(text)))
            )
        embedder = await self._embedder(stack)
        return await stack.enter_async_context(self._own(embedder, await self._reranker(stack)))

    def _server(self) -> ServerRecord | None:
        server = None if self._owner else running_server()
        return server if server is not None and server.memory == str(self.loaded.memory_folder) else None

    def _own(self, embedder: Embedder | None, reranker: Reranker | None) -> AbstractAsyncContextManager[Memory]:
        from benchai.memory.memory import Memory

        config = self.loaded.config.memory
        return Memory.open(
            self.loaded.memory_folder,
            embedder=embedder,
            chroma=config.chroma,
            reranker=reranker,
            lexical_weight=config.lexical_weight,
            wait=config.wait,
        )

    async def _embedder(self, stack: AsyncExitStack) -> Embedder | None:
        """What makes vectors, as configured; None where nothing does."""
        wanted = self.loaded.config.memory.embedder
        if not self.embeds_by_role:
            if wanted in ("none", "auto"):
                return None
            from benchai.memory.local import SentenceTransformerEmbedder

            folder = self.loaded.resolve(wanted)
            return SentenceTransformerEmbedder(str(folder) if folder.is_dir() else wanted)
        if self._endpoints is None:
            return None
        from benchai.agents.scores import EMBED, Scores
        from benchai.memory.embed import CallEmbedder

        name, _ = self.loaded.model_for(EMBED)
        scores = await stack.enter_async_context(Scores(self._endpoints))
        return CallEmbedder(scores.embed, _identity(self.loaded, name))

    async def _reranker(self, stack: AsyncExitStack) -> Reranker | None:
        """What orders the first passages anew, as configured."""
        wanted = self.loaded.config.memory.rerank
        if wanted == "none" or (wanted == "role" and self._endpoints is None):
            return None
        if wanted != "role":
            from benchai.memory.rerank import CrossEncoderReranker

            folder = self.loaded.resolve(wanted)
            encoder = CrossEncoderReranker(str(folder) if folder.is_dir() else wanted)
            stack.push_async_callback(encoder.close)
            return encoder
        from benchai.agents.scores import Scores
        from benchai.memory.rerank import CallReranker

        assert self._endpoints is not None
        return CallReranker((await stack.enter_async_context(Scores(self._endpoints))).rerank)

    def _embeds(self) -> bool:
        """Whether a model is configured for the role embed, and makes vectors."""
        name = self.loaded.config.roles.get("embed")
        model = self.loaded.config.models.get(name or "")
        return model is not None and (model.embedding or model.remote)


def _identity(loaded: LoadedConfig, name: str) -> str:
    """Name of a model, and what else decides its vectors: what its file holds, and how they are pooled."""
    from benchai.runtime.fleet.slots import fingerprint

    model, file = loaded.config.models[name], loaded.model_file(name)
    if model.remote or file is None or not file.exists():
        return f"{name}:{model.endpoint or model.hf}:{model.model}"
    return f"{name}:{file.stat().st_size}:{fingerprint(file)}:{model.pooling}"
