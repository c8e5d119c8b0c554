"""Reranking: a model reads the question with each of the first passages. It may fail, the search does not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from benchai.errors import BenchAIError, EmbedderError
from benchai.memory.worker import Worker

#: How many of the fused passages are read, and seconds until it is left out.
FIRST, SECONDS = 30, 10.0
#: Weight beside the other legs, which have 1 together, where none was learned.
WEIGHT = 1.0
#: Characters of a passage that are read: models cut at 512 tokens or so.
LONGEST = 4_000

Call = Callable[[str, Sequence[str]], Awaitable[Sequence[float]]]


class Reranker(Protocol):
    """Tells how well passages answer a question."""

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """A number for each text, higher for a better one.

        Raises:
            BenchAIError: it can't tell now.
        """
        ...


class CallReranker:
    """A reranker that is a function, such as one that asks the role ``rerank``."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """As `Reranker.score`."""
        return [float(one) for one in await self._call(query, texts)]


class CrossEncoderReranker:
    """A CrossEncoder of sentence-transformers, opened at the first question, in a thread of its own.

    Args:
        model: Its folder, or its name on the hub.
        device: As torch names it; default: what sentence-transformers finds best.
    """

    def __init__(self, model: str, *, device: str | None = None) -> None:
        self.name = model
        self._device = device
        self._model: Any = None
        self._worker: Worker | None = None

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """As `Reranker.score`."""
        if self._worker is None:
            self._worker = Worker("reranker")
        return await self._worker.run(self._predict, query, list(texts))

    async def close(self) -> None:
        """Let go of the model, and end the thread."""
        worker, self._worker, self._model = self._worker, None, None
        if worker is not None:
            await worker.aclose()

    def _predict(self, query: str, texts: list[str]) -> list[float]:
        try:
            if self._model is None:
                self._model = _cross_encoder()(self.name, device=self._device)
            scores = self._model.predict([(query, text) for text in texts], show_progress_bar=False)
            return [float(one) for one in scores]
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise EmbedderError(
                f"the reranker {self.name!r} failed: {str(error)[:300]}",
                hint="memory.rerank: a folder or hub name of a CrossEncoder with one label, or none",
            ) from error


async def rerank(
    reranker: Reranker, query: str, candidates: Sequence[tuple[int, str]], seconds: float = SECONDS
) -> tuple[list[tuple[int, float]], str]:
    """The ranking of a reranker, best first, and why there is none; it never raises for what the reranker does.

    Args:
        reranker: That is asked.
        query: The question.
        candidates: Numbers of passages and their texts, best first.
        seconds: To wait.
    """
    if not candidates:
        return [], ""
    try:
        async with asyncio.timeout(seconds):
            scores = await reranker.score(query, [text[:LONGEST] for _, text in candidates])
    except TimeoutError:
        return [], f"the reranker has not answered within {seconds:g} s"
    except BenchAIError as error:
        return [], error.message
    except Exception as error:
        return [], f"the reranker failed: {type(error).__name__}: {str(error)[:200]}"
    if len(scores) != len(candidates) or not all(math.isfinite(one) for one in scores):
        return [], f"the reranker gave {len(scores)} scores for {len(candidates)} passages, or no numbers"
    found = [(number, score) for (number, _), score in zip(candidates, scores, strict=True)]
    return sorted(found, key=lambda one: -one[1]), ""


def _cross_encoder() -> Any:
    from benchai.memory.local import library

    return library().CrossEncoder
