"""Graphs, gates and clients for the tests of the agent wire: `benchai serve` as a process, and nothing that sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import itertools
import json
import socketserver
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from tests.integration.helpers import LIMIT, tiny_config, until, write_config
from tests.integration.serve_helpers import Served, clean, launched

KEYS = {"ann": "key-of-ann", "bob": "key-of-bob"}
#: A UUID that nothing has.
NOBODY = "00000000-0000-4000-8000-000000000000"

FLOWS = '''
"""Graphs that need no model; what a node has done stands in a file, and some nodes wait at a gate of the test."""

import asyncio
import operator
import os
from pathlib import Path
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    steps: Annotated[list[str], operator.add]
    answer: str


def done(state, what):
    """A side effect: how often it happened can be counted afterwards."""
    with (Path(os.environ["EFFECTS"]) / state.get("topic", "none")).open("a") as file:
        file.write(what + "\\n")


async def gate(topic):
    """Wait at the gate of the test; each line but the last is a tick."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["GATE"]))
    try:
        writer.write(topic.encode() + b"\\n")
        while (line := await reader.readline()) == b"tick\\n":
            get_stream_writer()({"tick": topic})
            writer.write(b"ticked\\n")
        assert line == b"go\\n", line
    finally:
        writer.close()


async def first(state):
    done(state, "first")
    get_stream_writer()({"at": "first"})
    return {"steps": ["first"]}


async def second(state):
    done(state, "second begins")
    await gate(state["topic"])
    done(state, "second")
    return {"steps": ["second"]}


async def third(state):
    done(state, "third")
    return {"steps": ["third"], "answer": f"done {state.get('topic')}", "messages": [AIMessage("done")]}


async def fails(state):
    done(state, "fails")
    raise ValueError("boom!")


async def asks(state):
    answer = interrupt({"question": state.get("topic")})
    done(state, f"asked {answer}")
    return {"steps": ["asks"], "answer": f"got {answer}"}


async def ponders(state):
    answer = interrupt({"question": state.get("topic")})
    done(state, f"ponders {answer}")
    await gate(state["topic"])
    return {"steps": ["ponders"], "answer": f"got {answer}"}


async def left(state):
    return {"steps": [f"left {interrupt('left?')}"]}


async def right(state):
    return {"steps": [f"right {interrupt('right?')}"]}


def chain(*nodes, **named):
    graph, before = StateGraph(State), START
    for name, node in [*((node.__name__, node) for node in nodes), *named.items()]:
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


def both(*nodes):
    graph = StateGraph(State)
    for node in nodes:
        name = node.__name__
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    return graph


