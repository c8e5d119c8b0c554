"""The memory of a configuration: opened where it is used, or that of the server which owns it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from benchai.config import LoadedConfig, paths
from benchai.errors import BenchAIError, ConfigError, UsageError
from benchai.graphs.memory_models import NONE, ROLE, MemoryModels, check_models, embeds_by_role
from benchai.runtime.attached import error_from, refusal
from benchai.runtime.serving import ServerRecord, running_server

if TYPE_CHECKING:
    from benchai.graphs.memory_opening import Opened
    from benchai.memory.service import MemoryService
    from benchai.runtime.endpoints import Endpoints

logger = logging.getLogger(__name__)
#: Seconds for which a memory with vectors stays open for the next use here, where nobody else wants it.
KEPT_SECONDS = 10.0
#: Seconds between two looks whether somebody else does.
LOOK_SECONDS = 0.05
#: Seconds that who wants it waits for what is being embedded, at most.
BRIEF_SECONDS = 1.0
#: Seconds for which it is then left alone: more than there are between two tries of who waits.
GAP_SECONDS = 0.2
#: Seconds that the end of a process waits for what is being embedded, at most.
END_SECONDS = 5.0


class Memories:
    """Hands out the memory; while nobody uses it here, other processes may own it.

    Within ``async with`` a memory with vectors stays open between two uses, for it takes long to open: until somebody
    else wants it, or nobody here has used it for a while.

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
        self._opened: Opened | None = None
        self._users = 0
        self._turn = asyncio.Lock()
        self._stays = self._told = False
        self._left_at = 0.0
        self._staying: asyncio.Task[None] | None = None
        self._change: asyncio.Task[None] | None = None

    @property
    def enabled(self) -> bool:
        """Whether the configuration wants a memory."""
        return self.loaded.config.memory.enabled

    @property
    def embeds_by_role(self) -> bool:
        """Whether a model of the fleet makes the vectors."""
        return embeds_by_role(self.loaded)

    @property
    def asks_models(self) -> bool:
        """Whether models of the fleet are asked in a search."""
        return self.embeds_by_role or self.loaded.config.memory.rerank == ROLE

    @property
    def served(self) -> bool:
        """Whether a running server owns this memory."""
        return self._server() is not None

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept; cheap, where nothing is there nothing need be opened."""
        return (self.loaded.memory_folder / paths.MEMORY_FILE).exists()

    async def __aenter__(self) -> Self:
        self._stays = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stays = False
        await _ended(self._change)
        async with self._turn:
            await _ended(self._staying)
            # who breaks off does not wait: what has no vector yet is embedded another time
            await self._close(END_SECONDS if kind is None and not self._owner else 0)

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

    def prepare(self, loaded: LoadedConfig) -> Callable[[], None]:
        """Look whether a server's memory can go on with another configuration; nothing has changed yet.

        Returns what goes on with it, which does not fail: the next question is answered with its weights, limits and
        reranker; vectors of another embedder, or in another place, are made beside everything else, once the questions
        under way are answered.

        Raises:
            ConfigError: its folder is another, or no model serves a role that it asks.
        """
        old, new = self.loaded.memory_folder, loaded.memory_folder
        used = self._opened is not None or (self.enabled and loaded.config.memory.enabled)
        if used and old != new:
            raise ConfigError(
                f"memory.path leads to {str(new)!r}, the running server's memory is in {str(old)!r}: "
                "the folder changes only with a restart",
                hint="restart `benchai serve`",
            )
        if loaded.config.memory.enabled:
            check_models(loaded)
        return partial(self._go_on, loaded)

    # ---- use

    async def _take(self) -> MemoryService:
        if not self.enabled:
            raise UsageError("the memory is switched off", hint="memory.enabled in benchai.yaml says so")
        async with self._turn:
            await _ended(self._staying)
            if self._memory is None:
                async with AsyncExitStack() as stack:
                    self._memory = await self._open(stack)
                    self._stack = stack.pop_all()
            self._users += 1
            return self._memory

    async def _leave(self) -> None:
        async with self._turn:
            self._users -= 1
            if self._users or (self._owner and self.enabled):
                return
            if not (self._stays and self.enabled and self._opened is not None and self._opened.keeps_vectors):
                await self._close()
            elif self._opened.wanted:
                await self._give()
            else:
                self._staying = asyncio.create_task(self._stay(self._opened))

    async def _stay(self, opened: Opened) -> None:
        """Keep it open for the next use, which ends this, while nobody else wants it."""
        until = time.monotonic() + KEPT_SECONDS
        while not opened.wanted and (time.monotonic() < until or opened.memory.embeds):  # noqa: ASYNC110 - a file tells of it
            await asyncio.sleep(LOOK_SECONDS)
        async with self._turn:
            try:
                await self._give()
            except BenchAIError as error:
                logger.warning("the memory was not closed in order: %s", error)

    async def _give(self) -> None:
        """Close it, and leave it for a moment to who wants it."""
        wanted = self._opened is not None and self._opened.wanted
        await self._close(BRIEF_SECONDS)
        self._left_at = time.monotonic() if wanted else 0.0

    async def _close(self, seconds: float = 0) -> None:
        """Close it; what is being embedded may end, so many seconds at most."""
        stack, opened = self._stack, self._opened
        self._stack, self._memory, self._opened = None, None, None
        try:
            if opened is not None and seconds:
                self._tell(await opened.memory.settled(seconds))
        finally:
            if stack is not None:
                await stack.aclose()

    def _tell(self, problem: str | None) -> None:
        if problem and not self._told:
            self._told = True
            logger.warning("what was kept has no vectors yet, and is found by its words alone: %s", problem)

    # ---- opening

    async def _open(self, stack: AsyncExitStack) -> MemoryService:
        server = self._server()
        if server is not None:
            from benchai.memory.remote import remote_memory

            return await stack.enter_async_context(
                remote_memory(server.url, server.token, lambda text: error_from(refusal(text)))
            )
        from benchai.graphs.memory_opening import Opened

        # who waited for it looks again in a moment
        await asyncio.sleep(self._left_at + GAP_SECONDS - time.monotonic())
        self._opened = await Opened.open(self.loaded, self._endpoints, stack, changes=self._owner)
        if self._owner:
            # what others kept without an embedder, or with another one
            self._opened.memory.catch_up_aside()
        return self._opened.memory

    def _server(self) -> ServerRecord | None:
        server = None if self._owner else running_server()
        return server if server is not None and server.memory == str(self.loaded.memory_folder) else None

    # ---- another configuration

    def _go_on(self, loaded: LoadedConfig) -> None:
        embeds_anew = self._embeds_otherwise(loaded)
        self.loaded = loaded
        if self._opened is not None:
            self._opened.rank(loaded)
        self._change = asyncio.create_task(self._follow(self._change, embeds_anew))

    def _embeds_otherwise(self, loaded: LoadedConfig) -> bool:
        """Whether vectors are to be made that are not there yet."""
        if not loaded.config.memory.enabled:
            return False
        embedding = MemoryModels(loaded, self._endpoints).embedding()
        try:
            return embedding.who != NONE and embedding != MemoryModels(self.loaded, self._endpoints).embedding()
        except ConfigError:
            return True

    async def _follow(self, before: asyncio.Task[None] | None, embeds_anew: bool) -> None:
        """Take over what takes a while, one configuration after the other."""
        if before is not None:
            await asyncio.wait((before,))
        try:
            if self._opened is None and embeds_anew and self.enabled and self.exists:
                # its opening begins to embed
                async with self.use():
                    return
            await self._apply()
        except Exception as error:
            logger.warning("the memory does not follow the configuration: %s", error)

    async def _apply(self) -> None:
        async with self._turn:
            opened = self._opened
            if opened is None or not self.enabled:
                if not self._users:
                    await self._close()
                return
            # so that it stays open
            self._users += 1
        try:
            # what was opened as this one came may have the weights of the one before
            opened.rank(self.loaded)
            await opened.embed(self.loaded)
        finally:
            await asyncio.shield(self._leave())


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
