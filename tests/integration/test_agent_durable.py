"""Runs of the agent wire outlive their clients and the server: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.agent_helpers import (
    Place,
    Sdk,
    SentEvent,
    Server,
    aside,
    asked,
    events_of,
    new_thread,
    place,
    read_stream,
    topic,
)

pytestmark = pytest.mark.timeout(90)
SLOWLY = ["first", "second", "third"]
ONCE = ["first", "second begins", "second", "third"]
#: What a run has done that was killed in its second node.
AGAIN = ["first", "second begins", "second begins", "second", "third"]
MODES = ["values", "updates", "custom"]
AT_A_TIME = 20
QUIT = {"concurrency": 50}


@dataclass
class Life:
    """A server that is ended and started again, on the same place and port."""

    place: Place
    stack: ExitStack
    server: Server
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def restart(self, end: Callable[[Server], None], **settings: Any) -> None:
        port = self.server.port
        end(self.server)
        self.close()
        self.place.configure(agent=QUIT | settings)
        self.stack = ExitStack()
        self.server = self.stack.enter_context(self.place.served(port))

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        self.clients.clear()
        self.stack.close()

    def http(self, name: str = "ann") -> httpx.Client:
        if name not in self.clients:
            self.clients[name] = self.server.http(name)
        return self.clients[name]

    def run(self, graph: str, about: str, thread: str | None = None, name: str = "ann", **more: Any) -> Run:
        """Make a run."""
        thread = thread or new_thread(self.http(name))
        body = asked(graph, about, stream_mode=MODES, **more)
        if "command" in more or "checkpoint_id" in more:
            # it goes on
            del body["input"]
        made = self.http(name).post(f"/threads/{thread}/runs", json=body).raise_for_status().json()
        return Run(self, thread, made["run_id"], about, name)

    def held(self, graph: str, about: str, thread: str | None = None, **more: Any) -> Run:
        """Make a run that comes to its gate."""
        run = self.run(graph, about, thread, **more)
        self.place.gates.reached(about)
        return run


@dataclass
class Run:
    """A run of a test: where it is, and what it does things for."""

    life: Life
    thread: str
    key: str
    about: str
    name: str = "ann"

    @property
    def path(self) -> str:
        return f"/threads/{self.thread}/runs/{self.key}"

    def get(self, what: str = "") -> Any:
        return self.life.http(self.name).get(f"{self.path}{what}").raise_for_status().json()

    def join(self) -> Any:
        return self.get("/join")

    def let_go(self) -> Any:
        """Open its gate; what it ends with."""
        self.life.place.gates.open(self.about)
        return self.join()

    def events(self, last: int | str | None = None) -> list[SentEvent]:
        return read_stream(self.life.http(self.name), f"{self.path}/stream", last)

    @property
    def effects(self) -> list[str]:
        return self.life.place.effects(self.about)

    def thread_now(self) -> Any:
        return self.life.http(self.name).get(f"/threads/{self.thread}").raise_for_status().json()

    def decide(self, answer: Any, graph: str, **headers: str) -> httpx.Response:
        body = {"assistant_id": graph, "command": {"resume": answer}, "stream_mode": MODES}
        return self.life.http(self.name).post(f"/threads/{self.thread}/runs", json=body, headers=headers)

    def decided(self, answer: Any, graph: str) -> Run:
        """The run that goes on with a decision."""
        made = self.decide(answer, graph).raise_for_status().json()
        return Run(self.life, self.thread, made["run_id"], self.about, self.name)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder: Path = tmp_path_factory.mktemp("durable")
    with place(folder, agent=QUIT) as made:
        stack = ExitStack()
        lives = Life(made, stack, stack.enter_context(made.served()))
        try:
            yield lives
            lives.server.end()
        finally:
            lives.close()


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Do something many times at the same time."""
    barrier = threading.Barrier(AT_A_TIME)

    def begin(number: int) -> Any:
        barrier.wait(10)
        return work(number)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(begin, range(AT_A_TIME)))


