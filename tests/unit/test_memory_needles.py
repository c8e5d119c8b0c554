"""The scan of bytes finds every copy, in each way of writing, wherever it stands."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.memory.needles import CHUNK, Haystack, text_needles, vector_needle

LONG = "Caroline told me on 8 May that her flight to Lisbon is booked, seat 14C, and that nobody should know."


@pytest.mark.parametrize(
    "data",
    [
        LONG.encode(),
        LONG.encode("utf-16-le"),
        json.dumps({"text": f'{LONG}\n"é'}).encode(),
        LONG.encode()[7:90],
        b"\x00" * 13 + LONG[-40:].encode(),
    ],
    ids=["utf-8", "utf-16", "json", "from the middle", "end"],
)
def test_a_copy_is_found(data: bytes) -> None:
    assert list(Haystack(text_needles(LONG, 0)).within(b"\x01" * 5 + data + b"\xff"))


def test_escapes_of_json_are_found() -> None:
    text = 'über "Ärger"\n\tmit ö'
    assert list(Haystack(text_needles(text, 0)).within(json.dumps(text).encode()))
    assert list(Haystack(text_needles(text, 0)).within(json.dumps(text, ensure_ascii=False).encode()))


def test_short_texts_are_looked_for_whole_and_very_short_ones_not() -> None:
    assert [place for place, _ in Haystack(text_needles("Lyon", 0)).within(b"in Lyon, Lyon")] == [3, 9]
    assert text_needles("no", 0) == []


def test_a_vector_is_found_by_its_beginning() -> None:
    vector = np.linspace(-1, 1, 16, dtype=np.float32)
    found = list(Haystack([vector_needle(vector.tolist(), 3)]).within(b"abc" + vector.tobytes()))
    assert [(place, needle.origin) for place, needle in found] == [(3, 3)]


@pytest.mark.parametrize("place", [0, CHUNK - 100, CHUNK - 20, CHUNK - 1, CHUNK, 2 * CHUNK - 39, 2 * CHUNK + 5])
def test_a_copy_over_the_border_of_two_reads_is_found_once(tmp_path: Path, place: int) -> None:
    text = LONG[:40]
    file = tmp_path / "file"
    file.write_bytes(bytes(place) + text.encode() + bytes(1000))
    assert [offset for offset, _ in Haystack(text_needles(text, 0)).in_file(file)] == [place]


@given(st.lists(st.binary(min_size=4, max_size=60), min_size=1, max_size=8), st.binary(max_size=300), st.randoms())
def test_all_and_nothing_else_is_found(parts: list[bytes], noise: bytes, chance: random.Random) -> None:
    texts = [part.hex() for part in parts]
    data = noise + b"".join(chance.choice(texts).encode() + noise[:7] for _ in range(4))
    found = set(Haystack([needle for at, text in enumerate(texts) for needle in text_needles(text, at)]).within(data))
    for place, needle in found:
        assert data[place : place + len(needle.data)] == needle.data
    for text in texts:
        if text.encode() in data:
            assert any(needle.data in text.encode() for _, needle in found)


def test_nothing_is_found_in_noise() -> None:
    noise = random.Random(1).randbytes(3 * CHUNK // 2)
    needles = [needle for at in range(500) for needle in text_needles(f"{LONG} {at}", at)]
    assert list(Haystack(needles).within(noise)) == []
