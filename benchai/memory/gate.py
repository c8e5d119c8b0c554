"""The junk gate: what speaks against keeping a fact that a model claims to have found. Plain functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchai.memory.lexical import STOP_WORDS
from benchai.memory.relations import folded, relation_key, subject_key

LEAST_CONFIDENCE: Final = 0.5
LONGEST_SUBJECT, LONGEST_VALUE, LONGEST_TEXT = 80, 300, 400
_WORD: Final = re.compile(r"\w+(?:[.,:'@/+-]\w+)*")
_SENTENCE: Final = re.compile(r"[^.!?\n]*(?:[.!?](?=\S)[^.!?\n]*)*[.!?\n]*")
_INSTRUCTION: Final = re.compile(
    r"\b(?:(?:ignore|disregard|forget|override) (?:all |any |the |your |my )*(?:previous|prior|above|earlier|instruct)"
    r"|you (?:must|should|shall|have to|are (?:now|required|to))\b|(?:the )?assistant (?:must|should|shall|has to)"
    r"|system prompt|from now on|(?:act|behave) as (?:if|an?)\b|pretend (?:to|that|you)"
    r"|(?:always|never) (?:answer|reply|respond|reveal|mention|tell|say|refuse|call|run|execute)"
    r"|do(?: not|n't) (?:reveal|mention|tell|ask))",
    re.IGNORECASE,
)
_TRANSIENT: Final = re.compile(
    r"^(?:hi|hello|hey|thanks|thank you|bye|goodbye|ok|okay|yes|no|sure|please|good (?:morning|evening|night))\b"
    r"[\w ]{0,20}$"
    r"|\bthe (?:user|assistant|speaker) (?:just )?(?:asks?|asked|is asking|wants to know|wanted to know|wonders|says?|"
    r"said|greets?|greeted|thanks|thanked|requests?|requested|replied|responded|mentioned|is (?:chatting|talking))\b"
    r"|\b(?:right now|at the moment|just now|this (?:conversation|chat|message|question))\b",
    re.IGNORECASE,
)
_ASKED_TO: Final = re.compile(r"\b(?:remember|keep in mind|don'?t forget|note (?:that|down|this)|memori[sz]e)\b", re.I)
_SECRETS: Final = (
    ("an API key", re.compile(r"\b(?:sk|pk|rk|bai|hf|ghp|gho|ghs|glpat|xox[abprs])[-_][A-Za-z0-9_-]{12,}")),
    ("a cloud key", re.compile(r"\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    ("a token", re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.|\bgithub_pat_\w{20,}")),
    (
        "a password",
        re.compile(r"\b(?:password|passphrase|passwd|pin|secret)\b\W{0,3}(?:is|was|:|=)\W{0,3}\S{3,}", re.I),
    ),
    ("a long random string", re.compile(r"\b(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+/_-]{32,}")),
)
_DIGITS: Final = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?!\d)")


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact that is to be judged, and the texts of the turns that it is said to come from."""

    subject: str
    relation: str
    value: str
    text: str
    confidence: float
    cited: tuple[str, ...]


def doubts(claim: Claim) -> list[str]:
    """What speaks against keeping it, each reason in words; nothing for a good one."""
    return [reason for check in CHECKS if (reason := check(claim)) is not None]


def size(claim: Claim) -> str | None:
    """Too long or too short to be one fact."""
    for name, text, most in (
        ("subject", claim.subject, LONGEST_SUBJECT),
        ("value", claim.value, LONGEST_VALUE),
        ("text", claim.text, LONGEST_TEXT),
    ):
        if all(folded(word) in STOP_WORDS for word in _words(text)):
            return f"its {name} says nothing"
        if len(text) > most:
            return f"its {name} has {len(text)} characters, more than {most}"
    return "its text is no sentence" if len(claim.text.split()) < 2 else None


def confidence(claim: Claim) -> str | None:
    """Whoever found it is not sure."""
    return None if claim.confidence >= LEAST_CONFIDENCE else f"its confidence is {claim.confidence:g}"


def question(claim: Claim) -> str | None:
    """Nobody said so; somebody asked."""
    if claim.text.rstrip().endswith("?") or claim.value.rstrip().endswith("?"):
        return "it is a question"
    grounds = _grounds(claim)
    if grounds and all(ground.rstrip().endswith("?") for ground in grounds):
        return "it was asked, not said"
    return None


