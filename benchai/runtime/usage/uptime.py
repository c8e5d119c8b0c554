"""How long the models of roles answered, from the states that they went through: a pure computation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["up", "down", "away"]
#: Between two notes that a server still runs, and two looks at the GPUs.
SAMPLE_SECONDS = 30.0


@dataclass(frozen=True)
class Service:
    """One life of a server: ``seen`` is when it was last known to run, ``core`` its core roles and their models.

    Times are seconds since the epoch. A server that was killed never ``ended``.
    """

    id: str
    started: float
    seen: float
    core: Mapping[str, str] = field(default_factory=dict)
    ended: bool = False


@dataclass(frozen=True)
class Change:
    """A model of a server went from one state to another; see the supervisor's table of states."""

    service: str
    time: float
    model: str
    previous: str
    state: str


@dataclass
class Uptime:
    """Seconds of a role.

    ``up``: its model was ready. ``down``: it had failed, or came back from that. ``away``: it was stopped on purpose
    (to make room, idle, by hand) or not started yet.
    """

    role: str
    up: float = 0.0
    down: float = 0.0
    away: float = 0.0

    @property
    def share(self) -> float | None:
        """Of the time that it should have been up; None where it never should."""
        wanted = self.up + self.down
        return self.up / wanted if wanted > 0 else None


def uptimes(services: Sequence[Service], changes: Iterable[Change], since: float, until: float) -> list[Uptime]:
    """The uptime of each core role within a period; roles in the order of their names.

    Time in which no server ran counts for nothing. A server that was killed counts until it was last seen.

    Args:
        services: The servers that ran then.
        changes: All states that their models went through, before the period, too.
        since: Beginning of the period, seconds since the epoch.
        until: Its end.
    """
    by_model: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in changes:
        by_model[change.service, change.model].append(change)
    found: dict[str, Uptime] = {}
    for service in services:
        first, last = max(service.started, since), min(service.seen, until)
        for role, model in service.core.items():
            # a model that some other server runs tells no states
            if (service.id, model) in by_model:
                total = found.setdefault(role, Uptime(role))
                _add(total, service.started, by_model[service.id, model], first, last)
    return [found[role] for role in sorted(found)]


def _add(total: Uptime, started: float, changes: list[Change], first: float, last: float) -> None:
    kind: Kind = "away"
    broken = False
    begin = started
    for change in sorted(changes, key=lambda one: one.time):
        _count(total, kind, max(begin, first), min(change.time, last))
        broken = _broken(broken, change)
        kind, begin = _kind(change.state, broken), change.time
    _count(total, kind, max(begin, first), last)


def _count(total: Uptime, kind: Kind, begin: float, end: float) -> None:
    if end > begin:
        setattr(total, kind, getattr(total, kind) + end - begin)


def _broken(before: bool, change: Change) -> bool:
    """Whether its model has failed and has not been ready, or stopped on purpose, since."""
    if change.state in ("backoff", "failed"):
        return True
    mended = change.state == "ready" or (change.state == "stopped" and change.previous != "failed")
    return before and not mended


def _kind(state: str, broken: bool) -> Kind:
    if state == "ready":
        return "up"
    # what starts again after a failure is still not there
    return "down" if broken else "away"
