"""Finding many texts and vectors in the bytes of files, in one pass over each: plain functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Bytes of a part of a text that is looked for, and of a vector's beginning.
SHINGLE, VECTOR_BEGINNING = 40, 32
#: Shorter texts stand in any file by chance.
SHORTEST = 4
CHUNK = 1 << 20
_KEY = 8
_GOLDEN = 0x9E3779B97F4A7C15
What = Literal["text", "part", "word", "vector"]


@dataclass(frozen=True, slots=True)
class Needle:
    """Bytes that are looked for: a whole text, a part of one, a word, or the beginning of a vector.

    Attributes:
        origin: Which of the texts, or which of the vectors, it is of.
        encoding: How the text is written: utf-8, utf-16-le, json; float32 for vectors.
    """

    data: bytes
    what: What
    encoding: str
    origin: int


def text_needles(text: str, origin: int) -> list[Needle]:
    """A text in all the ways in which a file may hold it: whole where it is short, else in parts that cover it."""
    found: dict[bytes, Needle] = {}
    if len(text.encode("utf-8", "surrogatepass")) < SHORTEST:
        return []
    for encoding, data in _encodings(text):
        for part in _shingles(data):
            found.setdefault(part, Needle(part, "text" if part == data else "part", encoding, origin))
    return list(found.values())


def vector_needle(vector: Sequence[float], origin: int) -> Needle:
    """A vector's first eight numbers, as float32 in the order of Intel and ARM."""
    import numpy as np

    data = np.asarray(vector, dtype="<f4").tobytes()
    return Needle(data[:VECTOR_BEGINNING], "vector", "float32", origin)


def _encodings(text: str) -> Iterator[tuple[str, bytes]]:
    yield "utf-8", text.encode("utf-8", "surrogatepass")
    yield "utf-16-le", text.encode("utf-16-le", "surrogatepass")
    for ascii_only in (False, True):
        # logs and caches write JSON: line ends, quotes and, often, all beyond ASCII are escaped there
        yield "json", json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass")


def _shingles(data: bytes) -> Iterator[bytes]:
    if len(data) <= SHINGLE:
        if len(data) >= SHORTEST:
            yield data
        return
    yield from (data[begin : begin + SHINGLE] for begin in range(0, len(data) - SHINGLE + 1, SHINGLE))
    yield data[-SHINGLE:]


class _Keys:
    """Needles by the hash of their first eight or sixteen bytes, and a table that tells whether a hash is one."""

    def __init__(self, needles: Sequence[Needle], span: int) -> None:
        import numpy as np

        self.span = span
        data = np.frombuffer(b"".join(needle.data[: span * _KEY] for needle in needles), dtype="<u8")
        hashes = self._hashes(data.reshape(-1, span).T)
        self._needles: dict[int, list[Needle]] = {}
        for hashed, needle in zip(hashes.tolist(), needles, strict=True):
            self._needles.setdefault(hashed, []).append(needle)
        # so large that few places of a file are looked at in vain
        self._shift = np.uint64(64 - min(26, max(16, len(needles).bit_length() + 6)))
        self._table = np.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._table[hashes >> self._shift] = True

    def within(self, data: bytes) -> Iterator[tuple[int, Needle]]:
        """Where which needles stand in bytes."""
        import numpy as np

        for shift in range(_KEY):
            count = (len(data) - shift) // _KEY - self.span + 1
            if count <= 0:
                return
            words = [
                np.frombuffer(data, dtype="<u8", count=count, offset=shift + place * _KEY) for place in range(self.span)
            ]
            hashes = self._hashes(words)
            indexes = np.flatnonzero(self._table[hashes >> self._shift])
            for index, hashed in zip(indexes.tolist(), hashes[indexes].tolist(), strict=True):
                place = shift + index * _KEY
                for needle in self._needles.get(hashed, ()):
                    if data.startswith(needle.data, place):
                        yield place, needle

    @staticmethod
    def _hashes(words: Sequence[NDArray[np.uint64]] | NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4), one word after the other."""
        import numpy as np

        golden = np.uint64(_GOLDEN)
        hashes = words[0] * golden
        for word in words[1:]:
            hashes = ((hashes ^ (hashes >> np.uint64(29))) + word) * golden
        return hashes


class Haystack:
    """Looks for many needles at once: for all places of a chunk together, then byte by byte where a key stands."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        every = list(needles)
        self._short = [needle for needle in every if len(needle.data) < _KEY]
        middle = [needle for needle in every if _KEY <= len(needle.data) < 2 * _KEY]
        long = [needle for needle in every if len(needle.data) >= 2 * _KEY]
        self._keys = [_Keys(some, span) for some, span in ((middle, 1), (long, 2)) if some]
        self._longest = max((len(needle.data) for needle in every), default=_KEY)

    def within(self, data: bytes) -> Iterator[tuple[int, Needle]]:
        """Where which needles stand in bytes, in no order."""
        for needle in self._short:
            yield from ((place, needle) for place in _all(data, needle.data))
        for keys in self._keys:
            yield from keys.within(data)

    def in_file(self, file: Path) -> Iterator[tuple[int, Needle]]:
        """Where which needles stand in a file; each place once.

        Raises:
            OSError: it can't be read.
        """
        kept, begin = b"", 0
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                data = kept + chunk
                for place, needle in self.within(data):
                    # what ends in what was kept was found the last time
                    if place + len(needle.data) > len(kept):
                        yield begin + place, needle
                kept = data[-(self._longest - 1) :]
                begin += len(data) - len(kept)


def _all(data: bytes, wanted: bytes) -> Iterator[int]:
    place = data.find(wanted)
    while place >= 0:
        yield place
        place = data.find(wanted, place + 1)
