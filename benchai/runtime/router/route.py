"""Which role answers a request and which workflow fits it: pure functions of its text.

The intent is found by regex and keywords, English and German. Where no intent is clear, the complexity
chooses the role. Intent detection, complexity score and thresholds follow the project's seed document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchai.runtime.router.vocabulary import (
    CLAUSE,
    COMPARE,
    CONJUNCTION,
    CRITERIA,
    EACH,
    EXPRESSION,
    MADE,
    MADE_POINTS,
    QUESTION,
    SEVERAL,
    SIGNALS,
    TERMS,
    WRITE_CODE,
    WRITE_TEXT,
)

#: Characters of the text that are searched, at its beginning and at its end; beyond, only signs are counted.
HEAD, TAIL = 4000, 2000
#: A score from which an intent is clear.
CLEAR = 1.5
#: Complexity above which the research role answers, and the planner, where no intent is clear (from the seed).
RESEARCH_ABOVE, PLANNER_ABOVE = 0.7, 0.4

#: Factor of complexity -> (weight of one, limit of what it adds). The first four weights are the seed's; limits and
#: conjunctions are ours: the seed's sum has no ceiling.
FACTORS: Mapping[str, tuple[float, float]] = {
    "length": (1.0, 0.5),  # of 1000 characters
    "code_blocks": (0.3, 0.6),  # fenced blocks
    "technical_terms": (0.1, 0.4),  # different ones
    "questions": (0.2, 0.6),  # questions and sub-tasks after the first
    "conjunctions": (0.1, 0.3),  # "and then", "after that"
}

_IMAGE_POINTS = 10.0


@dataclass(frozen=True)
class Route:
    """Who answers a request.

    ``intent`` is what it asks for: code, planner, research, vision or general. ``role`` differs from it only
    where no intent is clear (then ``intent`` is general). ``complexity`` is within 0 and 1. ``scores`` are the
    points of each intent, ``reason`` names what decided.
    """

    role: str
    intent: str
    complexity: float
    scores: Mapping[str, float]
    reason: str


def route(text: str, *, image: bool = False) -> Route:
    """Which role answers ``text``; it never fails, whatever the text.

    A clear intent decides, with ``image`` it is vision. Otherwise the complexity does: above 0.7 research,
    above 0.4 planner, else general. Of a long text only both ends are searched, so time is linear in its length.

    Args:
        text: What the user asks, without the conversation before it.
        image: Whether a picture comes with it.
    """
    said = _said(text)
    complexity = complexity_of(factors(text))
    scores, found = _scores(text, said)
    if image:
        return Route(
            "vision", "vision", complexity, {**scores, "vision": _IMAGE_POINTS}, "vision: a picture comes with it"
        )
    intent = max(scores, key=lambda one: scores[one])
    if scores[intent] >= CLEAR:
        return Route(intent, intent, complexity, scores, f"{intent}: {', '.join(found[intent])}")
    return _by_complexity(complexity, scores)


def workflow(route: Route, text: str) -> str:
    """The workflow that fits a request of that route; ``text`` is the one that was routed.

    One of vision, orchestrator-worker (several independent sub-tasks, a comparison, high complexity),
    planner-coder-reviewer (code to be written), reflection (a text to be written), evaluator-optimizer (one
    with stated criteria) and react (everything else).
    """
    said = _said(text)
    if route.intent == "vision":
        return "vision"
    writing = route.intent == "general" and (_made(said) == "general" or bool(WRITE_TEXT.search(said)))
    if writing and CRITERIA.search(said):
        return "evaluator-optimizer"
    if _independent(said, route.intent):
        return "orchestrator-worker"
    if route.intent == "code":
        return "planner-coder-reviewer" if _asks_for_code(said) else "react"
    if writing:
        return "reflection"
    return "orchestrator-worker" if route.complexity > RESEARCH_ABOVE else "react"


def factors(text: str) -> dict[str, float]:
    """How much of each factor of ``FACTORS`` a text has; unbounded, none negative."""
    said = _said(text)
    return {
        "length": len(text) / 1000,
        "code_blocks": (text.count("```") + 1) // 2,
        "technical_terms": len({match[0].lower() for match in TERMS.finditer(said)}),
        "questions": max(0, text.count("?") - 1, len(CLAUSE.findall(said)) - 1),
        "conjunctions": len(CONJUNCTION.findall(said)),
    }


def complexity_of(amounts: Mapping[str, float]) -> float:
    """The complexity, within 0 and 1, of amounts of the factors; it never falls when one of them grows."""
    return min(1.0, sum(min(limit, weight * amounts[name]) for name, (weight, limit) in FACTORS.items()))


def _by_complexity(complexity: float, scores: Mapping[str, float]) -> Route:
    why = f"no intent is clear, complexity {complexity:.2f} is"
    if complexity > RESEARCH_ABOVE:
        return Route("research", "general", complexity, scores, f"{why} above {RESEARCH_ABOVE}")
    if complexity > PLANNER_ABOVE:
        return Route("planner", "general", complexity, scores, f"{why} above {PLANNER_ABOVE}")
    return Route("general", "general", complexity, scores, f"{why} not above {PLANNER_ABOVE}")


def _said(text: str) -> str:
    """Beginning and end of a text, without its fenced blocks: what is quoted is no request."""
    if len(text) <= HEAD + TAIL:
        return _unfenced(text)
    inside = text.count("```", 0, -TAIL) % 2
    return _unfenced(text[:HEAD]) + "\n" + _unfenced("```" * inside + text[-TAIL:])


def _unfenced(text: str) -> str:
    """Without fenced blocks; runs of one sign are cut short, which keeps the searches fast."""
    text = re.sub(r"```.*?(?:```|\Z)", "\n", text, flags=re.DOTALL)
    return re.sub(r"([^\w`])\1{2,}", r"\1\1", text)


def _made(said: str) -> str | None:
    """The intent of the first thing that the text wants made."""
    match = MADE.search(said)
    return match.lastgroup if match else None


def _scores(text: str, said: str) -> tuple[dict[str, float], dict[str, list[str]]]:
    scores = dict.fromkeys(("code", "planner", "research", "vision", "general"), 0.0)
    found: dict[str, list[str]] = {intent: [] for intent in scores}
    for signal in SIGNALS:
        words = {match[0].lower() for match in signal.pattern.finditer(said)}
        if words:
            scores[signal.intent] += signal.points * min(2, len(words))
            found[signal.intent].append(signal.name)
    if made := _made(said):
        scores[made] += MADE_POINTS[made]
        found[made].append("what is to be made")
    if "```" in text:
        scores["code"] += CLEAR
        found["code"].append("code block")
    return scores, found


def _independent(said: str, intent: str) -> bool:
    """Whether a text asks for several things that do not need each other."""
    if SEVERAL.search(said) or len(EACH.findall(said)) > 2:
        return True
    if intent == "code":
        return False
    if intent == "research" and (COMPARE.search(said) or _made(said) == "general"):
        return True
    return len(CLAUSE.findall(said)) > 2 or len(EXPRESSION.findall(said)) > 1


def _asks_for_code(said: str) -> bool:
    return bool(WRITE_CODE.search(said)) or (_made(said) == "code" and not QUESTION.match(said))