# --- events ---


def test_what_was_missed_is_replayed(life: Life) -> None:
    run = life.held("slow", topic())
    life.place.gates.tick(run.about, 3)
    run.let_go()
    everything = run.events()
    names = [event.name for event in everything]
    assert names == ["metadata", "values", "custom", "updates", "values", *["custom"] * 3, *["updates", "values"] * 2]
    ids = [event.id for event in everything]
    assert ids == sorted(set(ids))
    for place_of, known in enumerate(ids):
        assert run.events(known) == everything[place_of + 1 :]
    assert run.events("-1") == run.events("0") == run.events("") == everything
    other = life.run("instant", topic())
    other.join()
    # the ids of a server's runs do not meet; another run's event leaves out what came before it
    assert {event.id for event in other.events()}.isdisjoint(ids)
    assert run.events(other.events()[-1].id) == []
    assert other.events(ids[3]) == other.events()
    for bad in ("x", "1.5", "-2", "9" * 30, "٣"):
        headers = {"Last-Event-ID": bad.encode()}
        assert life.http().get(f"{run.path}/stream", headers=headers).status_code == 422  # type: ignore[arg-type]


def test_readers_at_every_place_of_a_run_under_way(life: Life) -> None:
    run = life.held("slow", topic())
    life.place.gates.tick(run.about, 2)
    with ExitStack() as stack:
        first = events_of(stack.enter_context(life.http().stream("GET", f"{run.path}/stream")))
        known = [next(first) for _ in range(7)]
        later = [
            events_of(stack.enter_context(life.http().stream("GET", f"{run.path}/stream", headers=after(event))))
            for event in known
        ]
        life.place.gates.tick(run.about, 4)
        # one goes away in the middle, and comes again
        left = [next(later[0]) for _ in range(5)]
        again = run_after(life, stack, run, left[-1])
        life.place.gates.open(run.about)
        everything = [*known, *first]
        assert [event.data.get("tick") for event in everything].count(run.about) == 6
        for place_of, reader in enumerate(later):
            found = [*left, *again] if place_of == 0 else list(reader)
            assert found == everything[place_of + 1 :]
    assert run.events() == everything


def after(event: SentEvent) -> dict[str, str]:
    return {"Last-Event-ID": str(event.id)}


def run_after(life: Life, stack: ExitStack, run: Run, event: SentEvent) -> Iterator[SentEvent]:
    return events_of(stack.enter_context(life.http().stream("GET", f"{run.path}/stream", headers=after(event))))


# --- clients that go away ---


@pytest.mark.parametrize("cancels", [False, True])
@pytest.mark.parametrize("how", ["stream", "wait", "join", "join stream", "alone stream", "alone wait"])
def test_a_client_goes_away(life: Life, how: str, cancels: bool) -> None:
    about = topic(how.replace(" ", "-"))
    with life.server.http() as client:
        method, path, settings = asking(life, how, about, cancels)
        with client.stream(method, path, **settings) as response:
            assert response.status_code == 200
            named = response.headers["content-location"].split("/")
            life.place.gates.reached(about)
            if "stream" in how:
                assert next(events_of(response)).name == "metadata"
    run = Run(life, named[2], named[4], about)
    if cancels:
        life.place.gates.empty(about)
        run.join()
        assert run.get()["status"] == "interrupted"
        assert run.effects == ["first", "second begins"]
    else:
        assert run.let_go()["steps"] == SLOWLY
        assert run.effects == ONCE


def asking(life: Life, how: str, about: str, cancels: bool) -> tuple[str, str, dict[str, Any]]:
    """The request that a client leaves."""
    if how.startswith("join"):
        run = life.held("slow", about)
        path = f"{run.path}/{'stream' if 'stream' in how else 'join'}"
        return "GET", path, {"params": {"cancel_on_disconnect": str(cancels).lower()}}
    start = "" if how.startswith("alone") else f"/threads/{new_thread(life.http())}"
    body = asked("slow", about, on_disconnect="cancel" if cancels else "continue")
    return "POST", f"{start}/runs/{how.split()[-1]}", {"json": body}


