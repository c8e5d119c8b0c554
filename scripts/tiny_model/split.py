"""What may be drawn for training, and what only for the held-out questions.

Every number, word and phrasing that a conversation is filled with comes from a `Draw`, which keeps to one
side of the split: a checksum of the text says on which side it lies, so the two sides can't meet. Digits
that belong to a format (the ids of a plan, a score, line numbers) are not drawn and lie on both sides.
"""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Sequence
from functools import cache

HELD_OUT_ONE_IN = 8
_ALTERNATIVES = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


def pool(text: str) -> tuple[str, ...]:
    """The words of a text, as a pool to draw from."""
    return tuple(text.split())


_ONSETS = pool("b c d f g h k l m n p r s t v w z br ch cl dr fl gr kr pl pr sh sk sl st th tr")
_VOWELS = pool("a e i o u a e i o ai ea ee io ou")
_ENDINGS = ["", "", "", "n", "r", "s", "l", "t", "m", "x", "nd", "rk", "st", "lin", "ton", "ver", "mer"]


def checksum(kind: str, text: str) -> int:
    """A number that decides the side of a text, the same in every run."""
    return zlib.crc32(f"{kind}:{text.lower()}".encode())


def is_held_out(kind: str, text: str) -> bool:
    """Whether `text`, as a `kind` of "number", "word" or "phrase", is kept out of training."""
    return checksum(kind, text) % HELD_OUT_ONE_IN == 0


@cache
def expand(pattern: str) -> tuple[str, ...]:
    """All phrasings of a pattern with alternatives in brackets: "[Please |]read {path}[.|!]" gives four."""
    parts = _ALTERNATIVES.split(pattern)
    choices = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    return tuple("".join(combination) for combination in itertools.product(*choices))


@cache
def phrasings(patterns: tuple[str, ...], held_out: bool) -> tuple[tuple[str, ...], ...]:
    """For each pattern its phrasings on one side, empty ones left out.

    A pattern that begins with "=" is for training only. When chance would leave a group of patterns without a
    held-out phrasing, the one with the lowest checksum is held out.
    """
    free = [phrase for pattern in patterns if not pattern.startswith("=") for phrase in expand(pattern)]
    kept_out = {phrase for phrase in free if is_held_out("phrase", phrase)}
    if not kept_out:
        kept_out = {min(free, key=lambda phrase: checksum("phrase", phrase))}
    kept_out -= {pattern[1:] for pattern in patterns if pattern.startswith("=")}
    pools = [expand(pattern.removeprefix("=")) for pattern in patterns]
    sided = [tuple(phrase for phrase in pool if (phrase in kept_out) == held_out) for pool in pools]
    return tuple(pool for pool in sided if pool)


@cache
def words_of(pool: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """The words of a pool on one side."""
    return tuple(word for word in pool if is_held_out("word", word) == held_out)


class Draw:
    """A seeded source of values on one side of the split, which remembers what it gave out.

    Words are drawn without repeats since the last `begin` until their pool is used up, but for one in sixteen, which
    is one that was drawn before; numbers likewise, one in ten excepted. The held-out pools are small (a single number
    of one digit): their texts would otherwise repeat values far more often than those of training.
    """

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self.rng = rng
        self.held_out = held_out
        self.drawn: dict[str, set[str]] = {"number": set(), "word": set(), "phrase": set()}
        self.used: set[str] = set()

    def begin(self) -> None:
        """A new conversation begins, all words are free again."""
        self.used.clear()

    def forget(self) -> None:
        """Forget what was drawn, so that long runs do not grow."""
        for values in self.drawn.values():
            values.clear()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.rng.random() < probability

    def word(self, pool: Sequence[str]) -> str:
        """One word of a pool."""
        words = words_of(tuple(pool), self.held_out)
        again = tuple(word for word in words if word in self.used)
        if again and self.chance(1 / 16):
            words = again
        else:
            words = tuple(word for word in words if word not in self.used) or words
        choice = self.rng.choice(words)
        self.used.add(choice)
        self.drawn["word"].add(choice.lower())
        return choice

    def exhausted(self, pool: Sequence[str]) -> bool:
        """Whether all words of a pool were used since the last `begin`."""
        return all(word in self.used for word in words_of(tuple(pool), self.held_out))

    def allowed_word(self, word: str) -> bool:
        """Whether a word made elsewhere lies on this side; it is remembered if it does."""
        allowed = is_held_out("word", word) == self.held_out
        if allowed:
            self.drawn["word"].add(word.lower())
        return allowed

    def invented(self) -> str:
        """A word that no dictionary holds, two or three syllables long, in small letters."""
        while True:
            syllables = [self.rng.choice(_ONSETS) + self.rng.choice(_VOWELS) for _ in range(self.rng.choice((1, 2, 2)))]
            word = "".join(syllables) + self.rng.choice(_ENDINGS)
            if len(word) > 3 and is_held_out("word", word) == self.held_out:
                self.drawn["word"].add(word)
                return word

    def digits(self, low: int, high: int) -> str:
        """A whole number with `low` to `high` digits, without leading zeros."""
        tries = 0 if self.chance(0.1) else 40
        while True:
            count = self.rng.randint(low, high)
            text = str(self.rng.randint(10 ** (count - 1) if count > 1 else 0, 10**count - 1))
            if is_held_out("number", text) != self.held_out:
                continue
            tries -= 1
            if text not in self.used or tries <= 0:
                self.used.add(text)
                self.drawn["number"].add(text)
                return text

    def pick(self, *patterns: str) -> str:
        """One phrasing, each pattern equally likely however many alternatives it holds.

        The caller fills its {placeholders}.
        """
        choice = self.rng.choice(self.rng.choice(phrasings(patterns, self.held_out)))
        self.drawn["phrase"].add(choice)
        return choice
