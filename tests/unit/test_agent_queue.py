"""Which run begins next: one at a time on a thread, in order, fair among keys, by priority."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from benchai.server.agent.queue import Waiting, next_of

OWNERS, THREADS = ("ann", "bob", "cid"), ("one", "two", "three")
PER_KEY = st.one_of(st.none(), st.integers(1, 3))


def run(number: int, owner: str = "ann", thread: str | None = None, priority: int = 0, due: float = 0.0) -> Waiting:
    return Waiting(f"run-{number}", owner, thread or f"thread-{number}", priority, due, float(number))


@st.composite
def many_runs(draw: Any, most: int = 12) -> list[Waiting]:
    """Runs in the order in which they came; those of two owners may be on threads of the same name."""
    count = draw(st.integers(0, most))
    owners, threads = st.sampled_from(OWNERS), st.sampled_from(THREADS)
    return [
        run(n, draw(owners), draw(threads), draw(st.integers(-2, 2)), draw(st.sampled_from([0.0, 0.0, 5.0])))
        for n in range(count)
    ]


def place_of(one: Waiting) -> tuple[str, str]:
    return one.owner, one.thread_id


def could_begin(waiting: list[Waiting], working: list[Waiting], per_key: int | None, time: float) -> list[Waiting]:
    """What may begin at all, said another way than the code says it."""
    busy = {place_of(one) for one in working}
    counted = Counter(one.owner for one in working)
    ready = []
    for number, one in enumerate(waiting):
        earlier = [other for other in waiting[:number] if place_of(other) == place_of(one) and other.due <= time]
        allowed = per_key is None or counted[one.owner] < per_key
        if one.due <= time and not earlier and place_of(one) not in busy and allowed:
            ready.append(one)
    return ready


@given(many_runs(), many_runs(6), st.dictionaries(st.sampled_from(OWNERS), st.integers(1, 9)), PER_KEY, st.just(1.0))
def test_the_choice(
    waiting: list[Waiting], others: list[Waiting], served: dict[str, int], per_key: int | None, time: float
) -> None:
    working = list({place_of(one): one for one in others}.values())
    chosen = next_of(waiting, working, served, per_key, time)
    ready = could_begin(waiting, working, per_key, time)
    if not ready:
        assert chosen is None
        return
    assert chosen in ready
    counted = Counter(one.owner for one in working)

    def turn(owner: str) -> tuple[int, int]:
        return counted[owner], served.get(owner, 0)

    assert turn(chosen.owner) == min(turn(one.owner) for one in ready)
    alike = [one for one in ready if turn(one.owner) == turn(chosen.owner)]
    assert chosen.priority == max(one.priority for one in alike)
    assert chosen == next(one for one in alike if one.priority == chosen.priority)


@dataclass
class Server:
    """What a server does with the choice."""

    waiting: list[Waiting]
    per_key: int | None
    concurrency: int
    time: float = 0.0
    working: list[Waiting] = field(default_factory=list)
    served: dict[str, int] = field(default_factory=dict)
    begun: list[Waiting] = field(default_factory=list)

    def dispatch(self) -> None:
        while len(self.working) < self.concurrency:
            chosen = next_of(self.waiting, self.working, self.served, self.per_key, self.time)
            if chosen is None:
                return
            self.waiting.remove(chosen)
            self.working.append(chosen)
            self.begun.append(chosen)
            self.served[chosen.owner] = max(self.served.values(), default=0) + 1


@given(many_runs(20), PER_KEY, st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_server_that_works_through_all(runs: list[Waiting], per_key: int | None, concurrency: int, rnd: Any) -> None:
    server = Server(list(runs), per_key, concurrency)
    for _ in range(len(runs) * 2 + 2):
        server.dispatch()
        places = [place_of(one) for one in server.working]
        assert len(places) == len(set(places)), "two runs of a thread at a time"
        assert per_key is None or max(Counter(one.owner for one in server.working).values(), default=0) <= per_key
        if server.working:
            server.working.remove(rnd.choice(server.working))
        else:
            server.time += 5.0
    assert sorted(server.begun, key=lambda one: one.created) == runs, "a run never began, or began twice"
    for owner in OWNERS:
        for thread in THREADS:
            times = [one.created for one in server.begun if place_of(one) == (owner, thread) and one.due == 0.0]
            assert times == sorted(times), "runs of a thread out of order"


@given(st.lists(st.sampled_from(OWNERS), min_size=1, max_size=60), st.integers(1, 4))
def test_keys_take_turns(owners: list[str], concurrency: int) -> None:
    """Nobody has two runs more under way than a key whose runs wait."""
    server = Server([run(number, owner) for number, owner in enumerate(owners)], None, concurrency)
    while server.waiting:
        server.dispatch()
        under_way = Counter(one.owner for one in server.working)
        fewest = min((under_way[one.owner] for one in server.waiting), default=concurrency)
        assert max(under_way.values()) - fewest <= 1
        server.working.pop(0)
    assert Counter(one.owner for one in server.begun) == Counter(owners)


def test_a_key_that_floods_delays_nobody_else() -> None:
    server = Server([run(number, "ann") for number in range(100)], None, 2)
    server.dispatch()
    server.working.pop()
    server.waiting.append(run(200, "bob"))
    server.dispatch()
    assert server.begun[-1].owner == "bob"
    # with one place they take turns
    server = Server([run(number, "ann") for number in range(10)], None, 1)
    server.dispatch()
    server.waiting += [run(number, "bob") for number in range(20, 25)]
    for _ in range(8):
        server.working.clear()
        server.dispatch()
    assert [one.owner for one in server.begun] == ["ann", "bob"] * 4 + ["ann"]


def test_priority_is_of_ones_own_runs_alone() -> None:
    low, high, other = run(1, "ann", priority=0), run(2, "ann", priority=9), run(3, "bob", priority=-9)
    assert next_of([low, high], [], {}, None, 0.0) is high
    assert next_of([low, high, other], [run(9, "ann")], {}, None, 0.0) is other
    assert next_of([low, high, other], [], {"ann": 1}, None, 0.0) is other
    # no priority overtakes on a thread
    first, second = run(1, "ann", "one", priority=0), run(2, "ann", "one", priority=9)
    assert next_of([first, second], [], {}, None, 0.0) is first


def test_limits_and_times() -> None:
    assert next_of([], [], {}, None, 0.0) is None
    one, two = run(1, "ann"), run(2, "bob")
    assert next_of([one], [run(5, "ann")], {}, 1, 0.0) is None
    assert next_of([one, two], [run(5, "ann")], {}, 1, 0.0) is two
    late = run(3, "ann", due=10.0)
    assert next_of([late], [], {}, None, 9.9) is None
    assert next_of([late], [], {}, None, 10.0) is late
    # threads of two owners may have the same id: they are two threads
    assert next_of([run(4, "bob", "same")], [run(5, "ann", "same")], {}, None, 0.0) is not None
    assert next_of([run(4, "ann", "same")], [run(5, "ann", "same")], {}, None, 0.0) is None


def test_a_row_is_read_by_its_columns() -> None:
    columns = {"run_id": "r", "owner": "ann", "thread_id": "t", "priority": 3, "due": 1.5, "created": 1.0, "more": 0}
    row: Any = columns
    assert Waiting.of(row) == Waiting("r", "ann", "t", 3, 1.5, 1.0)
