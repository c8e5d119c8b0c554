"""A reranker orders what was found; one that fails is left out, with the reason."""

from __future__ import annotations

import asyncio
import importlib.util
import math
from collections.abc import Sequence

import pytest

from benchai.errors import EndpointLost
from benchai.memory.rerank import LONGEST, CallReranker, CrossEncoderReranker, rerank

pytestmark = pytest.mark.anyio
CANDIDATES = [(4, "short"), (7, "a longer text"), (5, "medium")]


async def by_length(query: str, texts: Sequence[str]) -> list[float]:
    return [len(text) for text in texts]


async def test_the_best_comes_first_and_equals_as_they_were() -> None:
    assert await rerank(CallReranker(by_length), "q", CANDIDATES) == ([(7, 13.0), (5, 6.0), (4, 5.0)], "")

    async def alike(query: str, texts: Sequence[str]) -> list[float]:
        return [1.0] * len(texts)

    assert [number for number, _ in (await rerank(CallReranker(alike), "q", CANDIDATES))[0]] == [4, 7, 5]


async def test_it_reads_the_question_and_the_beginning_of_long_texts() -> None:
    asked: list[tuple[str, list[int]]] = []

    async def call(query: str, texts: Sequence[str]) -> list[float]:
        asked.append((query, [len(text) for text in texts]))
        return [0.0]

    await rerank(CallReranker(call), "why?", [(1, "x" * 10_000)])
    assert asked == [("why?", [LONGEST])]


async def test_nothing_found_is_not_asked_for() -> None:
    async def call(query: str, texts: Sequence[str]) -> list[float]:
        raise AssertionError

    assert await rerank(CallReranker(call), "q", []) == ([], "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(EndpointLost("the model left"), "the model left"), (ValueError("odd"), "the reranker failed: ValueError: odd")],
)
async def test_one_that_fails_is_left_out(error: Exception, reason: str) -> None:
    async def call(query: str, texts: Sequence[str]) -> list[float]:
        raise error

    assert await rerank(CallReranker(call), "q", CANDIDATES) == ([], reason)


@pytest.mark.parametrize("scores", [[1.0, 2.0], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0], []])
async def test_scores_that_say_nothing_are_left_out(scores: list[float]) -> None:
    async def call(query: str, texts: Sequence[str]) -> list[float]:
        return scores

    found, reason = await rerank(CallReranker(call), "q", CANDIDATES)
    assert found == []
    assert f"{len(scores)} scores for 3 passages" in reason


async def test_one_that_does_not_answer_is_not_waited_for() -> None:
    async def call(query: str, texts: Sequence[str]) -> list[float]:
        await asyncio.Event().wait()
        raise AssertionError

    assert await rerank(CallReranker(call), "q", CANDIDATES, seconds=0.01) == (
        [],
        "the reranker has not answered within 0.01 s",
    )


async def test_a_cancelled_search_is_cancelled() -> None:
    waiting = asyncio.Event()

    async def call(query: str, texts: Sequence[str]) -> list[float]:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(rerank(CallReranker(call), "q", CANDIDATES))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is not None, reason="it is installed here")
async def test_a_cross_encoder_without_its_library_is_left_out() -> None:
    reranker = CrossEncoderReranker("some/model")
    found, reason = await rerank(reranker, "q", CANDIDATES)
    await reranker.close()
    assert found == []
    assert "sentence-transformers is not installed" in reason
