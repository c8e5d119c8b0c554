"""Whether two questions mean the same: a verifier that says no whenever it is in doubt.

Embeddings put "in 2023" beside "in 2024" and "safe" beside "not safe". So two texts agree only where the same words
stand in the same order, but for case, punctuation, politeness, articles, a few ways to ask, and a few words that mean
the same. What reads like a formula or a command must be the same to the letter. Code, quotations, numbers, signs,
negations and names are compared before the words, which gives the reason a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

#: Counted anew by the estimate of false hits when it changes.
VERIFIER = 1
#: Characters of a text that is compared; a longer one is a document.
LONGEST = 4000

_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
# an apostrophe within a word is none of these
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|(?<!\w)'[^'\n]+'(?!\w)")
_NUMBER = re.compile(r"(?<![\w.,])\d[\d.,:/]*")
_SIGN = re.compile(r"[%$€£&]")
# signs of formulas, commands, paths and names of programming, where every letter counts
_FORMAL = re.compile(
    r"[^\w\s.,;:!?'\"“”„«»…—–%$€£&-]|(?<=\w)[:;,](?=\w)|(?<!\w)[-–_.]+(?=\w)|_(?!\w)|__|(?<=\d)!|\d\s*[-–]\s*\d|\s[-–]\s"
)
_WORD = re.compile(r"[^\W_]+(?:['\-_.][^\W_]+)*")
_SENTENCE = re.compile(r"[.!?:;]\s+|\n+")

_CONTRACTED: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\bcan't\b|\bcannot\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"\b(what|how|where|who|when|why|that|there|it)'s\b", r"\1 is"),
        (r"\bi'm\b", "i am"),
        (r"'re\b", " are"),
        (r"'ll\b", " will"),
        (r"'ve\b", " have"),
    )
]
_WILL_YOU = r"(?:can|could|would|will) you"
#: Ways to ask that say the same. "You" stays where it may be meant: "how do you feel".
_PHRASES: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(rf"\b(?:{pattern})(?![\w'-])"), text)
    for pattern, text in (
        (rf"{_WILL_YOU} please", ""),
        (rf"{_WILL_YOU}(?= (?:tell|explain|describe|give|show|write|list|translate|summari[sz]e))", ""),
        (r"i (?:would like|want) to know", ""),
        (r"please tell me|tell me|let me know", ""),
        (r"how (?:do|can|could|would) (?:i|we|one)|how does one|how to|what is the way to|show me how to", "how"),
        (r"how (?:tall|high) is", "what is height"),
        (r"how old is", "what is age"),
        (r"how heavy is", "what is weight"),
        (r"how deep is", "what is depth"),
        (r"(?:explain|describe)(?: to me)?", "explain"),
        (r"(?:give|show) me", "give"),
        (r"a (few|little|bit|lot)", r"some-\1"),
        (r"the matter", "trouble"),
    )
]
#: Words that say nothing here; prepositions other than "of" stay: they turn things round.
_EMPTY = frozenset(["a", "an", "the", "of", "please", "kindly", "hi", "hello", "hey", "thanks", "ok", "okay", "bitte"])
_GROUPS = (("big", "large"), ("buy", "purchase"), ("quickly", "rapidly"), ("photo", "photograph"), ("begin", "start"))
_SAME = {word: group[0] for group in _GROUPS for word in group}
_NOT = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|unable|except|"
    r"nicht|kein\w*|nie|niemals|niemand|nichts|ohne|weder)\b"
)
#: Words that mean one thing with a capital and another without.
_EITHER = frozenset(
    """polish turkey china march may us it who ram mark bill will apple august amazon shell windows word access teams
    target gap jordan nice reading aids""".split()  # noqa: SIM905 - a table
)


def same_meaning(a: str, b: str) -> bool:
    """Whether two questions mean the same; see ``difference``."""
    return difference(a, b) is None


def difference(a: str, b: str) -> str | None:
    """What tells two questions apart, or None.

    One of length (it does not judge what has more than ``LONGEST`` characters), code, quotations, numbers, signs,
    negations, names, formulas and words. Symmetric; None for equal texts.
    """
    if a == b:
        return None
    if max(len(a), len(b)) > LONGEST:
        return "length"
    a, b = _plain(a), _plain(b)
    return next((name for name, look in _LOOKS.items() if look(a) != look(b)), None)


def _plain(text: str) -> str:
    """One form of the signs that have several."""
    return unicodedata.normalize("NFKC", text).translate(_ALIKE)


_ALIKE = str.maketrans({"’": "'", "‘": "'", "−": "-"})


def _prose(text: str) -> str:
    return _FENCE.sub(" ", text)


def _names(text: str) -> list[str]:
    """Words that mean something else with their capitals; at the beginning of a sentence a capital says nothing."""
    prose = _prose(text)
    begins = {match.end() for match in _SENTENCE.finditer(prose)} | {len(prose) - len(prose.lstrip())}
    found = [match for match in _WORD.finditer(prose) if match[0].lower() in _EITHER]
    return [
        match[0] for match in found if match[0].isupper() or (match[0][0].isupper() and match.start() not in begins)
    ]


def _formula(text: str) -> str:
    """The whole text, if every letter of it counts."""
    prose = _prose(text)
    return " ".join(prose.split()) if _FORMAL.search(_QUOTED.sub(" ", prose)) else ""


def _words(text: str) -> list[str]:
    text = _lower(text)
    for pattern, instead in _PHRASES:
        text = pattern.sub(instead, text)
    return [_SAME.get(word, word) for word in _WORD.findall(text) if word not in _EMPTY]


def _lower(text: str) -> str:
    text = " ".join(_prose(text).casefold().split())
    for pattern, instead in _CONTRACTED:
        text = pattern.sub(instead, text)
    return text


_LOOKS: dict[str, Callable[[str], object]] = {
    "code": _FENCE.findall,
    "quotations": lambda text: [found[1:-1] for found in _QUOTED.findall(_prose(text))],
    "numbers": lambda text: [found.rstrip(".,:/") for found in _NUMBER.findall(_prose(text))],
    "signs": lambda text: _SIGN.findall(_prose(text)),
    "negations": lambda text: len(_NOT.findall(_lower(text))),
    "names": _names,
    "formulas": _formula,
    "words": _words,
}
