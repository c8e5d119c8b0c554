"""Which role answers a request and which workflow fits it: pure functions of its text.

The intent is found by words and expressions, English and German. Where no intent is clear, the complexity
chooses the role. Intent detection, complexity score and thresholds follow the project's seed document; docs/routing.md
tells where they differ. Conversations are routed by `benchai.runtime.router.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from benchai.runtime.router.reading import CLEAR, HEAD, TAIL, Reading, read
from benchai.runtime.router.tables import Tables, Thresholds, tables
from benchai.runtime.router.workflows import workflow_for

__all__ = [
    "CLEAR",
    "FACTORS",
    "HEAD",
    "KEEP",
    "PLANNER_ABOVE",
    "RESEARCH_ABOVE",
    "SIMPLE_BELOW",
    "TAIL",
    "Route",
    "complexity_of",
    "decide",
    "factors",
    "route",
    "workflow",
]

#: The role of a request that ends in the result of a tool: the model that called it.
KEEP = "keep"
#: The seed's thresholds: where no intent is clear, research answers above the one, and the planner above the other.
RESEARCH_ABOVE, PLANNER_ABOVE = Thresholds.research, Thresholds.planner
#: Below this a text is simple (from the seed): signs that are not clear are not looked at.
SIMPLE_BELOW = Thresholds.simple
#: A score that decides where the text is neither simple nor so complex that research answers.
WEAK = 0.7

#: Factor of complexity -> (weight of one, limit of what it adds). The weights are the seed's; the limits are ours: the
#: seed's sum has no ceiling.
FACTORS: Mapping[str, tuple[float, float]] = {
    "length": (1.0, 0.5),  # of 1000 characters
    "code_blocks": (0.3, 0.6),  # fenced blocks
    "technical_terms": (0.1, 0.4),  # different ones
    "questions": (0.2, 0.6),  # questions and sub-tasks after the first, half as much for "and then"
}

NO_PICTURE = "but no picture came, so the role is general's"


_EMPTY: Mapping[str, float] = MappingProxyType({})
_UNSIGNED: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Route(NamedTuple):
    """Who answers a request.

    ``intent`` is what it asks for: code, planner, research, vision or general. ``role`` is the intent's, but where no
    intent is clear (then ``intent`` is general and complexity chooses), where a picture is asked about and none came
    (general's), and where a tool's result goes back to the model that called (``KEEP``). ``complexity`` is within 0 and
    1, ``factors`` the amounts it comes from. ``scores`` are the points of each intent, ``signals`` what gave them,
    ``reason`` names what decided. ``allowed`` is role -> penalty in seconds, the best first: who may answer.
    ``picture``: the model must be able to see. ``follows``: the intent is that of the turns before.
    """

    role: str
    intent: str
    complexity: float
    scores: Mapping[str, float]
    reason: str
    allowed: Mapping[str, float] = _EMPTY
    factors: Mapping[str, float] = _EMPTY
    signals: Mapping[str, tuple[str, ...]] = _UNSIGNED
    picture: bool = False
    follows: bool = False


def route(text: str, *, image: bool = False, known: Tables | None = None) -> Route:
    """Which role answers ``text``; it never fails, whatever the text.

    A clear intent decides, with ``image`` it is vision. Otherwise the complexity does: above 0.7 research,
    above 0.4 planner, else general. Of a long text only both ends are searched.

    Args:
        text: What the user asks, without the conversation before it.
        image: Whether a picture comes with it.
        known: The tables; default: those without additions.
    """
    known = known or tables()
    return decide(read(text, known), known, image="a picture comes with it" if image else None)


def workflow(route: Route, text: str) -> str:
    """The workflow that fits a request of that route; ``text`` is the one that was routed.

    One of vision, orchestrator-worker (several independent sub-tasks, a comparison, high complexity),
    planner-coder-reviewer (code to be written), reflection (a text to be written), evaluator-optimizer (one
    with stated criteria) and react (everything else).
    """
    intent = "general" if route.intent == "vision" and not route.picture else route.intent
    return workflow_for(intent, read(text, tables()), complex_one=route.complexity > RESEARCH_ABOVE)


def factors(text: str) -> dict[str, float]:
    """How much of each factor of ``FACTORS`` a text has; unbounded, none negative."""
    return read(text, tables()).factors()


def complexity_of(amounts: Mapping[str, float]) -> float:
    """The complexity, within 0 and 1, of amounts of the factors; it never falls when one of them grows."""
    return min(1.0, sum([min(limit, weight * amounts[name]) for name, (weight, limit) in FACTORS.items()]))


def best_of(scores: Mapping[str, float]) -> str:
    """The intent with the most points; the first of equal ones."""
    return max(scores, key=scores.__getitem__)


def decide(
    reading: Reading, known: Tables, *, image: str | None = None, topic: str | None = None, working: bool = False
) -> Route:
    """The route of a text that was read.

    Args:
        reading: What was found in it.
        known: The tables.
        image: What brings a picture, if anything does: then the intent is vision.
        topic: The intent of the turns before, if this one goes on from them.
        working: Whether tools are offered: then a simple text asks for work as well, and weak signs count.
    """
    amounts = reading.factors()
    complexity = complexity_of(amounts)
    if image is not None:
        scores = {**reading.scores, "vision": 10.0}
        return _made("vision", "vision", f"vision: {image}", known, reading, complexity, scores, picture=True)
    if topic is not None:
        why = f"{topic}: it goes on from the turns before, which were about {topic}"
        return _made(topic, topic, why, known, reading, complexity, reading.scores, follows=True)
    intent = best_of(reading.scores)
    weak = (working or complexity >= known.thresholds.simple) and complexity <= known.thresholds.research
    if reading.scores[intent] >= (WEAK if weak else CLEAR):
        kind = "general" if intent == "vision" else intent
        why = f"{intent}: {', '.join(reading.found[intent])}" + (f", {NO_PICTURE}" if intent == "vision" else "")
        return _made(kind, intent, why, known, reading, complexity, reading.scores)
    kind, why = _by_complexity(complexity, known.thresholds)
    return _made(kind, "general", why, known, reading, complexity, reading.scores)


def _by_complexity(complexity: float, limits: Thresholds) -> tuple[str, str]:
    why = f"no intent is clear, complexity {complexity:.2f} is"
    if complexity > limits.research:
        return "research", f"{why} above {limits.research}"
    if complexity > limits.planner:
        return "planner", f"{why} above {limits.planner}"
    return "general", f"{why} not above {limits.planner}"


def _made(
    kind: str,
    intent: str,
    reason: str,
    known: Tables,
    reading: Reading,
    complexity: float,
    scores: Mapping[str, float],
    *,
    picture: bool = False,
    follows: bool = False,
) -> Route:
    return Route(
        role=known.roles.get(kind, kind),
        intent=intent,
        complexity=complexity,
        scores=scores,
        reason=reason,
        allowed=known.allowed(kind),
        factors=reading.factors(),
        signals={one: tuple(names) for one, names in reading.found.items()},
        picture=picture,
        follows=follows,
    )
