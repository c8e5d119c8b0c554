"""The last event of a stream of /v1/responses, however its bytes come."""

from __future__ import annotations

import json

import pytest

from benchai.server.openai.ending import Ending

RESPONSE = {"status": "completed", "usage": {"input_tokens": 3}, "output": ["a\r\n\r\nb" * 10]}
BEGUN = b'event: response.created\ndata: {"type": "response.created", "response": {}}\n\n'


def ended(kind: str = "response.completed", line: str = "\n") -> bytes:
    event = {"type": kind, "response": RESPONSE}
    return f"event: {kind}{line}data: {json.dumps(event)}{line}{line}".encode()


def fed(text: bytes, size: int, cap: int = 1_000_000) -> Ending:
    ending = Ending(cap)
    for at in range(0, len(text), size):
        ending.feed(text[at : at + size])
    return ending


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_the_last_event_holds_the_whole(size: int, line: str, kind: str) -> None:
    ending = fed(BEGUN + ended(kind, line) + b": bye\n\n", size)
    assert ending.event["type"] == kind
    assert ending.whole() == RESPONSE


def test_a_last_event_needs_no_empty_line() -> None:
    assert fed(BEGUN + ended().rstrip(), 7).whole() == RESPONSE


@pytest.mark.parametrize(
    "text",
    [b"", BEGUN, BEGUN + ended()[:-20], ended() + BEGUN, ended("response.failed"), b"data: null\n\n", b"data: {\n\n"],
    ids=["nothing", "begun", "cut", "begun again", "failed", "null", "damaged"],
)
def test_what_has_not_come_to_its_end_is_not_whole(text: bytes) -> None:
    ending = fed(text, 7)
    assert ending.whole() is None
    assert ending.gave_up is None


def test_an_event_beyond_the_cap_is_given_up() -> None:
    ending = fed(BEGUN + ended(), 7, cap=100)
    assert (ending.event, ending.whole(), ending.gave_up) == ({}, None, "too long")
    # earlier events do not count
    assert fed(BEGUN * 100 + ended(), 7, cap=1000).whole() == RESPONSE