instant = chain(first, third)
slow = chain(first, second, third)
failing = chain(first, fails)
asking = chain(first, asks, third)
held = chain(first, asks, second, third)
nested = chain(child=chain(first, third).compile(), after=third)
deep = chain(child=chain(first, asks, second).compile(), third=third)
pondering = chain(first, ponders, third)
late = chain(second, third)
pair = both(left, right)
uneven = both(first, second)
'''
GRAPHS = (
    "instant", "slow", "failing", "asking", "held", "nested", "deep", "pair", "pondering", "late", "uneven",
)  # fmt: skip


class Gates:
    """Where nodes wait until the test lets them go; one visit of a node for each time that it was started."""

    def __init__(self) -> None:
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=True)
        self._server.daemon_threads = True
        self._changed = threading.Condition()
        self._waiting: dict[str, list[Any]] = {}
        self.port: int = self._server.server_address[1]
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Gates:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        gates = self

        class Visit(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                topic = self.rfile.readline().decode().strip()
                self.ticks, self.left = threading.Semaphore(0), threading.Event()
                with gates._changed:
                    gates._waiting.setdefault(topic, []).append(self)
                    gates._changed.notify_all()
                with contextlib.suppress(OSError):
                    while self.rfile.readline():
                        self.ticks.release()
                self.left.set()
                with gates._changed:
                    gates._waiting[topic].remove(self)
                    gates._changed.notify_all()

        return Visit

    def reached(self, topic: str) -> Any:
        """Wait until a node waits there; its visit."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting.get(topic), LIMIT), f"nobody came to {topic!r}"
            return self._waiting[topic][0]

    def tick(self, topic: str, times: int = 1) -> None:
        """Have the node write so many custom events."""
        visit = self.reached(topic)
        for _ in range(times):
            visit.wfile.write(b"tick\n")
            assert visit.ticks.acquire(timeout=LIMIT)

    def open(self, topic: str) -> None:
        """Let the node go on, once it is there."""
        visit = self.reached(topic)
        visit.wfile.write(b"go\n")
        assert visit.left.wait(LIMIT)

    def empty(self, topic: str) -> None:
        """Wait until no node waits there any more: it was let go, cancelled or killed."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._waiting.get(topic), LIMIT), f"still at {topic!r}"

    def nobody(self, topic: str) -> bool:
        """Whether no node waits there."""
        with self._changed:
            return not self._waiting.get(topic)


@dataclass
class Place:
    """A folder with a configuration, its user folder, and the gates of its graphs."""

    folder: Path
    gates: Gates

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def configure(self, keys: bool = True, **sections: Any) -> None:
        entries = [{"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()} for name, key in KEYS.items()]
        server = {"keys": entries} if keys else {}
        # nothing but the clients' own messages stands in a thread
        data = tiny_config() | {
            "memory": {"enabled": False},
            "workflows": {name: f"./flows.py:{name}" for name in GRAPHS},
        }
        (self.folder / "flows.py").write_text(FLOWS, encoding="utf-8")
        write_config(self.folder, data | {"server": server} | sections)

    @contextlib.contextmanager
    def served(self, port: int = 0) -> Iterator[Server]:
        """A server on this place that can be found: what an earlier one left behind does not count."""
        effects = self.folder / "effects"
        effects.mkdir(exist_ok=True)
        env = {"GATE": str(self.gates.port), "EFFECTS": str(effects)}

        def announced() -> bool:
            return server.state.exists() and server.record["pid"] == server.process.pid

        with launched(self.folder, "--port", str(port), home=self.home, env=env) as server:
            until(lambda: announced() or server.process.poll() is not None)
            assert server.process.poll() is None, server.text
            yield Server(server, self)

    def effects(self, topic: str) -> list[str]:
        """What nodes have done for a topic, in order."""
        file = self.folder / "effects" / topic
        return file.read_text().splitlines() if file.exists() else []


@dataclass
class Server:
    """A server under way."""

    served: Served
    place: Place

    @property
    def url(self) -> str:
        return str(self.served.record["url"])

    @property
    def gates(self) -> Gates:
        return self.place.gates

    def http(self, name: str = "ann", **options: Any) -> httpx.Client:
        """A client with somebody's key."""
        headers = {"x-api-key": KEYS[name], **options.pop("headers", {})}
        return httpx.Client(base_url=self.url, headers=headers, timeout=LIMIT, trust_env=False, **options)

    @property
    def port(self) -> int:
        return int(httpx.URL(self.url).port or 0)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.served.process.kill()
        self.served.process.wait(LIMIT)

    def end(self) -> None:
        """End it in order."""
        assert self.served.end().code == 0, self.served.text
        clean(self.served.text)


class Sdk:
    """A client of langgraph_sdk, asynchronous or not, that tests call in the same way."""

    def __init__(self, server: Server, kind: str, name: str = "ann") -> None:
        self._runner = asyncio.Runner() if kind == "async" else None
        make: Any = get_client if kind == "async" else get_sync_client
        self._client: LangGraphClient | SyncLangGraphClient = make(url=server.url, api_key=KEYS[name])
        self.kind = kind
        found: Any = self._client
        self.assistants, self.threads, self.runs = found.assistants, found.threads, found.runs
        self.store, self.crons = found.store, found.crons

    def __enter__(self) -> Sdk:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._client, LangGraphClient):
            self(self._client.aclose())
        else:
            self._client.close()
        if self._runner is not None:
            self._runner.close()

    def __call__(self, made: Any) -> Any:
        """What a call returns."""
        return self._wait(made) if inspect.isawaitable(made) else made

    def _wait(self, made: Any) -> Any:
        async def wait() -> Any:
            return await made

        assert self._runner is not None
        return self._runner.run(wait())

    def heard(self) -> threading.Event:
        """Set when the head of the next response has come."""
        came = threading.Event()

        async def hear(_: httpx.Response) -> None:
            came.set()

        hook: Any = hear if isinstance(self._client, LangGraphClient) else lambda _: came.set()
        self._client.http.client.event_hooks = {"response": [hook]}
        return came

    def each(self, made: Any) -> Iterator[Any]:
        """The parts of a stream as they come; closing the iterator closes the connection."""
        found = self(made)
        if not hasattr(found, "__anext__"):
            yield from found
            return
        try:
            while True:
                try:
                    yield self._wait(anext(found))
                except StopAsyncIteration:
                    return
        finally:
            self._wait(found.aclose())

    def all(self, made: Any) -> list[Any]:
        """All parts of a stream."""
        return list(self.each(made))


@contextlib.contextmanager
def aside(work: Any, *given: Any) -> Iterator[Future[Any]]:
    """Do something in another thread meanwhile; its end is waited for."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work, *given)


@contextlib.contextmanager
def place(folder: Path, **sections: Any) -> Iterator[Place]:
    """A folder to serve."""
    with Gates() as gates:
        made = Place(folder, gates)
        made.configure(**sections)
        yield made


_numbers = itertools.count(1)


def topic(word: str = "topic") -> str:
    """A word that no other run has: its gate and its side effects are its own."""
    return f"{word}-{next(_numbers)}"


def asked(graph: str, about: str, **more: Any) -> dict[str, Any]:
    """The body of a run."""
    return {"assistant_id": graph, "input": {"topic": about}, **more}


def new_thread(client: httpx.Client, **body: Any) -> str:
    return str(client.post("/threads", json=body).raise_for_status().json()["thread_id"])


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class SentEvent:
    """A server-sent event as it came."""

    id: int
    name: str
    data: Any


def events_of(response: httpx.Response) -> Iterator[SentEvent]:
    """The events of a stream, read as they come by a reader that knows nothing but the format."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            assert name not in fields, f"two {name} in one event"
            fields[name] = value
        elif fields:
            yield SentEvent(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}
    assert not fields, f"the stream ends within an event: {fields}"


def read_stream(
    client: httpx.Client, path: str, last: int | str | None = None, params: Mapping[str, Any] | None = None
) -> list[SentEvent]:
    """All events of a stream that is joined, after one that is known."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with client.stream("GET", path, headers=headers, params=params) as response:
        assert response.status_code == 200, response.read()
        return list(events_of(response))
