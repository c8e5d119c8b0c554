"""Which model answers a routed request now: a pure function of the route and of what the models are doing.

Every role that may answer has a price in seconds: what the caller would wait, and a penalty for a role that does the
work less well. The cheapest one answers. Nothing here asks the fleet: the caller brings a snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Literal, NamedTuple

from benchai.runtime.router.route import KEEP, Route

State = Literal["ready", "loading", "stopped", "failed"]
Outcome = Literal["best", "instead", "too_long", "busy", "none"]

#: Seconds that a request waits for each one before it where nothing better is known.
SECONDS_EACH = 8.0
#: Seconds that starting a stopped model takes where nothing better is known.
START_SECONDS = 20.0
#: Tokens of a prompt that a model reads in a second where nothing better is known: a slow GPU.
PROMPT_RATE = 500.0
#: Penalty, seconds, for a model that did not call the tool whose result comes.
OTHER_CALLER = 60.0


class Candidate(NamedTuple):
    """A model in one of its roles, as it is now.

    Args:
        role: The role it would answer in.
        model: Its name.
        state: ready, loading, stopped or failed.
        queue: Requests that wait for it.
        queue_limit: Waiting requests at which it takes no more; None: no limit.
        wait: Seconds that the queue takes, if that is known; else 8 for each request in it.
        swap: Seconds until it is ready, making room included, if that is known; else 20. Nothing for one that is ready.
        n_ctx: Tokens of its context; None or 0: not known.
        vision: Whether it sees pictures.
        kept: Tokens of this conversation that it still holds (KV cache).
        prompt_rate: Tokens of a prompt that it reads in a second, if that was measured.
    """

    role: str
    model: str
    state: State = "ready"
    queue: int = 0
    queue_limit: int | None = None
    wait: float | None = None
    swap: float | None = None
    n_ctx: int | None = None
    vision: bool = False
    kept: int = 0
    prompt_rate: float | None = None


class Price(NamedTuple):
    """What a candidate would cost, in seconds, or why it can't answer at all."""

    candidate: Candidate
    queue: float
    swap: float
    prompt: float
    penalty: float
    excluded: str | None = None
    outcome: Outcome = "best"

    @property
    def seconds(self) -> float:
        """The sum that is compared."""
        return self.queue + self.swap + self.prompt + self.penalty

    @property
    def words(self) -> str:
        """The parts that are not nothing."""
        if self.seconds < 0.05:
            return "0 s"
        parts = {"queue": self.queue, "start": self.swap, "prompt": self.prompt, "other role": self.penalty}
        return " + ".join(f"{name} {value:.1f} s" for name, value in parts.items() if value >= 0.05) or "0 s"


class Choice(NamedTuple):
    """Who answers now.

    ``outcome``: best (the role that suits best), instead (another one), too_long (no context holds the prompt;
    ``n_ctx`` is the largest), busy (queues are full) or none; in the last three there is no ``role`` and no ``model``.
    ``reason`` tells it in words, ``prices`` what was compared, the chosen one first.
    """

    role: str | None
    model: str | None
    outcome: Outcome
    reason: str
    prices: tuple[Price, ...] = ()
    n_ctx: int | None = None


def choose(
    route: Route,
    candidates: Sequence[Candidate],
    *,
    prompt_tokens: int = 0,
    reply_tokens: int = 0,
    session_model: str | None = None,
) -> Choice:
    """The candidate with the lowest price; of equal ones that of the better role, then the first.

    Args:
        route: Who may answer, from a router.
        candidates: What there is; roles that the route does not allow are left out.
        prompt_tokens: Estimate of the prompt's length.
        reply_tokens: Room that the reply needs in the context.
        session_model: The model that answered this conversation last, if that is known. It takes a tool's result.
    """
    allowed = _allowed(route, candidates, session_model)
    prices = [
        _price(route, one, allowed, prompt_tokens, reply_tokens, session_model)
        for one in candidates
        if one.role in allowed
    ]
    open_ones = sorted([one for one in prices if one.excluded is None], key=attrgetter("seconds", "penalty"))
    shut = [one for one in prices if one.excluded is not None]
    if not open_ones:
        return _nobody(route, allowed, shut, prompt_tokens, reply_tokens)
    return _chosen(open_ones, shut, allowed)


