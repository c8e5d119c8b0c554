"""A byte-level BPE that cuts a word the same way wherever it stands, and an encoder equal to llama.cpp's.

Copying is easy when "notes" has the same tokens in `docs/notes.txt`, in `"notes"` and after a blank. Merges are
therefore learned within letters only; a blank is joined to a word by a last set of merges, and only for words
that belong to phrasings and not to values. Fixed texts (JSON fragments, sentences of prompts) are single tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import regex  # type: ignore[import-untyped]

from scripts.tiny_model.words import BLANK

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# The pre-tokenizer that llama.cpp calls "qwen2".
QWEN2 = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PIECES = regex.compile(r"\p{L}+|[^\p{L}]+")


@lru_cache(maxsize=1)
def byte_letters() -> dict[int, str]:
    """GPT-2's letter for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in kept}
    for place, byte in enumerate(byte for byte in range(256) if byte not in letters):
        letters[byte] = chr(256 + place)
    return letters


def to_letters(text: str) -> str:
    """The text's bytes as GPT-2's letters."""
    letters = byte_letters()
    return "".join(letters[byte] for byte in text.encode())


@dataclass
class Tokenizer:
    """Tokens in the order of their ids: control tokens, fixed texts, bytes, merged pieces."""

    fixed: list[str]
    merges: list[tuple[str, str]]
    ids: dict[str, int] = field(init=False)
    ranks: dict[tuple[str, str], int] = field(init=False)
    _cache: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        pieces = [*byte_letters().values(), *("".join(pair) for pair in self.merges)]
        self.tokens = [*CONTROL, *self.fixed, *pieces]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        # llama.cpp looks for the special tokens longest first, not leftmost first.
        self._special = sorted((*CONTROL, *self.fixed), key=len, reverse=True)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, special tokens recognised."""
        found: list[int] = []
        for part, special in self._partition(text):
            if special:
                found.append(self.ids[part])
            else:
                for piece in QWEN2.findall(part):
                    found += self._piece(piece)
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids."""
        back = {letter: byte for byte, letter in byte_letters().items()}
        special = len(CONTROL) + len(self.fixed)
        parts = [
            self.tokens[number].encode() if number < special else bytes(back[letter] for letter in self.tokens[number])
            for number in ids
        ]
        return b"".join(parts).decode(errors="replace")

    def _partition(self, text: str) -> list[tuple[str, bool]]:
        """The text cut at its special tokens."""
        parts = [(text, False)]
        for special in self._special:
            if special not in text:
                continue
            cut: list[tuple[str, bool]] = []
            for part, is_special in parts:
                if is_special or special not in part:
                    cut.append((part, is_special))
                    continue
                for place, rest in enumerate(part.split(special)):
                    if place:
                        cut.append((special, True))
                    if rest:
                        cut.append((rest, False))
            parts = cut
        return parts

    def _piece(self, piece: str) -> list[int]:
        """Ids of one piece of the pre-tokenizer."""
        known = self._cache.get(piece)
        if known is None:
            known = [self.ids[token] for token in self._merge(list(to_letters(piece)))]
            if len(self._cache) < 200_000:
                self._cache[piece] = known
        return known

    def _merge(self, letters: list[str]) -> list[str]:
        """Join the pair of lowest rank until none is left."""
        while len(letters) > 1:
            pairs = [(self.ranks.get(pair, 1 << 30), place) for place, pair in enumerate(pairwise(letters))]
            rank, place = min(pairs)
            if rank == 1 << 30:
                break
            letters[place : place + 2] = [letters[place] + letters[place + 1]]
        return letters

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON."""
        path.write_text(json.dumps({"fixed": self.fixed, "merges": self.merges}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what `save` wrote."""
        read = json.loads(path.read_text(encoding="utf-8"))
        return cls(read["fixed"], [(left, right) for left, right in read["merges"]])


def learn_merges(counts: Counter[str], wanted: int) -> list[tuple[str, str]]:
    """Byte-pair merges over counted pieces, the most frequent pair first; ties by spelling, so it is repeatable."""
    words = [(list(to_letters(word)), count) for word, count in counts.items()]
    merges: list[tuple[str, str]] = []
    while len(merges) < wanted:
        pairs: Counter[tuple[str, str]] = Counter()
        for letters, count in words:
            for pair in pairwise(letters):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs.items(), key=lambda item: (item[1], item[0]))[0]
        merges.append(best)
        joined = "".join(best)
        for letters, _ in words:
            place = 0
            while place < len(letters) - 1:
                if letters[place] == best[0] and letters[place + 1] == best[1]:
                    letters[place : place + 2] = [joined]
                place += 1
    return merges


def count_pieces(texts: Iterable[str], fixed: list[str]) -> tuple[Counter[str], Counter[str]]:
    """How often each run of letters or of other signs occurs, and each word that follows a blank."""
    cutter = Tokenizer(fixed, [])
    pieces: Counter[str] = Counter()
    after_blank: Counter[str] = Counter()
    for text in texts:
        for part, special in cutter._partition(text):
            for piece in () if special else QWEN2.findall(part):
                pieces.update(_PIECES.findall(piece))
                if piece[0] == " " and piece[1:].isalpha():
                    after_blank[piece[1:]] += 1
    return pieces, after_blank


def train_tokenizer(
    texts: list[str], fixed: list[str], values: set[str], beginnings: set[str], merges: int, blanks: int
) -> Tokenizer:
    """Learn `merges` merges, then join a blank to the `blanks` most frequent whole words.

    Words that are `values`, and the `beginnings` of many others, are not joined to a blank.
    """
    pieces, after_blank = count_pieces(texts, fixed)
    # A value that is one token would only teach to copy that token; values are to be cut as unknown words are.
    counted = Counter({piece: count for piece, count in pieces.items() if count > 1 and piece.lower() not in values})
    learned = learn_merges(counted, merges)
    whole = {"".join(pair) for pair in learned} | set("aI")
    kept_apart = values | beginnings
    joined = [word for word, _ in after_blank.most_common() if word in whole and word.lower() not in kept_apart]
    return Tokenizer(fixed, learned + [(BLANK, word) for word in joined[:blanks]])
