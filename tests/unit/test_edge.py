"""What stands before every request, without a network: messages go in and come out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from benchai.config.server import ServerConfig
from benchai.errors import ConfigError, UsageError
from benchai.server.auth import digest
from benchai.server.edge import Edge

KEY = {"name": "ann", "sha256": digest("one")}
OK = ({"type": "http.response.start", "status": 200, "headers": []}, {"type": "http.response.body", "body": b"ok"})


class Asked:
    """One request through an edge, and what came of it."""

    def __init__(self, edge: Edge, *pieces: bytes, path: str = "/x", method: str = "POST", **headers: str) -> None:
        named = {"host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
        self.sent: list[dict[str, Any]] = []
        self.pieces = list(pieces or [b""])
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        self.edge = edge

    def run(self) -> Asked:
        asyncio.run(self.edge(self.scope, self.receive, self.send))  # type: ignore[arg-type]
        return self

    async def receive(self) -> dict[str, Any]:
        if not self.pieces:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.pieces.pop(0), "more_body": bool(self.pieces)}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def code(self) -> str | None:
        found: str | None = json.loads(self.sent[1]["body"])["error"]["code"]
        return found


def edge_of(
    app: Callable[..., Any] | None = None, settings: ServerConfig | None = None, address: str = "127.0.0.1", **more: Any
) -> Edge:
    return Edge(app or read_all, settings or ServerConfig(), address, **more)


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    """Read the request, then answer; nothing if the client goes."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await answer(send)


async def answer(send: Any, messages: Sequence[dict[str, Any]] = OK) -> None:
    for message in messages:
        await send(dict(message))


def test_what_is_added_to_a_response() -> None:
    messages = ({"type": "http.response.start", "status": 201, "headers": [(b"x", b"y")]}, OK[1])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, messages)

    asked = Asked(edge_of(app), x_request_id="mine").run()
    assert asked.sent[0]["headers"] == [(b"x", b"y"), (b"x-request-id", b"mine")]
    assert asked.scope["state"] == {"request_id": "mine", "key": ""}


def test_other_protocols_pass() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(edge_of(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_a_place_is_given_back_with_the_last_piece() -> None:
    active = []
    edge = edge_of(settings=ServerConfig.model_validate({"keys": [KEY | {"concurrent": 1}]}))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        caller = edge.keys.caller({b"api-key": b"one"})
        assert caller is not None
        active.append(caller.allowance.active)
        await send(dict(OK[0]))
        await send(dict(OK[1], more_body=True))
        active.append(caller.allowance.active)
        await send(dict(OK[1]))
        # what is done after the response is not the client's
        active.append(caller.allowance.active)

    edge.app = app
    assert Asked(edge, api_key="one").run().status == 200
    assert active == [1, 1, 0]
    assert Asked(edge, api_key="one").run().status == 200


@pytest.mark.parametrize(
    "failure", [UsageError("no"), RuntimeError("no"), ClientDisconnect(), asyncio.CancelledError()]
)
def test_a_place_is_given_back_however_it_ends(failure: BaseException) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise failure

    edge = edge_of(app, ServerConfig.model_validate({"keys": [KEY | {"concurrent": 1}]}))
    asked = Asked(edge, api_key="one")
    if isinstance(failure, RuntimeError | asyncio.CancelledError):
        with pytest.raises(type(failure)):
            asked.run()
    else:
        asked.run()
    edge.app = read_all
    assert Asked(edge, api_key="one").run().status == 200


def test_an_error_after_the_beginning_is_no_second_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(OK[0]))
        raise UsageError("too late")

    asked = Asked(edge_of(app))
    with pytest.raises(UsageError, match="too late"):
        asked.run()
    assert len(asked.sent) == 1


@pytest.mark.parametrize(("pieces", "status"), [([b"12345"], 200), ([b"12", b"345"], 200), ([b"123456"], 413)])
def test_the_cap_of_a_body(pieces: list[bytes], status: int) -> None:
    asked = Asked(edge_of(settings=ServerConfig(max_body=5)), *pieces).run()
    assert asked.status == status


def test_an_application_cannot_answer_over_a_refusal() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        seen.append(message["type"])
        assert (await receive())["type"] == "http.disconnect"
        await answer(send)

    asked = Asked(edge_of(app, ServerConfig(max_body=5)), b"123", b"456", b"789").run()
    assert (asked.status, asked.code, len(asked.sent)) == (413, "body_too_large", 2)
    assert asked.headers[b"connection"] == b"close"
    assert asked.pieces, "the rest was not read"
    assert seen == ["http.disconnect"]


@pytest.mark.parametrize("length", ["x", "-1", "", "1,1", "6", "\u0662", "1e1", "9" * 5000])
def test_a_length_that_cannot_be(length: str) -> None:
    assert Asked(edge_of(settings=ServerConfig(max_body=5)), content_length=length).run().status == 413


def test_a_reload_takes_effect() -> None:
    edge = edge_of(
        settings=ServerConfig.model_validate({"keys": [KEY | {"requests_per_minute": 1}]}), clock=lambda: 0.0
    )
    assert Asked(edge, api_key="one").run().status == 200
    edge.apply(ServerConfig.model_validate({"keys": [KEY | {"requests_per_minute": 1}], "hosts": ["box"]}))
    assert Asked(edge, api_key="one", host="box").run().status == 429
    edge.apply(ServerConfig())
    assert Asked(edge, host="box").run().status == 403
    assert Asked(edge).run().status == 200


def test_a_reload_cannot_open_it_to_everybody() -> None:
    edge = edge_of(settings=ServerConfig.model_validate({"keys": [KEY]}), address="0.0.0.0")
    with pytest.raises(ConfigError):
        edge.apply(ServerConfig())
    assert Asked(edge).run().status == 401
    with pytest.raises(ConfigError):
        edge_of(address="0.0.0.0")


def test_a_line_of_the_log() -> None:
    lines: list[str] = []
    times = iter([0, 0, 1.0, 1.5, 2.0, 3.25])
    edge = edge_of(log=lines.append, clock=lambda: next(times))
    Asked(edge, path="/a", x_request_id="i").run()
    asked = Asked(edge, path="/b", x_request_id="j")
    asked.pieces = []
    asked.run()
    assert lines == ["POST /a 200 500.0 ms key=- id=i", "POST /b gone 1250.0 ms key=- id=j"]