def _allowed(route: Route, candidates: Sequence[Candidate], session_model: str | None) -> Mapping[str, float]:
    allowed = route.allowed or {route.role: 0.0}
    if route.role == KEEP and session_model is not None:
        allowed = dict(allowed)
        # the model that called answers in whatever role it was leased
        for one in candidates:
            if one.model == session_model:
                allowed.setdefault(one.role, 0.0)
    return allowed


def _price(
    route: Route,
    one: Candidate,
    allowed: Mapping[str, float],
    prompt_tokens: int,
    reply_tokens: int,
    session_model: str | None,
) -> Price:
    penalty = allowed[one.role]
    if route.role == KEEP and session_model is not None:
        penalty = 0.0 if one.model == session_model else penalty + OTHER_CALLER
    excluded, outcome = _excluded(route, one, prompt_tokens + reply_tokens)
    return Price(
        one,
        queue=_seconds(one.wait, max(0, one.queue) * SECONDS_EACH),
        swap=0.0 if one.state == "ready" else _seconds(one.swap, START_SECONDS),
        prompt=_prompt_seconds(one, prompt_tokens),
        penalty=penalty,
        excluded=excluded,
        outcome=outcome,
    )


def _excluded(route: Route, one: Candidate, tokens: int) -> tuple[str | None, Outcome]:
    if route.picture and not one.vision:
        return "sees no pictures", "none"
    if one.state == "failed":
        return "has failed", "none"
    if one.n_ctx and tokens > one.n_ctx:
        return f"its context of {one.n_ctx} tokens is too short for about {tokens}", "too_long"
    if one.queue_limit is not None and one.queue >= one.queue_limit:
        return f"its queue of {one.queue} is full", "busy"
    return None, "best"


def _seconds(value: float | None, default: float) -> float:
    """A time that the caller knows, or the default where it knows none."""
    return default if value is None or math.isnan(value) else max(0.0, value)


def _prompt_seconds(one: Candidate, tokens: int) -> float:
    """To read what of the prompt it does not hold yet."""
    rate = one.prompt_rate if one.prompt_rate is not None and one.prompt_rate > 0 else PROMPT_RATE
    return max(0, tokens - max(0, one.kept)) / rate


def _chosen(open_ones: Sequence[Price], shut: Sequence[Price], allowed: Mapping[str, float]) -> Choice:
    won = open_ones[0]
    prices = (*open_ones, *shut)
    name = f"{won.candidate.role} on {won.candidate.model}"
    if won.penalty == 0:
        return Choice(won.candidate.role, won.candidate.model, "best", f"{name}: {won.words}", prices)
    own = [one for one in prices if one.penalty == 0]
    best = own[0].candidate.role if own else next(iter(allowed))
    reason = f"{name} ({won.words}) instead of {best}: {_why_not(own)}"
    return Choice(won.candidate.role, won.candidate.model, "instead", reason, prices)


def _why_not(own: Sequence[Price]) -> str:
    if not own:
        return "no model serves it"
    first = own[0]
    if first.excluded is not None:
        return f"{first.candidate.model} {first.excluded}"
    state = "" if first.candidate.state == "ready" else f" is {first.candidate.state} and"
    return f"{first.candidate.model}{state} would cost {first.words}"


def _nobody(
    route: Route, allowed: Mapping[str, float], shut: Sequence[Price], prompt_tokens: int, reply_tokens: int
) -> Choice:
    roles = ", ".join(allowed)
    if not shut:
        return Choice(None, None, "none", f"no model serves any of the roles {roles}")
    told = "; ".join(f"{one.candidate.model} {one.excluded}" for one in shut)
    # to wait helps against a full queue, a shorter prompt against a short context; neither against the rest
    outcomes: tuple[Outcome, ...] = ("busy", "too_long", "none")
    outcome = next(one for one in outcomes if any(price.outcome == one for price in shut))
    longest = max((one.candidate.n_ctx or 0 for one in shut if one.outcome == "too_long"), default=0)
    return Choice(None, None, outcome, f"none of {roles} can answer: {told}", tuple(shut), longest or None)
