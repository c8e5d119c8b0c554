"""Which run begins next: a pure decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchai.server.agent.database import Row


@dataclass(frozen=True)
class Waiting:
    """What is known of a run that has not ended; times in seconds since the epoch, ``number`` grows with each run."""

    run_id: str
    owner: str
    thread_id: str
    priority: int
    due: float
    created: float

    @classmethod
    def of(cls, row: Row) -> Waiting:
        """From a row of the table."""
        return cls(*(row[name] for name in ("run_id", "owner", "thread_id", "priority", "due", "created")))


def next_of(
    waiting: Sequence[Waiting],
    working: Sequence[Waiting],
    served: Mapping[str, int],
    per_key: int | None,
    time: float,
) -> Waiting | None:
    """The run that begins next, or None.

    One at a time on a thread, in the order in which they came. Among owners the one with the fewest runs under way
    comes first, then the one that was served longest ago; among an owner's runs the one of the highest priority, then
    the oldest.

    Args:
        waiting: Those that wait, the oldest first.
        working: Those under way.
        served: Owner -> a number that grows with each turn it was given.
        per_key: Runs that an owner may have under way; None: any.
        time: Now.
    """
    under_way = Counter(one.owner for one in working)
    taken = {(one.owner, one.thread_id) for one in working}
    ready: list[Waiting] = []
    for one in waiting:
        place = one.owner, one.thread_id
        if place not in taken and one.due <= time:
            # only the first of a thread
            taken.add(place)
            if per_key is None or under_way[one.owner] < per_key:
                ready.append(one)
    return min(ready, key=lambda one: (under_way[one.owner], served.get(one.owner, 0), -one.priority), default=None)


def begins_at_once(
    new: Waiting, waiting: Sequence[Waiting], working: Sequence[Waiting], concurrency: int, per_key: int | None
) -> bool:
    """Whether a new run would begin now, after all that wait and can begin; see ``next_of``."""
    left, under_way = [*waiting, new], list(working)
    while len(under_way) < concurrency:
        chosen = next_of(left, under_way, {}, per_key, new.created)
        if chosen is None or chosen is new:
            return chosen is new
        left.remove(chosen)
        under_way.append(chosen)
    return False