def instruction(claim: Claim) -> str | None:
    """It tells the assistant what to do: kept, it would do so in every later run."""
    for text in (claim.text, claim.value, *_grounds(claim)):
        found = _INSTRUCTION.search(text)
        if found:
            return f"it is an instruction: {found.group()!r}"
    return None


def transient(claim: Claim) -> str | None:
    """It is true for the length of a conversation."""
    found = _TRANSIENT.search(claim.text.strip()) or _TRANSIENT.search(claim.value.strip())
    return f"it does not last: {found.group()!r}" if found else None


def secret(claim: Claim) -> str | None:
    """It is a secret that nobody asked to be remembered."""
    if any(_ASKED_TO.search(text) for text in claim.cited):
        return None
    found = secret_in(f"{claim.value}\n{claim.text}")
    return f"it looks like {found}" if found else None


def secret_in(text: str) -> str | None:
    """What kind of secret a text holds, by its form; None for none."""
    for name, pattern in _SECRETS:
        if pattern.search(text):
            return name
    for found in _DIGITS.finditer(text):
        if _luhn([int(digit) for digit in found.group() if digit.isdigit()]):
            return "a card number"
    return None


def grounded(claim: Claim) -> str | None:
    """The turns that it is said to come from do not say so."""
    if not claim.cited:
        return "it names no turn that it comes from"
    said = _said("\n".join(claim.cited))
    asked = [] if subject_key(claim.subject) == "user" else [("subject", claim.subject)]
    for name, text in (*asked, ("value", claim.value)):
        missing = _missing(text, said)
        if missing:
            return f"its {name} is not in the turns: {missing!r}"
    names = "user " + relation_key(claim.relation).replace("_", " ")
    missing = _missing_names(claim.text, said | _said(f"{names} {claim.subject}"))
    return f"its text has what the turns have not: {missing!r}" if missing else None


def stated(claim: Claim) -> str | None:
    """Its sentence does not say its value."""
    missing = _missing(claim.value, _said(claim.text))
    return f"its text does not say its value: {missing!r}" if missing else None


CHECKS: Final[tuple[Callable[[Claim], str | None], ...]] = (
    size,
    confidence,
    question,
    instruction,
    transient,
    secret,
    grounded,
    stated,
)


def _grounds(claim: Claim) -> list[str]:
    """The sentences of the turns that say its value."""
    sentences = [found.group() for text in claim.cited for found in _SENTENCE.finditer(text) if found.group().strip()]
    return [sentence for sentence in sentences if not _missing(claim.value, _said(sentence))]


def _missing(text: str, said: frozenset[str]) -> str | None:
    """The first word that counts and was not said; numbers and names must be the same, of others the stem."""
    words = _words(text)
    for word in [word for word in words if folded(word) not in STOP_WORDS] or words:
        if folded(word) not in said and (_exact(word) or _stem(folded(word)) not in said):
            return word
    return None


def _missing_names(text: str, said: frozenset[str]) -> str | None:
    """The first number or name that was not said; the first word of a sentence has a capital anyway."""
    words = [(word, place) for place, word in enumerate(_words(text))]
    for word, place in words:
        counts = any(letter.isdigit() for letter in word) or (place > 0 and word[:1].isupper())
        if counts and folded(word) not in said and folded(word) not in STOP_WORDS:
            return word
    return None


def _words(text: str) -> list[str]:
    return [re.sub(r"['’]s$", "", word) for word in _WORD.findall(text)]


def _said(text: str) -> frozenset[str]:
    """The words of a text and their stems; of words that are joined, the parts, too."""
    words = {folded(word) for word in _words(text)} | set(re.findall(r"[^\W_]+", folded(text)))
    return frozenset(words | {_stem(word) for word in words})


def _exact(word: str) -> bool:
    return word[:1].isupper() or any(letter.isdigit() for letter in word)


def _stem(word: str) -> str:
    """A word without the endings that change between what was said and what is told of it."""
    for ending in ("ing", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _luhn(digits: Sequence[int]) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1)."""
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return sum(digits[-1::-2]) % 10 == -sum(doubled) % 10 and len(set(digits)) > 1
