"""A real uvicorn with what stands before every request, in a thread of the test, and raw sockets to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from benchai.config.server import ServerConfig
from benchai.errors import UsageError
from benchai.server.auth import digest
from benchai.server.connection import guarded
from benchai.server.edge import Edge
from tests.integration.helpers import LIMIT
from tests.integration.quick_end import QuickEnd

KEY = "benchai-of-the-test"


def a_key(name: str = "ann", key: str = KEY, **limits: int) -> dict[str, Any]:
    return {"name": name, "sha256": digest(key)} | limits


class App:
    """What is served behind the edge. It counts what happened, and waits for nothing but its clients."""

    def __init__(self) -> None:
        self.happened: Counter[str] = Counter()
        self.changed = threading.Condition()

    def note(self, what: str) -> None:
        with self.changed:
            self.happened[what] += 1
            self.changed.notify_all()

    def until(self, what: str, count: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.happened[what] >= count, LIMIT), f"{what}: {self.happened}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.note("came")
        try:
            await getattr(self, "at" + scope["path"].replace("/", "_"), self.at_echo)(scope, receive, send)
        finally:
            self.note("ended")

    async def reply(self, send: Any, body: bytes = b"ok") -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def at_echo(self, scope: Any, receive: Any, send: Any) -> None:
        """What came, as JSON."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.note("gone")
                return
            body += message["body"]
            more = message.get("more_body", False)
        state = scope["state"]
        found = {"length": len(body), "path": scope["path"], "id": state["request_id"], "key": state["key"]}
        found["headers"] = [name.decode("latin-1") for name, _ in scope["headers"]]
        await self.reply(send, json.dumps(found).encode())

    async def at_unread(self, scope: Any, receive: Any, send: Any) -> None:
        """An answer without a look at the body."""
        await self.reply(send)

    async def at_stream(self, scope: Any, receive: Any, send: Any) -> None:
        """The beginning of an answer; then it waits for the client to go."""
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        self.note("begun")
        assert (await receive())["type"] == "http.disconnect"
        self.note("gone")

    async def at_flood(self, scope: Any, receive: Any, send: Any) -> None:
        """More than any buffer holds."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.note("begun")
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
            if scope["state"].get("stop"):
                return

    async def at_wrong(self, scope: Any, receive: Any, send: Any) -> None:
        raise UsageError("it is 'wrong'", hint="mend it")

    async def at_boom(self, scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a secret")


@dataclass
class Answer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, which has OpenAI's shape."""
        assert self.headers["content-type"] == "application/json"
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        assert "Traceback" not in found["message"]
        return found


class Client:
    """A connection, byte by byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self._read = b""

    def send(self, text: str | bytes) -> Client:
        self.socket.sendall(text.encode("latin-1") if isinstance(text, str) else text)
        return self

    def ask(self, target: str = "/echo", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """Send a whole request; the answer."""
        given = {"host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            given.setdefault("content-length", str(len(body)))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        return self.send("\r\n".join(lines).encode("latin-1") + body).answer(method)

    def more(self) -> bytes:
        """What comes next; b"" at the end."""
        data = self.socket.recv(65536)
        self._read += data
        return data

    def until(self, part: bytes) -> bytes:
        """All that came before a part, and the part."""
        while part not in self._read:
            assert self.more(), f"ended without {part!r}: {self._read!r}"
        before, _, self._read = self._read.partition(part)
        return before + part

    def answer(self, method: str = "GET") -> Answer:
        """The next response that says its length."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        while len(self._read) < length:
            assert self.more(), self._read
        body, self._read = self._read[:length], self._read[length:]
        return Answer(int(first.split()[1]), headers, body)

    def ended(self) -> bool:
        """Whether nothing comes any more, in order."""
        return self._read == b"" and self.more() == b""

    def close(self) -> None:
        self.socket.close()


@dataclass
class Server:
    """A server that runs."""

    app: App
    edge: Edge
    uvicorn: uvicorn.Server
    port: int
    loop: asyncio.AbstractEventLoop
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def connect(self) -> Client:
        client = Client(self.port)
        self.stack.callback(client.close)
        return client

    def connections(self) -> int:
        return len(self.uvicorn.server_state.connections)


@contextlib.contextmanager
def edge_server(loop_name: str = "uvloop", address: str = "127.0.0.1", **settings: Any) -> Iterator[Server]:
    """A server with a section `server:`; it must end without having complained."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        app, lines, faults = App(), [], []
        edge = Edge(app, ServerConfig.model_validate(settings), address, lines.append)
        protocol = guarded(lambda: edge.settings)
        config = uvicorn.Config(edge, http=protocol, ws="none", lifespan="off", log_config=None)
        loop = asyncio.new_event_loop() if loop_name == "asyncio" else pytest.importorskip(loop_name).new_event_loop()
        loop.set_exception_handler(lambda _, context: faults.append(str(context)))
        server = _Uvicorn(config)
        serving = threading.Thread(target=_serve, args=(loop, server, bound), daemon=True)
        serving.start()
        assert server.listens.wait(LIMIT)
        running = Server(app, edge, server, bound.getsockname()[1], loop, lines, faults)
        try:
            with running.stack:
                yield running
        finally:
            server.should_exit = True
            serving.join(LIMIT)
            assert not serving.is_alive()
        assert not faults, faults


class _Uvicorn(QuickEnd):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


def _serve(loop: asyncio.AbstractEventLoop, server: uvicorn.Server, bound: socket.socket) -> None:
    try:
        loop.run_until_complete(server.serve(sockets=[bound]))
    finally:
        loop.close()
