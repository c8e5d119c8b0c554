"""The memory of this process, open: with what embeds and ranks for it, which another configuration may replace."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from benchai.config import LoadedConfig
from benchai.graphs.memory_models import ROLE, MemoryModels
from benchai.memory.memory import Memory
from benchai.memory.owner import asked_at

if TYPE_CHECKING:
    from benchai.agents.scores import Scores
    from benchai.memory.rerank import CrossEncoderReranker, Reranker
    from benchai.memory.uses import Uses
    from benchai.runtime.endpoints import Endpoints


class Opened:
    """One opening of a memory; ``open`` makes it, the stack given there closes it."""

    def __init__(self, loaded: LoadedConfig, endpoints: Endpoints | None) -> None:
        self._endpoints = endpoints
        self._folder = loaded.memory_folder
        models = MemoryModels(loaded, endpoints)
        self._embedding, self._ranking = models.embedding(), models.ranking()
        self._scores: Scores | None = None
        self._reranker: Reranker | CrossEncoderReranker | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.memory: Memory
        self._asked = 0

    @classmethod
    async def open(
        cls, loaded: LoadedConfig, endpoints: Endpoints | None, stack: AsyncExitStack, *, changes: bool
    ) -> Self:
        """Open the memory of a configuration; ``changes``: another one may come to ask models.

        Raises:
            ConfigError: no model serves a role that is to be asked.
            StoreInUse: another process owns it and did not let go of it.
            StoreError: it can't be opened.
        """
        opened = cls(loaded, endpoints)
        await opened._open(loaded, stack, changes)
        return opened

    @property
    def keeps_vectors(self) -> bool:
        """Whether it has an embedder, and takes long to open."""
        return self.memory.vectors is not None

    @property
    def wanted(self) -> bool:
        """Whether somebody else has asked for the memory since it was opened."""
        return asked_at(self._folder) != self._asked

    def rank(self, loaded: LoadedConfig) -> None:
        """Have the next question ranked as a configuration says."""
        models = MemoryModels(loaded, self._endpoints)
        ranking = models.ranking()
        if ranking == self._ranking:
            return
        former, same = self._reranker, ranking[:2] == self._ranking[:2]
        self._ranking = ranking
        self._reranker = former if same else models.reranker(ranking, self._scores)
        uses = self.memory.rank_with(self._reranker, loaded.config.memory.lexical_weight)
        if not same:
            closing = asyncio.create_task(_close_after(uses, former))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def embed(self, loaded: LoadedConfig) -> None:
        """Have vectors made as a configuration says, once the questions under way are answered.

        Raises:
            StoreError: the vectors until now could not be closed in order; it goes on with the others all the same.
        """
        models = MemoryModels(loaded, self._endpoints)
        embedding = models.embedding()
        if embedding != self._embedding:
            self._embedding = embedding
            await self.memory.embed_with(models.embedder(embedding, self._scores), loaded.config.memory.chroma)
        elif self.memory.failed:
            # what the configuration mends, such as a key, is seen only by trying
            self.memory.catch_up_aside()

    async def _open(self, loaded: LoadedConfig, stack: AsyncExitStack, changes: bool) -> None:
        models, config = MemoryModels(loaded, self._endpoints), loaded.config.memory
        if self._endpoints is not None and (changes or ROLE in (self._embedding.who, self._ranking.who)):
            from benchai.agents.scores import Scores

            self._scores = await stack.enter_async_context(Scores(self._endpoints))
        self._reranker = models.reranker(self._ranking, self._scores)
        stack.push_async_callback(self._close)
        opening = Memory.open(
            self._folder,
            embedder=models.embedder(self._embedding, self._scores),
            chroma=config.chroma,
            reranker=self._reranker,
            lexical_weight=config.lexical_weight,
            wait=config.wait,
        )
        self.memory = await stack.enter_async_context(opening)
        self._asked = asked_at(self._folder)

    async def _close(self) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)
        await _close_encoder(self._reranker)


async def _close_after(uses: Uses, reranker: Reranker | CrossEncoderReranker | None) -> None:
    await uses.ended()
    await _close_encoder(reranker)


async def _close_encoder(reranker: Reranker | CrossEncoderReranker | None) -> None:
    from benchai.memory.rerank import CrossEncoderReranker

    if isinstance(reranker, CrossEncoderReranker):
        await reranker.close()