# --- what is asked for twice ---


def test_a_decision_takes_effect_once(life: Life) -> None:
    for graph in ("asking", "held"):
        run = life.run(graph, topic(graph))
        run.join()
        with ExitStack() as stack:
            clients = [stack.enter_context(life.server.http()) for _ in range(AT_A_TIME)]

            def decide(number: int) -> httpx.Response:
                body = {"assistant_id": graph, "command": {"resume": number}}  # noqa: B023
                return clients[number].post(f"/threads/{run.thread}/runs", json=body)  # noqa: B023

            answers = at_once(decide)
        assert Counter(one.status_code for one in answers) == {200: 1, 409: AT_A_TIME - 1}
        assert all("detail" in one.json() for one in answers if one.status_code == 409)
        [(number, won)] = [(n, one.json()["run_id"]) for n, one in enumerate(answers) if one.status_code == 200]
        if graph == "held":
            # still under way
            assert run.decide("late", graph).status_code == 409
            life.place.gates.open(run.about)
        Run(life, run.thread, won, run.about).join()
        assert run.decide("later", graph).status_code == 409
        assert [one for one in run.effects if one.startswith("asked")] == [f"asked {number}"]
        assert run.effects.count("third") == 1
        assert len(life.http().get(f"/threads/{run.thread}/runs").json()) == 2


@pytest.mark.parametrize("graph", ["held", "pondering", "deep"])
def test_a_decision_that_was_rolled_back_can_be_made_anew(life: Life, graph: str) -> None:
    run = life.run(graph, topic(graph))
    asked_for = run.join()["__interrupt__"]
    before = run.thread_now()
    state = life.http().get(f"/threads/{run.thread}/state", params={"subgraphs": True}).json()
    taken = run.decided("one", graph)
    life.place.gates.reached(run.about)
    assert life.http().post(f"{taken.path}/cancel", params={"wait": 1, "action": "rollback"}).json() == {}
    life.place.gates.empty(run.about)
    now = run.thread_now()
    for what in ("status", "values", "interrupts"):
        assert now[what] == before[what]
    assert life.http().get(f"/threads/{run.thread}/state", params={"subgraphs": True}).json() == state
    assert [one["id"] for found in now["interrupts"].values() for one in found] == [one["id"] for one in asked_for]
    again = run.decided("two", graph)
    end = again.let_go()
    word = "ponders" if graph == "pondering" else "asks"
    assert end["steps"] == ["first", word, *(["second"] if graph != "pondering" else []), "third"]
    said = [one.split()[-1] for one in run.effects if one.startswith(("asked", "ponders"))]
    assert said == ["one", "two"]
    assert run.effects.count("first") == 1


def test_a_decision_that_was_taken_is_not_taken_back_by_a_cancel(life: Life) -> None:
    run = life.run("pondering", topic("pondering"))
    run.join()
    taken = run.decided("one", "pondering")
    life.place.gates.reached(run.about)
    life.http().post(f"{taken.path}/cancel", params={"wait": 1}).raise_for_status()
    life.place.gates.empty(run.about)
    second = run.decide("two", "pondering")
    if second.status_code == 200:
        # then it is the one that counts
        Run(life, run.thread, second.json()["run_id"], run.about).let_go()
        assert run.effects == ["first", "ponders one", "ponders two", "third"]
        return
    assert second.status_code == 409
    life.held("pondering", run.about, run.thread, command=None).let_go()
    assert run.effects == ["first", "ponders one", "ponders one", "third"]


