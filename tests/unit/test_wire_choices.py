"""Tokens of replies with several choices, and streams that tell them once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from benchai.runtime.router.cache.collector import Collector
from benchai.runtime.router.cache.tally import Tally
from benchai.server.openai.choices import one_usage
from benchai.server.openai.forward import Measured, last_events

Chunk = dict[str, Any]


def usage(prompt: int, completion: int, cached: int = 0) -> Chunk:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def choice(index: int, text: str = "", finish: str | None = None) -> Chunk:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


def chunk(*choices: Chunk, **fields: Any) -> Chunk:
    return {"id": "1", "object": "chat.completion.chunk", "choices": list(choices), **fields}


#: As llama-server sends a chat with two choices: the usage of each right behind its end.
CHAT = [
    chunk(choice(0, "a")),
    chunk(choice(1, "b")),
    chunk(choice(1, "", "stop")),
    chunk(usage=usage(9, 4, 8), timings={"predicted_per_second": 50.0}),
    chunk(choice(0, "c")),
    chunk(choice(0, "", "length")),
    chunk(usage=usage(9, 6), timings={"predicted_per_second": 40.0}),
]
TIMINGS = {"prompt_n": 7, "cache_n": 2, "predicted_n": 3}


def tallied(chunks: list[Any], each: int = 1) -> Any:
    tally = Tally(each)
    for one in chunks:
        tally.take(one)
    return tally.usage


def test_choices_of_a_prompt_are_added_up_and_the_prompt_counts_once() -> None:
    # what is cached is that of the first choice: the others read the prompt from it
    assert tallied(CHAT, 2) == usage(9, 10, 0)


def test_each_of_several_prompts_counts() -> None:
    ends = [chunk(choice(i, "", "stop"), usage=usage(10 * (i // 2 + 1), i + 1, i)) for i in (3, 0, 2, 1)]
    assert tallied(ends, 2) == usage(30, 10, 0 + 2)
    assert tallied(ends, 1) == usage(60, 10, 0 + 1 + 2 + 3)


def test_timings_tell_it_where_no_usage_does() -> None:
    ends = [chunk(choice(index, "", "stop"), timings=TIMINGS) for index in (1, 0)]
    assert tallied(ends, 2) == usage(9, 6, 2)
    grows = [chunk(choice(0, "a"), timings=TIMINGS | {"predicted_n": number}) for number in (1, 2)]
    assert tallied(grows + ends, 2) == usage(9, 6, 2)


@pytest.mark.parametrize("last", [usage(9, 10), {"total_tokens": 3}])
def test_one_usage_stays_as_it_is(last: Chunk) -> None:
    assert tallied([chunk(choice(0, "a", "stop")), chunk(choice(1, "b", "stop")), chunk(usage=last)], 2) == last


@pytest.mark.parametrize(
    "odd",
    [
        [],
        [chunk(choice(0))],
        [chunk(usage=[1], timings="fast")],
        [chunk("x", usage=3), {"choices": [{"index": "1"}]}],  # type: ignore[arg-type]
    ],
)
def test_what_tells_nothing(odd: list[Any]) -> None:
    assert tallied(odd) is None


def test_odd_figures_count_nothing() -> None:
    odd = usage(9, 4) | {"completion_tokens": "many", "prompt_tokens_details": 5}
    assert tallied([chunk(choice(0), usage=odd), chunk(choice(1), usage=usage(9, 4))], 2) == usage(9, 4)


def sse(chunks: list[Any], line: bytes = b"\n") -> bytes:
    return b"".join(b"data: " + orjson.dumps(one) + line * 2 for one in chunks) + b"data: [DONE]" + line * 2


def test_a_whole_reply_tells_the_tokens_of_all() -> None:
    collector = Collector(10_000, 2, Tally(2))
    collector.feed(sse(CHAT))
    reply = collector.whole()
    assert reply is not None
    assert reply["usage"] == usage(9, 10)
    assert [one["message"]["content"] for one in reply["choices"]] == ["ac", "b"]


def passed(stream: bytes, size: int, *, wanted: bool, each: int = 2) -> tuple[bytes, Tally]:
    tally = Tally(each)

    async def source() -> AsyncIterator[bytes]:
        for at in range(0, len(stream), size):
            yield stream[at : at + size]

    async def read() -> bytes:
        return b"".join([piece async for piece in one_usage(source(), tally, wanted=wanted)])

    return asyncio.run(read()), tally


@pytest.mark.parametrize("size", [1, 50, 10_000])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_a_stream_tells_it_once_before_its_end(size: int, line: bytes) -> None:
    last = {name: value for name, value in CHAT[-1].items() if name not in ("choices", "usage")}
    expected = [one for one in CHAT if one["choices"]] + [last | {"choices": [], "usage": usage(9, 10)}]
    text, tally = passed(sse(CHAT, line), size, wanted=True)
    assert text == sse(expected)
    assert tally.usage == usage(9, 10)
    measured = Measured()
    for event in last_events(text):
        measured.count(event)
    assert (measured.prompt_tokens, measured.completion_tokens, measured.tokens_per_second) == (9, 10, 40.0)


def test_who_does_not_ask_is_told_no_tokens_of_one_choice() -> None:
    ends = [chunk(choice(index, "a", "stop"), usage=usage(9, 4)) for index in (1, 0)]
    text, tally = passed(sse([None, *ends]), 10_000, wanted=False)
    assert text == sse([{name: one[name] for name in one if name != "usage"} for one in ends])
    assert tally.usage == usage(9, 8)


def test_what_is_no_chunk_is_passed_on() -> None:
    text = b'data: {"error":\ndata: {"message": "no"}}\n\ndata: damaged\n\n'
    assert passed(text, 10_000, wanted=True)[0] == text
