"""The targets of the project's seed document ("Performance Targets"), judged from measured rows only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchai.runtime.usage.periods import span
from benchai.runtime.usage.statistics import Facts, percentile
from benchai.runtime.usage.uptime import Uptime

Verdict = Literal["pass", "fail", "no data"]
CODE_SECONDS, SIMPLE_SECONDS = 10.0, 5.0
UPTIME, GPU_MEMORY = 0.99, 0.60
CONCURRENT = 2


@dataclass(frozen=True)
class GpuFigures:
    """Means over the samples of a period, as shares; ``compute`` is None where no GPU tells it."""

    samples: int
    memory: float
    compute: float | None


@dataclass(frozen=True)
class Target:
    """One target: its name and goal, whether it is met, the figure that decides, and what lies behind it.

    ``value`` is in seconds, a share (0 to 1) or a count, as the goal is; None without data.
    """

    name: str
    goal: str
    verdict: Verdict
    value: float | None
    measured: str
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def judge(facts: Facts, uptimes: Sequence[Uptime], killed: int, gpu: GpuFigures | None) -> list[Target]:
    """All five targets, in the seed's order.

    Args:
        facts: What the rows tell.
        uptimes: Of the core roles.
        killed: How often a server ended without a word.
        gpu: Means of the samples; None without any.
    """
    return [
        _seconds("code response", facts.code, CODE_SECONDS, "the role code"),
        _seconds("simple query", facts.simple, SIMPLE_SECONDS, "the role general, complexity below 0.3"),
        _uptime(uptimes, killed),
        _gpu(gpu),
        _concurrent(facts),
    ]


def _seconds(name: str, seconds: Sequence[float], limit: float, what: str) -> Target:
    goal = f"< {limit:g} s"
    slow, usual = percentile(seconds, 0.95), percentile(seconds, 0.5)
    if slow is None or usual is None:
        return Target(name, goal, "no data", None, "", f"no model has answered a request of {what}")
    detail = f"median {usual:.2f} s, {counted(len(seconds), 'request')} of {what}"
    return Target(name, goal, _met(slow < limit), slow, f"p95 {slow:.2f} s", detail)


def _uptime(uptimes: Sequence[Uptime], killed: int) -> Target:
    goal = f"> {share_of(UPTIME)}"
    known = [one for one in uptimes if one.share is not None]
    shares = {one.role: one.share for one in known if one.share is not None}
    if not shares:
        return Target("uptime", goal, "no data", None, "", "benchai serve has kept no core model up in this time")
    worst = min(shares.values())
    each = ", ".join(f"{role} {share_of(share)}" for role, share in shares.items())
    seen = span(sum(one.up + one.down for one in known) / len(known))
    detail = f"{each}; {seen} seen, time stopped on purpose left out"
    detail += f"; benchai serve was killed {counted(killed, 'time')}" if killed else ""
    return Target("uptime", goal, _met(worst > UPTIME), worst, share_of(worst), detail)


def _gpu(gpu: GpuFigures | None) -> Target:
    name, goal = "GPU utilisation", f"> {share_of(GPU_MEMORY)}"
    if gpu is None:
        return Target(name, goal, "no data", None, "", "no GPU was seen while benchai serve ran")
    compute = "not told" if gpu.compute is None else share_of(gpu.compute)
    detail = f"mean of {counted(gpu.samples, 'sample')} of the memory held, as the seed counts it; computing {compute}"
    return Target(name, goal, _met(gpu.memory > GPU_MEMORY), gpu.memory, share_of(gpu.memory), detail)


def _concurrent(facts: Facts) -> Target:
    name, goal = "concurrent users", f">= {CONCURRENT}"
    if facts.at_once < CONCURRENT:
        return Target(name, goal, "no data", None, "", "no two requests were under way at the same time")
    served = facts.served_at_once
    detail = f"requests under way at the same time and answered, of {facts.at_once} that came"
    return Target(name, goal, _met(served >= CONCURRENT), served, str(served), detail)


def share_of(share: float) -> str:
    """A share as per cent, never rounded up to 100."""
    percent = math.floor(round(share * 10_000, 6)) / 100
    return f"{percent:.2f}".rstrip("0").rstrip(".") + " %"


def counted(number: int, what: str) -> str:
    """A number and its noun."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _met(met: bool) -> Verdict:
    return "pass" if met else "fail"