def test_a_request_with_a_key_makes_one_run(life: Life) -> None:
    about, key = topic(), {"Idempotency-Key": topic("key")}
    thread, body = new_thread(life.http()), asked("slow", about)
    with ExitStack() as stack:
        clients = [stack.enter_context(life.server.http()) for _ in range(AT_A_TIME)]
        answers = at_once(lambda n: clients[n].post(f"/threads/{thread}/runs", json=body, headers=key))
    assert {one.status_code for one in answers} == {200}
    [run_id] = {one.json()["run_id"] for one in answers}
    run = Run(life, thread, run_id, about)
    # while it is under way, and when it has ended; waited for, and streamed
    with life.server.http() as waits, aside(lambda: wait_with(waits, thread, body, key)) as waited:
        run.let_go()
        assert waited.result().json()["steps"] == SLOWLY
    assert wait_with(life.http(), thread, body, key).json()["steps"] == SLOWLY
    with life.http().stream("POST", f"/threads/{thread}/runs/stream", json=body, headers=key) as response:
        assert list(events_of(response)) == run.events()
    assert run.effects == ONCE
    for path, other in (
        (f"/threads/{thread}/runs", asked("slow", "other")),
        (f"/threads/{new_thread(life.http())}/runs", body),
        ("/runs", body),
    ):
        refused = life.http().post(path, json=other, headers=key)
        assert (refused.status_code, list(refused.json())) == (409, ["detail"])
    bobs = life.http("bob").post(
        f"/threads/{new_thread(life.http('bob'))}/runs/wait", json=asked("instant", "x"), headers=key
    )
    assert bobs.status_code == 200
    assert bobs.json()["answer"] == "done x"


def wait_with(client: httpx.Client, thread: str, body: dict[str, Any], key: dict[str, str]) -> httpx.Response:
    return client.post(f"/threads/{thread}/runs/wait", json=body, headers=key)


def test_a_key_of_a_request_that_was_refused_is_free(life: Life) -> None:
    key = {"Idempotency-Key": topic("key")}
    assert life.http().post("/runs", json=asked("nope", "x"), headers=key).status_code == 422
    assert life.http().post("/runs", json=asked("instant", "x"), headers=key).status_code == 200
    batch = [asked("instant", "a"), asked("instant", "b")]
    key = {"Idempotency-Key": topic("key")}
    one, two = (life.http().post("/runs/batch", json=batch, headers=key).json() for _ in range(2))
    assert [run["run_id"] for run in one] == [run["run_id"] for run in two]
    assert len({run["run_id"] for run in one}) == 2


# --- the server is killed ---


@dataclass
class Killed:
    """Runs that were under way when the server was killed; it has started again since."""

    life: Life
    runs: dict[str, Run] = field(default_factory=dict)
    seen: list[SentEvent] = field(default_factory=list)
    joined: Any = None
    streamed: list[Any] = field(default_factory=list)

    def __getitem__(self, name: str) -> Run:
        return self.runs[name]


@pytest.fixture(scope="module")
def killed(life: Life) -> Killed:
    """All that the tests below look at, so that one kill does for them."""
    found = Killed(life)
    runs = found.runs = prepared(life)
    plain = runs["plain"]
    life.place.gates.tick(plain.about, 2)
    with ExitStack() as stack:
        joins, streams = (stack.enter_context(Sdk(life.server, kind)) for kind in ("async", "sync"))
        stream = streams.each(streams.runs.join_stream(plain.thread, plain.key))
        found.streamed += [next(stream) for _ in range(7)]
        with life.http().stream("GET", f"{plain.path}/stream") as response:
            reader = events_of(response)
            found.seen += [next(reader) for _ in range(7)]
        heard = joins.heard()
        warned = stack.enter_context(pytest.warns(UserWarning, match="attempting reconnect"))
        with aside(lambda: joins(joins.runs.join(plain.thread, plain.key))) as joined:
            assert heard.wait(10)
            # what was answered is kept, however far it has come
            for name, action in (("cut", "interrupt"), ("undone", "rollback")):
                answer = life.http().post(f"{runs[name].path}/cancel", params={"action": action})
                assert answer.status_code == 200
            life.restart(Server.kill)
            life.place.gates.open(plain.about)
            found.streamed += stream
            found.joined = joined.result()
        assert len(warned) == 1
    return found


