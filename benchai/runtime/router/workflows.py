"""Which workflow fits a request that was routed: a pure function of its text."""

from __future__ import annotations

import re

from benchai.runtime.router.reading import Reading

_START = (
    r"(?:\A|[.!?:;\n])\W{0,4}(?:(?:please|bitte|now|then|can you|could you|would you|help me(?: to)?|i want to|"
    r"i want you to|let's|kannst du|quickly|just)\s{1,3}){0,3}"
)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


def _opening(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"{_START}(?:{pattern})\b", re.IGNORECASE)


COMPARE = re.compile(
    rf"{_START}(?:compare|contrast|vergleich\w{{0,3}})\b|\b(?:and|then) compare\b|\bcomparison of\b|"
    r"\b(?:vs\.?|versus)(?=\s)|\bdifferences? between\b(?! [\d-])|\bunterschiede? zwischen\b|"
    r"\bhow do(?:es)?\b.{1,100}\bcompare\b|\b(?:which|what)(?: one)? is better\b",
    re.IGNORECASE,
)
WRITE_TEXT = _opening("write|draft|compose|rewrite|rephrase|verfasse?|schreibe?")
SEVERAL = _words(
    r"(?:two|three|four|five|several|zwei|drei|vier) (?:\w{1,20} )?(?:functions|classes|scripts|modules|programs|texts|"
    r"letters|poems|things|tasks|questions|funktionen|klassen|dinge)|review both|and (?:also )?a function|"
    r"(?:and|then) add (?:the results|them up)"
)
EACH = _words(r"an? (?:\w{1,20} ){0,2}(?:class|function|script|module)|the time in|eine (?:klasse|funktion)")
_OPERATOR = r"(?:\s(?:[-+*/x×^]{1,2}|plus|minus|times|over|less|divided by|mal|durch)\s|[*+^×]{1,2})"
# what "=" follows is calculated already
EXPRESSION = re.compile(
    rf"\d[\d.]{{0,15}}(?:{_OPERATOR}\(?\d[\d.]{{0,15}}\)?){{1,40}}(?![\s\d.=*+/^×-]{{0,60}}=)|"
    r"\b(?:sum|difference|product|quotient) (?:of|between) -?\d[\d.]{0,15} and -?\d",
    re.IGNORECASE,
)
CRITERIA = _words(
    r"criteri(?:a|on)|kriteri\w{1,3}|requirements?|constraints?|anforderungen|must(?!-)|muss|müssen|ha(?:s|ve) to|"
    r"score it|scores? (?:at least|above|\d{1,3})|rate it|out of 10|bewerte\w{0,2}"
)
WRITE_CODE = _opening(
    r"(?:\w{1,20} and )?(?:write|wirte|wrtie|implement|implment|refactor|refacor|fix|debug|optimi[sz]e|rewrite|create|"
    r"build|develop|add|convert|port|set up|improve|define (?=\w{1,40}\(|an? (?:\w{1,20} )?function)|schreibe?|"
    r"erstelle?|implementiere?|programmiere?|behebe?)"
)
QUESTION = re.compile(
    r"\A\W{0,3}(?:how|what|why|when|where|which|who|is|are|does|do|should|explain|wie|was|warum|wann|erklär)",
    re.IGNORECASE,
)


def workflow_for(intent: str, reading: Reading, *, complex_one: bool) -> str:
    """The workflow that fits a text.

    Args:
        intent: What it asks for; vision only where a picture is there.
        reading: What the text was read as.
        complex_one: Whether its complexity is high, which calls for several workers.
    """
    said, made = reading.said, reading.made
    if intent == "vision":
        return "vision"
    writing = intent == "general" and (made == "general" or bool(WRITE_TEXT.search(said)))
    if writing and CRITERIA.search(said):
        return "evaluator-optimizer"
    if _independent(said, intent, made, reading.clauses):
        return "orchestrator-worker"
    if intent == "code":
        return "planner-coder-reviewer" if _asks_for_code(said, made) else "react"
    if writing:
        return "reflection"
    return "orchestrator-worker" if complex_one else "react"


def _independent(said: str, intent: str, made: str | None, clauses: int) -> bool:
    """Whether a text asks for several things that do not need each other."""
    if SEVERAL.search(said) or len(EACH.findall(said)) > 2:
        return True
    if intent == "code":
        return False
    if intent == "research" and (COMPARE.search(said) or made == "general"):
        return True
    return clauses > 2 or len(EXPRESSION.findall(said)) > 1


def _asks_for_code(said: str, made: str | None) -> bool:
    return bool(WRITE_CODE.search(said)) or (made == "code" and not QUESTION.match(said))
