"""A server on the OpenAI wire that answers as scripted: for behaviour that a real model cannot be asked to show."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
Call = tuple[str, str] | tuple[str, str, str | None]


class Exchange:
    """One request and the answer to it, piece by piece."""

    def __init__(self, handler: BaseHTTPRequestHandler, server: ScriptedServer, request: dict[str, Any]) -> None:
        self.handler = handler
        self.server = server
        self.request = request

    def stream(self) -> None:
        """Begin a stream of events."""
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "text/event-stream")
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()

    def data(self, text: str) -> None:
        body = f"data: {text}\n\n".encode()
        self.handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
        self.data(json.dumps(_envelope() | {"choices": [choice]}))

    def end(self, finish: str = "stop") -> None:
        """Finish as llama-server does: the reason, the usage, [DONE]."""
        self.chunk({}, finish)
        self.data(json.dumps(_envelope() | {"choices": [], "usage": USAGE}))
        self.data("[DONE]")
        self.close()

    def close(self) -> None:
        """End the body in order."""
        self.handler.wfile.write(b"0\r\n\r\n")

    def json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Content-Length", str(len(data)))
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def hang(self) -> None:
        """Say nothing more until the client leaves or the test is over."""
        connection = self.handler.connection
        readable, _, _ = select.select([connection, self.server.over], [], [])
        if connection in readable:
            self.server.disconnected.set()
        self.handler.close_connection = True

    def pause(self, seconds: float) -> None:
        """Say nothing for a while."""
        select.select([self.server.over], [], [], seconds)

    def hang_up(self) -> None:
        """End the connection before the body is whole."""
        self.handler.connection.shutdown(socket.SHUT_RDWR)
        self.handler.close_connection = True

    def reset(self) -> None:
        """Break the connection off."""
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.handler.connection.close()
        self.handler.close_connection = True


def _envelope() -> dict[str, Any]:
    # one id for all: servers that send a constant one exist
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}


Reply = Callable[[Exchange], None]


def text(words: str, finish: str = "stop") -> Reply:
    """An answer in two pieces."""

    def reply(exchange: Exchange) -> None:
        exchange.stream()
        half = len(words) // 2
        for piece in (words[:half], words[half:]):
            exchange.chunk({"role": "assistant", "content": piece})
        exchange.end(finish)

    return reply


def calls(*wanted: Call, thought: str = "") -> Reply:
    """Tool calls: name, arguments as text, and the id where the test sets one (None leaves it out)."""

    def reply(exchange: Exchange) -> None:
        exchange.stream()
        exchange.chunk({"role": "assistant", "content": thought or None})
        for index, (name, arguments, *ids) in enumerate(wanted):
            call_id = ids[0] if ids else f"call_{index}_{len(exchange.server.requests)}"
            named = {} if call_id is None else {"id": call_id}
            half = len(arguments) // 2
            first = {"index": index, "type": "function", "function": {"name": name, "arguments": arguments[:half]}}
            exchange.chunk({"tool_calls": [first | named]})
            exchange.chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]})
        exchange.end("tool_calls")

    return reply


def error(status: int, **body: Any) -> Reply:
    """An HTTP error with OpenAI's body."""
    return lambda exchange: exchange.json(status, {"error": {"code": status} | body})


def overflow(needed: int, n_ctx: int) -> Reply:
    """The refusal of a prompt in the shape of llama.cpp."""
    message = f"request ({needed} tokens) exceeds the available context size ({n_ctx} tokens), try increasing it"
    return error(400, message=message, type="exceed_context_size_error", n_prompt_tokens=needed, n_ctx=n_ctx)


def silent() -> Reply:
    """No answer at all, not even its head."""
    return lambda exchange: exchange.hang()


def begun(words: str, then: Callable[[Exchange], None]) -> Reply:
    """An answer that begins, and then goes wrong."""

    def reply(exchange: Exchange) -> None:
        exchange.stream()
        exchange.chunk({"role": "assistant", "content": words})
        then(exchange)

    return reply


class ScriptedServer:
    """Answers one request after the other with its replies, and all further ones with the last."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = replies
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self.arrived = threading.Condition()
        self.disconnected = threading.Event()
        self.over, self._end = socket.socketpair()
        self._under_way = 0
        self._http = _HTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self.over.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def model(self, **extra: Any) -> dict[str, Any]:
        """An entry of ``models:``."""
        return {"endpoint": self.url, "model": "scripted", **extra}

    def config(self, **extra: Any) -> dict[str, Any]:
        """A whole configuration with this server in the role general."""
        return {"models": {"far": self.model()}, "roles": {"general": "far"}} | extra

    def wait_for_requests(self, count: int, seconds: float = 10) -> bool:
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.requests) >= count, seconds)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.arrived:
            reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
            self.requests.append(body)
            self.keys.append(handler.headers["Authorization"])
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            self.arrived.notify_all()
        try:
            reply(Exchange(handler, self, body))
        except (BrokenPipeError, ConnectionResetError):
            self.disconnected.set()
            handler.close_connection = True
        finally:
            with self.arrived:
                self._under_way -= 1


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news."""


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            # a thread that waited for a next request would outlive the test
            self.close_connection = True
            server.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def contents(request: Mapping[str, Any], role: str) -> list[str]:
    """The texts of a role in a request."""
    return [str(message.get("content") or "") for message in request["messages"] if message["role"] == role]