def prepared(life: Life) -> dict[str, Run]:
    """Runs in the middle of their work, each in another way."""
    done = life.run("instant", topic("done"))
    done.join()
    waiting = life.run("asking", topic("waiting"))
    waiting.join()
    plain = life.held("slow", topic("plain"))
    found = {
        "done": done,
        "waiting": waiting,
        "plain": plain,
        "queued": life.run("slow", topic("queued"), plain.thread),
        "stops": life.held("slow", topic("stops"), interrupt_before=["third"]),
        "back": life.held("slow", topic("back")),
        "cut": life.held("slow", topic("cut")),
        "undone": life.held("slow", topic("undone")),
        "keyed": keyed(life),
        "alone": alone(life),
    }
    late = topic("late")
    found["late"] = life.run("late", late)
    for name, graph in (("decided", "held"), ("ponders", "pondering"), ("nested", "deep")):
        run = life.run(graph, topic(name))
        run.join()
        found[name] = run.decided("yes", graph)
    uneven = found["uneven"] = life.run("uneven", topic("uneven"))
    life.place.gates.reached(uneven.about)
    with life.http().stream("GET", f"{uneven.path}/stream", params={"stream_mode": "updates"}) as response:
        assert any(event.data.get("first") for event in events_of(response))
    commanded = life.run("slow", topic("commanded"), interrupt_before=["second"])
    commanded.join()
    command = {"update": {"steps": ["updated"]}, "goto": "second"}
    found["commanded"] = life.run("slow", commanded.about, commanded.thread, command=command)
    forked = life.run("slow", topic("forked"))
    forked.let_go()
    points = life.http().get(f"/threads/{forked.thread}/history").json()
    [point] = [one["checkpoint"]["checkpoint_id"] for one in points if one["next"] == ["second"]]
    found["forked"] = life.run("slow", forked.about, forked.thread, checkpoint_id=point)
    for name, run in found.items():
        if name not in ("done", "waiting", "queued"):
            life.place.gates.reached(run.about)
    return found


def keyed(life: Life) -> Run:
    about, thread = topic("keyed"), new_thread(life.http())
    path, key = f"/threads/{thread}/runs", {"Idempotency-Key": about}
    made = life.http().post(path, json=asked("slow", about), headers=key).raise_for_status().json()
    return Run(life, thread, made["run_id"], about)


def alone(life: Life) -> Run:
    about = topic("alone")
    made = life.http().post("/runs", json=asked("slow", about)).raise_for_status().json()
    return Run(life, made["thread_id"], made["run_id"], about)


def test_a_run_goes_on_from_its_checkpoint(killed: Killed) -> None:
    run = killed["plain"]
    assert run.join()["steps"] == SLOWLY
    assert run.get()["status"] == "success"
    assert run.effects == AGAIN


def test_the_clients_join_gets_the_result(killed: Killed) -> None:
    assert killed.joined["answer"] == f"done {killed['plain'].about}"


def test_no_event_is_lost_or_comes_twice(killed: Killed) -> None:
    everything = killed["plain"].events()
    assert everything[: len(killed.seen)] == killed.seen
    ids = [event.id for event in everything]
    assert ids == sorted(set(ids))
    attempts = [event.data["attempt"] for event in everything if event.name == "metadata"]
    assert attempts == [1, 2]
    assert [(part.event, part.data, int(part.id)) for part in killed.streamed] == [
        (event.name, event.data, event.id) for event in everything
    ]
    for place_of, known in enumerate(ids):
        assert killed["plain"].events(known) == everything[place_of + 1 :]
    updates = [list(event.data) for event in everything if event.name == "updates"]
    assert updates == [["first"], ["second"], ["third"]]


