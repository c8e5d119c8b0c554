"""Server-sent events, however their bytes come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchai.runtime.sse import Events, data_of, events

STREAM = b': hello\r\n\r\nevent: x\ndata: {"a": "\xc3\xa4"}\n\ndata:{\ndata: }\n\nid: 1\n\ndata: [DONE]\n\n'
DATA = [b'{"a": "\xc3\xa4"}', b"{\n}", b"[DONE]"]

LINE = st.sampled_from(
    [b"data: {}", b"data:x", b"data:  y", b"data", b"data:", b": a", b"event: e", b"id", b"", b"datax"]
)
LINES = st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\n", b"\r\n"])), max_size=12)


def cut(text: bytes, size: int) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


def fed(text: bytes, size: int) -> list[bytes]:
    reader = Events()
    return [data for piece in cut(text, size) for data in reader.feed(piece)]


def line_by_line(text: bytes) -> list[bytes]:
    found, data = [], list[bytes]()
    for line in text.replace(b"\r\n", b"\n").split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            found.append(b"\n".join(data))
            data = []
    return found


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM)])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_events_are_read_however_their_bytes_come(size: int, line: bytes) -> None:
    assert fed(STREAM.replace(b"\r\n", b"\n").replace(b"\n", line), size) == DATA


@given(LINES, st.integers(1, 100))
@example([(b"data: {}", b"\n"), (b"", b"\r\n"), (b"data: {}", b"\n"), (b"", b"\n")], 1)
@example([(b"", b"\n"), (b"data: {}", b"\n"), (b"", b"\n"), (b"", b"\n")], 9)
def test_where_they_are_cut_makes_no_difference(lines: list[tuple[bytes, bytes]], size: int) -> None:
    text = b"".join(line + end for line, end in lines)
    assert fed(text, size) == line_by_line(text)


@given(st.binary(max_size=40), st.integers(1, 5))
def test_no_bytes_make_it_fail(text: bytes, size: int) -> None:
    fed(b"data: " + text + b"\n\n", size)


def test_a_character_in_several_pieces_and_odd_ends_of_lines_in_a_text() -> None:
    # what str.splitlines takes for the end of a line is a part of the data
    text = "ä漢😀\u2028\u0085\x0b"
    data = json.dumps(text, ensure_ascii=False).encode()
    for size in (1, 2, 3):
        assert fed(b"data: " + data + b"\n\n", size) == [data]


def test_events_of_one_line_in_one_piece() -> None:
    reader = Events()
    assert reader.feed(b"data: 1\n\ndata: 2\n\ndata: 3") == [b"1", b"2"]
    assert reader.held == len(b"data: 3")
    assert reader.feed(b"\n") == []
    assert reader.feed(b"\n") == [b"3"]
    assert reader.held == 0
    assert reader.feed(b"data: 4\n\ndata: 5\nid: 1\n\ndata: 6\n\n") == [b"4", b"5", b"6"]
    assert reader.feed(b"data: 7\n\ndata:8\n\n: 9\n\n") == [b"7", b"8"]
    assert reader.feed(b"data: 10\nid: 1\ndata: 11\n\n") == [b"10\n11"]


def test_a_piece_may_be_empty_or_but_a_line_end() -> None:
    reader = Events()
    assert [reader.feed(piece) for piece in (b"", b"\n", b"data: 1\r", b"", b"\n\r", b"\n")] == [[]] * 5 + [[b"1"]]


def test_the_texts_of_events_are_read_later() -> None:
    reader = Events()
    assert reader.texts(b"event: x\r\ndata: 1\r\n\r\n: y\n\nda") == [b"event: x\ndata: 1", b": y"]
    assert (data_of(b"event: x\ndata: 1"), data_of(b": y")) == (b"1", None)
    assert reader.texts(b"ta: 2\n\n") == [b"data: 2"]


def test_a_last_event_needs_no_empty_line_but_a_whole_one() -> None:
    async def read(*pieces: bytes) -> list[bytes]:
        async def source() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return [data async for data in events(source())]

    assert asyncio.run(read(b"data: 1\n\nda", b"ta: 2\n")) == [b"1", b"2"]
    assert asyncio.run(read(b"data: 1\r\n\r\ndata: 2\r\n")) == [b"1", b"2"]
    assert asyncio.run(read(b"data: 1\n\ndata: 2")) == [b"1"]
