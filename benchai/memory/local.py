"""The embedder in this process: a sentence-transformers model, from a folder or the hub."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchai.config import paths
from benchai.errors import EmbedderError
from benchai.memory import identity
from benchai.memory.embed import BATCH, known_dimension, unit
from benchai.memory.identity import Identity
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SentenceTransformerEmbedder:
    """A sentence-transformers model, opened at the first text, in a thread of its own.

    A model of the hub stays at the revision that was downloaded first: a newer one would mean other vectors.

    Args:
        model: Folder that ``SentenceTransformer.save`` wrote, or name on the hub (OWNER/NAME).
        cache: File in which hashes of folders are kept; default: in the user's cache folder.
        device: As torch names it; default: what sentence-transformers finds best.
    """

    def __init__(self, model: str | Path, *, cache: Path | None = None, device: str | None = None) -> None:
        self.name = str(model)
        self.truncated = 0
        self._cache = cache or paths.cache_dir() / "embedders.json"
        self._device = device
        self._folder = paths.expand(self.name) if identity.is_folder(self.name) else None
        self._identity: Identity | None = None
        self._model: Any = None
        self._worker: Worker | None = None
        self._opening = asyncio.Lock()

    @property
    def dimension(self) -> int:
        """As `Embedder.dimension`."""
        return known_dimension(self._identity.dimension if self._identity else None, self.name)

    @property
    def fingerprint(self) -> str:
        """As `Embedder.fingerprint`."""
        dimension = self.dimension
        assert self._identity is not None
        return self._identity.fingerprint(dimension)

    async def prepare(self) -> None:
        """As `Embedder.prepare`; opens the model only if it was never opened before.

        Raises:
            EmbedderError: sentence-transformers is not installed, or there is no such model.
        """
        async with self._opening:
            if self._identity is None or self._identity.dimension is None:
                self._identity = await self._thread().run(self._identify)

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        import numpy as np

        await self.prepare()
        found = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(texts), BATCH):
            found.append(await self._thread().run(self._encode, list(texts[start : start + BATCH]), query))
        return np.concatenate(found)

    async def close(self) -> None:
        """As `Embedder.close`."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.run(self._forget)
            await worker.aclose()

    def _thread(self) -> Worker:
        if self._worker is None:
            self._worker = Worker("embedder")
        return self._worker

    def _identify(self) -> Identity:
        found = self._look()
        if found is not None and found.dimension is not None:
            return found
        self._open(found)
        found = found or self._look()
        if found is None:
            raise EmbedderError(
                f"{self.name!r} of the hub is no sentence-transformers model: it has no {identity.MODULES}",
                hint="choose a model of the library sentence-transformers",
            )
        return identity.remember(self._cache, self._stamp(found), Identity(found.name, found.hash, self._measure()))

    def _look(self) -> Identity | None:
        if self._folder is not None:
            return identity.of_folder(self._folder, self._cache)
        found = identity.of_hub(self.name)
        return found and (identity.recall(self._cache, self._stamp(found)) or found)

    def _stamp(self, found: Identity) -> str:
        return identity.stamp_of(self._folder) if self._folder is not None else f"{found.name}@{found.hash}"

    def _measure(self) -> int:
        return int(unit(self._model.encode(["word"], show_progress_bar=False), 1, None, self.name).shape[1])

    def _encode(self, texts: list[str], query: bool) -> NDArray[np.float32]:
        if self._model is None:
            self._open(self._identity)
        encode = self._model.encode_query if query else self._model.encode_document
        try:
            vectors = encode(texts, batch_size=BATCH, show_progress_bar=False)
        except Exception as error:
            raise EmbedderError(f"the embedder {self.name!r} failed: {error}") from error
        if not query:
            self.truncated += _count_truncated(self._model, texts)
        return unit(vectors, len(texts), self._identity.dimension if self._identity else None, self.name)

    def _open(self, found: Identity | None) -> None:
        package = library()
        revision = found.hash if found is not None and self._folder is None else None
        try:
            self._model = package.SentenceTransformer(
                str(self._folder or self.name), device=self._device, revision=revision
            )
        except Exception as error:
            # the errors of four libraries
            raise EmbedderError(
                f"the embedder {self.name!r} can't be opened: {str(error)[:300]}",
                hint="see that the folder is whole, or that the hub has a model of this name and can be reached",
            ) from error

    def _forget(self) -> None:
        self._model = None


def library() -> Any:
    """The module of sentence-transformers, silenced.

    Raises:
        EmbedderError: it is not installed.
    """
    # its bar for loading weights would stand in the user's terminal
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import sentence_transformers
        from transformers.utils import logging
    except ImportError as error:
        raise EmbedderError(
            f"sentence-transformers is not installed: {error}", hint="pip install 'benchai[embeddings]'"
        ) from error
    logging.disable_progress_bar()
    return sentence_transformers


def _count_truncated(model: Any, texts: list[str]) -> int:
    """Of how many texts the model saw only the beginning, if it has a limit and a tokenizer that tells."""
    limit = getattr(model, "max_seq_length", None)
    # a token has at least one character: most texts are known to fit without a look
    if not isinstance(limit, int) or not callable(getattr(model, "tokenizer", None)):
        return 0
    long = [text for text in texts if len(text) + 2 > limit]
    if not long:
        return 0
    prompt = (getattr(model, "prompts", None) or {}).get("document") or ""
    tokens = model.tokenizer([prompt + text for text in long], truncation=False, verbose=False)["input_ids"]
    return sum(len(found) > limit for found in tokens)