def test_what_waited_begins_afterwards(killed: Killed) -> None:
    run = killed["queued"]
    assert run.let_go()["steps"] == SLOWLY * 2
    assert run.effects == ONCE
    assert [event.data["attempt"] for event in run.events() if event.name == "metadata"] == [1]


def test_what_had_ended_is_still_there(killed: Killed) -> None:
    run = killed["done"]
    assert (run.get()["status"], run.join()["steps"]) == ("success", ["first", "third"])
    assert [event.name for event in run.events()][:2] == ["metadata", "values"]
    assert run.effects == ["first", "third"]


@pytest.mark.parametrize("graph", ["decided", "nested"])
def test_a_decision_is_not_asked_for_again(killed: Killed, graph: str) -> None:
    run, of = killed[graph], {"decided": "held", "nested": "deep"}[graph]
    assert run.decide("no", of).status_code == 409
    assert run.let_go()["steps"] == ["first", "asks", "second", "third"]
    assert run.effects == ["first", "asked yes", "second begins", "second begins", "second", "third"]
    assert run.decide("no", of).status_code == 409
    assert run.get()["status"] == "success"


def test_a_node_that_was_given_a_decision_gets_it_again(killed: Killed) -> None:
    run = killed["ponders"]
    assert run.let_go()["answer"] == f"done {run.about}"
    assert run.join()["steps"] == ["first", "ponders", "third"]
    assert run.effects == ["first", "ponders yes", "ponders yes", "third"]
    assert run.decide("no", "pondering").status_code == 409


def test_a_question_still_waits_for_its_decision(killed: Killed) -> None:
    run = killed["waiting"]
    assert run.thread_now()["status"] == "interrupted"
    going_on = run.decided("yes", "asking")
    assert going_on.join()["steps"] == ["first", "asks", "third"]
    assert run.decide("yes", "asking").status_code == 409
    assert run.effects == ["first", "asked yes", "third"]


def test_an_input_is_taken_once(killed: Killed) -> None:
    run = killed["late"]
    assert run.let_go()["steps"] == ["second", "third"]
    assert run.effects == ["second begins", "second begins", "second", "third"]


def test_a_command_is_taken_once(killed: Killed) -> None:
    run = killed["commanded"]
    assert run.let_go()["steps"] == ["first", "updated", "second", "third"]
    assert run.effects == AGAIN


def test_a_branch_goes_on(killed: Killed) -> None:
    run = killed["forked"]
    assert run.let_go()["steps"] == SLOWLY
    assert run.effects == [*ONCE, "second begins", "second begins", "second", "third"]


def test_what_ended_beside_it_does_not_run_again(killed: Killed) -> None:
    run = killed["uneven"]
    assert sorted(run.let_go()["steps"]) == ["first", "second"]
    assert run.effects.count("first") == 1


def test_it_stops_where_it_was_to_stop(killed: Killed) -> None:
    run = killed["stops"]
    assert run.let_go()["steps"] == ["first", "second"]
    assert run.thread_now()["status"] == "interrupted"
    assert "third" not in run.effects


def test_a_run_without_a_thread_goes_on(killed: Killed) -> None:
    run = killed["alone"]
    assert run.let_go()["steps"] == SLOWLY
    assert run.effects == AGAIN


def test_a_key_is_known_afterwards(killed: Killed) -> None:
    run, http = killed["keyed"], killed.life.http()
    path, key = f"/threads/{run.thread}/runs", {"Idempotency-Key": run.about}
    assert http.post(path, json=asked("slow", run.about), headers=key).json()["run_id"] == run.key
    assert http.post(path, json=asked("slow", "other"), headers=key).status_code == 409
    assert run.let_go()["steps"] == SLOWLY
    assert http.post(f"{path}/wait", json=asked("slow", run.about), headers=key).json()["steps"] == SLOWLY
    assert run.effects == AGAIN


