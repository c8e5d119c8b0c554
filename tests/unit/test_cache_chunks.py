"""Whole replies as streams, and streams as whole replies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.runtime.router.cache.chunks import PIECE, as_chunks, fresh
from benchai.runtime.router.cache.collector import Collector
from benchai.runtime.router.cache.exact import worth_keeping

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
LONG = st.builds(lambda text, times: text * times, st.text('aé漢\n😀"\\', min_size=1, max_size=8), st.integers(0, 2000))
ODD = st.sampled_from([None, 1, 1.5, True, "x", {"a": "b", "c": None}, ["p"]])
CALL = st.builds(
    lambda id_, name, arguments: {
        "id": id_,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    st.text("abc123", min_size=1),
    st.text("xyz_", min_size=1),
    TEXT | LONG,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXT | LONG},
    optional={
        "reasoning_content": TEXT | st.none(),
        "refusal": st.none() | TEXT,
        "tool_calls": st.lists(CALL, min_size=1, max_size=3),
        "annotations": st.just([]),
        "unknown": ODD,
    },
)
LOGPROBS = st.none() | st.just({"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}], "refusal": None})
REPLY = st.fixed_dictionaries(
    {
        "id": TEXT,
        "object": st.just("chat.completion"),
        "created": st.integers(0, 2**40),
        "model": TEXT,
        "choices": st.tuples(
            st.fixed_dictionaries(
                {"index": st.just(0), "message": MESSAGE, "finish_reason": st.sampled_from(["stop", "tool_calls"])},
                optional={"logprobs": LOGPROBS, "stop_reason": ODD},
            )
        ).map(list),
    },
    optional={
        "usage": st.just({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
        "system_fingerprint": TEXT,
        "timings": st.just({"prompt_n": 1, "predicted_n": 2.5}),
        "service_tier": st.none() | TEXT,
    },
)


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def collected(pieces: Iterable[bytes]) -> Collector:
    collector = Collector()
    for piece in pieces:
        collector.feed(piece)
    return collector


def sse(*chunks: Any, end: str = "\n\n", done: bool = True) -> bytes:
    texts = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return "".join(f"data: {text}{end}" for text in [*texts, *(["[DONE]"] if done else [])]).encode()


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields}]} | (
        {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]} if finish else {}
    )


def without(reply: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key != name}


@settings(max_examples=150)
@given(REPLY, st.lists(st.integers(1, 200), max_size=30))
def test_a_reply_survives_its_stream(reply: dict[str, Any], sizes: list[int]) -> None:
    data = b"".join(as_chunks(reply, include_usage=True))
    found = collected(cut(data, sizes)).reply()
    expected = reply
    if "usage" not in reply and "timings" in reply:
        assert found is not None
        assert found["usage"]["total_tokens"] == 3.5
        found = without(found, "usage")
    assert found == expected


@given(REPLY)
def test_a_stream_without_usage_lacks_only_that(reply: dict[str, Any]) -> None:
    reply = without(reply, "timings")
    assert collected(as_chunks(reply)).reply() == without(reply, "usage")


@given(REPLY, st.data())
def test_half_a_stream_is_no_reply(reply: dict[str, Any], data: st.DataObject) -> None:
    stream = b"".join(as_chunks(reply))
    length = data.draw(st.integers(0, len(stream) - len(b"\n") - 1))
    assert collected([stream[:length]]).reply() is None


@given(st.lists(st.binary(max_size=60)))
def test_no_bytes_make_it_fail(pieces: list[bytes]) -> None:
    assert collected([b"data: " + piece + b"\n\n" for piece in pieces]).reply() is None
    collected(pieces)


NAMES = st.sampled_from(["choices", "delta", "index", "tool_calls", "function", "name", "id", "error", "usage"])
WILD = st.recursive(
    ODD, lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=2), max_leaves=6
)


@settings(max_examples=60)
@given(st.lists(WILD, max_size=3))
def test_no_json_makes_it_fail(chunks: list[Any]) -> None:
    collector = collected([sse(*(json.dumps(chunk) for chunk in chunks))])
    reply = collector.reply()
    assert reply is None or not worth_keeping(reply) or reply["choices"][0]["message"]


def test_the_form_of_the_chunks() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": "Hi", "tool_calls": [call, call | {"id": "d"}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    reply = {"id": "r", "object": "chat.completion", "created": 5, "model": "m", "choices": [choice], "usage": {"t": 1}}
    *events, done = b"".join(as_chunks(reply, include_usage=True)).decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert {(one["id"], one["object"], one["created"], one["model"]) for one in chunks} == {
        ("r", "chat.completion.chunk", 5, "m")
    }
    *parts, last, usage = chunks
    deltas = [one["choices"][0]["delta"] for one in parts]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[1] == {"content": "Hi"}
    assert [one["tool_calls"][0]["index"] for one in deltas[2:]] == [0, 0, 1, 1]
    assert deltas[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": ""}
    assert deltas[3]["tool_calls"][0] == {"index": 0, "function": {"arguments": '{"a": 1}'}}
    assert {one["choices"][0]["finish_reason"] for one in parts} == {None}
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert (usage["choices"], usage["usage"]) == ([], {"t": 1})


def test_no_line_is_longer_than_clients_read() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "\x00" * 10 * PIECE}, "finish_reason": "stop"}
    chunks = list(as_chunks({"id": "r", "choices": [choice]}))
    assert max(map(len, chunks)) < 8 * PIECE
    assert len(chunks) == 13


def test_a_fresh_reply_has_its_own_id() -> None:
    kept = {"id": "old", "created": 1, "choices": [], "model": "m"}
    one, two = fresh(kept, benchai={"cache": "hit"}), fresh(kept)
    assert len({one["id"], two["id"], "old"}) == 3
    assert one["created"] > 1_700_000_000
    assert one["benchai"] == {"cache": "hit"}
    assert "benchai" not in two
    assert kept["id"] == "old"


def test_an_engines_stream() -> None:
    stream = b": keep-alive\r\n\r\n" + sse(
        delta(role="assistant", content=None),
        delta(reasoning_content="Well"),
        delta(reasoning_content=", so"),
        delta(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
        delta(tool_calls=[{"index": 1, "id": "d", "type": "function", "function": {"name": "g", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": None, "arguments": " 1}"}}]),
        delta("tool_calls") | {"timings": {"cache_n": 5, "prompt_n": 2, "predicted_n": 3}},
        end="\r\n\r\n",
    )
    reply = collected([stream]).reply()
    assert reply is not None
    [choice] = reply["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Well, so",
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
            {"id": "d", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert reply["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    assert worth_keeping(reply)


def test_usage_that_is_null_until_the_end() -> None:
    told = {"total_tokens": 3}
    chunks = [delta(content="a") | {"usage": None}, delta("stop") | {"usage": None}, {"choices": [], "usage": told}]
    collector = collected([sse(*chunks)])
    assert collector.usage == told
    assert (collector.reply() or {})["usage"] == told
    assert "usage" not in (collected([sse(*chunks[:2])]).reply() or {"usage": 1})


def call(**function: Any) -> dict[str, Any]:
    return delta(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": function}])


@pytest.mark.parametrize(
    "chunks",
    [
        [delta(content="a"), {"error": {"message": "broken"}}, delta("stop")],
        [delta(content="a"), {"choices": [{"index": 1, "delta": {"content": "b"}}]}, delta("stop")],
        [call(name="f", arguments=""), call(name="g", arguments=""), delta("tool_calls")],
        [call(name="ab", arguments=""), call(name="ab", arguments=""), delta("tool_calls")],
        [call(name="f"), delta(tool_calls=[{"index": 0, "id": "other"}]), delta("tool_calls")],
        [delta(function_call={"name": "f"}), delta("stop")],
        [delta(reasoning_details=[{"index": 0, "text": "a"}]), delta("stop")],
        [delta(content="a"), "{broken", delta("stop")],
        [delta(content="a"), delta("stop"), "3"],
    ],
)
def test_what_is_in_doubt_is_no_reply(chunks: list[Any]) -> None:
    collector = collected([sse(*chunks)])
    assert collector.gave_up
    assert collector.reply() is None


def test_no_end_mark_and_no_ending_is_no_reply() -> None:
    assert collected([sse(delta(content="a"), delta("stop"), done=False)]).reply() is None
    assert collected([sse(delta(content="a"))]).reply() is None
    assert collected([sse(delta(content="a"), delta("stop"))]).reply() is not None
    assert collected([sse(delta(content="a")) + b"error: {}\n\n"]).reply() is None
    cut = collected([sse(delta(content="a"), delta("length"))])
    assert cut.reply() is None
    assert (cut.whole() or {})["choices"][0]["finish_reason"] == "length"


def test_it_gives_up_above_its_cap_and_lets_go_of_what_it_had() -> None:
    stream = sse(*(delta(content="a" * 100) for _ in range(50)), delta("stop"))
    at_most = Collector(len(stream))
    less = Collector(len(stream) - 1)
    for piece in cut(stream, [1000] * 5):
        at_most.feed(piece)
        less.feed(piece)
    assert at_most.reply() is not None
    assert less.gave_up == "too long"
    assert len(vars(less)["_reply"]) == vars(less)["_events"].held == 0


@pytest.mark.parametrize(
    ("message", "finish", "kept"),
    [
        ({"content": "a"}, "stop", True),
        ({"content": None, "tool_calls": [{"id": "c"}]}, "tool_calls", True),
        ({"content": "a"}, "length", False),
        ({"content": "a"}, "content_filter", False),
        ({"content": "a"}, None, False),
        ({"content": ""}, "stop", False),
        ({"content": None, "tool_calls": []}, "stop", False),
    ],
)
def test_what_is_worth_keeping(message: dict[str, Any], finish: str | None, kept: bool) -> None:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    assert worth_keeping({"object": "chat.completion", "choices": [choice]}) is kept
    assert not worth_keeping({"object": "chat.completion", "choices": [choice, choice]})
    assert not worth_keeping({"object": "error", "choices": [choice]})
    assert not worth_keeping({"object": "chat.completion", "choices": None})


def several(*choices: dict[str, Any], **fields: Any) -> bytes:
    chunks = [
        b"data: " + json.dumps({"id": "x", "choices": [choice]} | fields).encode() + b"\n\n" for choice in choices
    ]
    return b"data: null\n\n" + b"".join(chunks) + b"data: [DONE]\n\n"


def gathered(stream: bytes, choices: int) -> Collector:
    collector = Collector(choices=choices)
    for at in range(0, len(stream), 9):
        collector.feed(stream[at : at + 9])
    return collector


def test_several_choices_come_mixed() -> None:
    stream = several(
        {"index": 1, "delta": {"role": "assistant", "content": "b"}},
        {"index": 0, "delta": {"role": "assistant", "content": "a"}},
        {"index": 1, "delta": {"content": "B"}},
        {"index": 1, "delta": {}, "finish_reason": "stop"},
        {"index": 0, "delta": {"content": "A"}, "finish_reason": "length"},
    )
    whole = gathered(stream, 2).whole()
    assert whole is not None
    assert [(one["index"], one["message"]["content"], one["finish_reason"]) for one in whole["choices"]] == [
        (0, "aA", "length"),
        (1, "bB", "stop"),
    ]
    # the caches keep replies with one choice alone
    assert gathered(stream, 1).gave_up


def test_a_choice_that_has_not_ended_leaves_nothing_whole() -> None:
    stream = several(
        {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 1, "delta": {"content": "b"}}
    )
    assert gathered(stream, 2).whole() is None


def test_texts_are_put_together_as_they_are_named() -> None:
    logprobs = {"tokens": ["a"], "text_offset": [0]}
    stream = several(
        {"index": 0, "text": "a", "logprobs": logprobs},
        {"index": 1, "text": "", "logprobs": None, "finish_reason": "length"},
        {"index": 0, "text": "b", "logprobs": logprobs, "finish_reason": "stop"},
        object="text_completion",
    )
    whole = gathered(stream, 2).whole()
    assert whole is not None
    assert (whole["object"], whole["choices"][0]) == (
        "text_completion",
        {"index": 0, "text": "ab", "logprobs": {"tokens": ["a", "a"], "text_offset": [0, 0]}, "finish_reason": "stop"},
    )
    assert whole["choices"][1] == {"index": 1, "text": "", "logprobs": None, "finish_reason": "length"}
    assert not worth_keeping(whole)


@pytest.mark.parametrize("index", [-1, 2, "0", None, 1.0])
def test_choices_of_other_numbers_are_given_up(index: Any) -> None:
    assert gathered(several({"index": index, "text": "a", "finish_reason": "stop"}), 2).gave_up
