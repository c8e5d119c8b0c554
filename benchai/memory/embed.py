"""Embedders: texts in, vectors of unit length out; never a vector of a model that failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from benchai.errors import BenchAIError, EmbedderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Texts at once: few, so that the vector of a question need not wait long behind those of documents.
BATCH = 16


class Embedder(Protocol):
    """Makes vectors that can be compared by cosine."""

    @property
    def fingerprint(self) -> str:
        """Model, revision or hash, dimension, normalisation: only vectors of one fingerprint can be compared."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    @property
    def truncated(self) -> int:
        """Texts so far of which the model saw only the beginning; 0 where the model does not tell."""

    async def prepare(self) -> None:
        """Find out fingerprint and dimension, which nobody may ask for before; a second call does nothing.

        Raises:
            EmbedderError: the embedder can't be used; says why.
        """

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """(texts, dimension), each of unit length; ``query`` where they are questions, not what is looked through.

        Raises:
            EmbedderError: no vectors, or none that can be compared.
        """

    async def close(self) -> None:
        """Give back what the model takes; it can be used again afterwards."""


class CallEmbedder:
    """An embedder behind a call: the model of the role ``embed``.

    Args:
        call: Vectors of texts, in their order; its errors of BenchAI pass through.
        identity: Name of the model, and what else decides its vectors; part of the fingerprint.
        dimension: Of its vectors, where it is known: nothing is asked before the first text then.
        query_prompt, document_prompt: Put before questions, and before what is looked through.
    """

    def __init__(
        self,
        call: Callable[[list[str]], Awaitable[list[list[float]]]],
        identity: str,
        *,
        dimension: int | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
    ) -> None:
        self._call = call
        self._identity = f"{identity}+{document_prompt!r}" if document_prompt else identity
        self._dimension = dimension
        self._prompts = {True: query_prompt, False: document_prompt}
        self.truncated = 0

    @property
    def dimension(self) -> int:
        """As `Embedder.dimension`."""
        return known_dimension(self._dimension, self._identity)

    @property
    def fingerprint(self) -> str:
        """As `Embedder.fingerprint`."""
        return f"{self._identity}:{self.dimension}:unit"

    async def prepare(self) -> None:
        """As `Embedder.prepare`; embeds a word where the dimension is not known."""
        if self._dimension is None:
            vectors = await self._ask(["word"])
            self._dimension = unit(vectors, 1, None, self._identity).shape[1]

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        import numpy as np

        await self.prepare()
        prompted = [self._prompts[query] + text for text in texts]
        found = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(prompted), BATCH):
            part = prompted[start : start + BATCH]
            found.append(unit(await self._ask(part), len(part), self.dimension, self._identity))
        return np.concatenate(found)

    async def close(self) -> None:
        """As `Embedder.close`: there is nothing to give back."""

    async def _ask(self, texts: list[str]) -> list[list[float]]:
        try:
            return await self._call(texts)
        except (BenchAIError, OSError):
            raise
        except (ValueError, TypeError, KeyError, LookupError) as error:
            raise EmbedderError(f"the embedder {self._identity!r} gave no vectors: {error!r}") from error


def known_dimension(dimension: int | None, name: str) -> int:
    """The dimension, which `Embedder.prepare` has found out."""
    if dimension is None:
        raise EmbedderError(f"the embedder {name!r} was not prepared yet")
    return dimension


def unit(vectors: Any, count: int, dimension: int | None, name: str) -> NDArray[np.float32]:
    """The vectors as float32 of unit length.

    Raises:
        EmbedderError: they are too few, of another dimension, or not finite, or one is zero: such a vector is like
            everything or like nothing.
    """
    import numpy as np

    try:
        found = np.asarray(vectors, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise EmbedderError(f"the embedder {name!r} gave no vectors: {error}") from error
    if found.ndim != 2 or found.shape[0] != count or not found.shape[1]:
        raise EmbedderError(f"the embedder {name!r} gave vectors of shape {found.shape} for {count} texts")
    if dimension is not None and found.shape[1] != dimension:
        raise EmbedderError(
            f"the embedder {name!r} gave vectors of {found.shape[1]} dimensions; those kept have {dimension}",
            hint="the model behind it has changed: `benchai memory rebuild` embeds everything anew",
        )
    return _scaled(found, name)


def _scaled(found: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    import numpy as np

    # in 64 bits: squares of large components overflow float32
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    bad = ~(np.isfinite(lengths) & (lengths > 1e-12))
    if bad.any():
        raise EmbedderError(
            f"the embedder {name!r} gave {int(bad.sum())} of {len(found)} vectors that are zero or not finite",
            hint="the model or its weights are broken; nothing of it was stored",
        )
    scaled: NDArray[np.float32] = (found / lengths[:, None]).astype(np.float32)
    return scaled