def test_it_is_rolled_back_to_where_it_began(killed: Killed) -> None:
    run, http = killed["back"], killed.life.http()
    killed.life.place.gates.reached(run.about)
    assert http.post(f"{run.path}/cancel", params={"wait": 1, "action": "rollback"}).json() == {}
    assert http.get(run.path).status_code == 404
    assert (run.thread_now()["status"], run.thread_now()["values"]) in (("idle", {}), ("idle", None))
    assert http.get(f"/threads/{run.thread}/state").json()["values"] == {}


def test_what_was_cancelled_stays_so(killed: Killed) -> None:
    cut, undone = killed["cut"], killed["undone"]
    cut.join()
    assert (cut.get()["status"], cut.thread_now()["status"]) == ("interrupted", "interrupted")
    assert cut.effects == undone.effects == ["first", "second begins"]
    gone = killed.life.http().get(f"{undone.path}/join")
    assert gone.status_code == 404 or gone.json()["__error__"]["error"] == "UserRollback"
    assert killed.life.http().get(undone.path).status_code == 404
    assert undone.thread_now()["status"] == "idle"
    assert killed.life.http().get(f"/threads/{undone.thread}/state").json()["values"] == {}


# --- the server is ended in order, or may not go on ---


def test_it_ends_in_order_and_goes_on(life: Life) -> None:
    run = life.held("slow", topic("ended"))
    waits = life.run("slow", topic("behind"), run.thread)
    with ExitStack() as stack:
        client = stack.enter_context(life.server.http())
        reader = events_of(stack.enter_context(client.stream("GET", f"{run.path}/stream")))
        seen = [next(reader) for _ in range(5)]
        ending = threading.Thread(target=life.restart, args=(Server.end,))
        ending.start()
        with contextlib.suppress(httpx.HTTPError):
            seen += reader
        ending.join(60)
        assert not ending.is_alive()
    assert "error" not in {event.name for event in seen}
    assert run.get()["status"] in ("pending", "running")
    assert run.let_go()["steps"] == SLOWLY
    assert run.effects == AGAIN
    assert run.events()[: len(seen)] == seen
    assert waits.let_go()["steps"] == SLOWLY * 2
    assert waits.effects == ONCE


@pytest.fixture(scope="module")
def limited(life: Life) -> tuple[Run, Run]:
    """A server that may not go on with what it was killed in, and that has few places."""
    run = life.held("slow", topic("off"))
    waits = life.run("slow", topic("behind"), run.thread)
    life.restart(Server.kill, resume_after_restart=False, concurrency=2, per_key=1, queue=2)
    # what had not begun is no broken run
    assert waits.let_go()["steps"] == ["first", *SLOWLY]
    return run, waits


def test_it_may_not_go_on(limited: tuple[Run, Run]) -> None:
    run, waits = limited
    assert run.join()["__error__"]["error"] == "ServerEnded"
    assert run.get()["status"] == "error"
    last = run.events()[-1]
    assert (last.name, last.data["error"]) == ("error", "ServerEnded")
    assert run.effects == ["first", "second begins"]
    assert waits.thread_now()["status"] == "idle"


def test_places_are_shared(limited: tuple[Run, Run]) -> None:
    life = limited[0].life
    first = life.held("slow", topic("first"))
    low = life.run("slow", topic("low"))
    high = life.run("slow", topic("high"), config={"configurable": {"priority": 5}})
    # her second and third wait for her first, his begins at once
    his = life.held("slow", topic("his"), name="bob")
    assert (low.get()["status"], high.get()["status"], his.get()["status"]) == ("pending", "pending", "running")
    refused = life.http().post("/runs", json=asked("slow", "never"))
    assert (refused.status_code, list(refused.json())) == (429, ["detail"])
    assert int(refused.headers["retry-after"]) >= 1
    for run, then in ((first, high), (high, low), (low, his)):
        assert run.let_go()["steps"] == SLOWLY
        life.place.gates.reached(then.about)
        assert {one.about for one in (low, high) if life.place.gates.nobody(one.about)} == {
            one.about for one in (low, high) if one is not then
        }
    his.let_go()
    assert life.place.effects("never") == []
