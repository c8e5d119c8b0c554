"""A scripted model for tests and examples: a server on the OpenAI wire that answers as it was told.

It stands in for behaviour that a real model cannot be asked to show (a broken call, a full context, a lost
connection), and for a model where an example should always end alike::

    from benchai import Bench
    from benchai.testing import ScriptedServer, calls, text

    with ScriptedServer(calls(("calculator", '{"expression": "6 * 7"}')), text("It is 42.")) as server:
        async with Bench.open(write_config(server.config())) as bench:
            result = await bench.run("react", "What is 6 * 7?")
        assert server.requests[1]["messages"][-1]["content"] == "42"

A ``Reply`` is a function of the ``Exchange``; the functions of this module make the usual ones. The server listens
on the loopback interface, on a port that the kernel chooses. It answers ``/v1/chat/completions`` streamed or whole,
as the request says, and ``/health``, ``/props``, ``/v1/models``, ``/tokenize`` and ``/apply-template`` in the shape
of llama-server.
"""

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

__all__ = [
    "USAGE",
    "Call",
    "Exchange",
    "Reply",
    "ScriptedServer",
    "begun",
    "broken_call",
    "calls",
    "chosen",
    "contents",
    "error",
    "error_in_stream",
    "overflow",
    "silent",
    "text",
]

#: Tokens that every reply claims to have used; one that is cut claims all that it was allowed.
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
#: A tool's name, its arguments as text, and the call's id where the script sets one (None leaves it out).
Call = tuple[str, str] | tuple[str, str, str | None]
#: What llama-server says when it can't read the call that its model wrote.
UNPARSED = "Failed to parse tool call arguments as JSON: unexpected end of input"
CHARS_PER_TOKEN = 4


class Exchange:
    """One request and the answer to it, piece by piece.

    A request without ``stream`` gets the same pieces as one JSON body, at ``end``.

    Attributes:
        request: The body of the request.
        server: The server, with the requests so far.
        handler: What the request came in on.
    """

    def __init__(self, handler: BaseHTTPRequestHandler, server: ScriptedServer, request: dict[str, Any]) -> None:
        self.handler = handler
        self.server = server
        self.request = request
        self._message: dict[str, Any] = {"role": "assistant", "content": None}

    @property
    def streamed(self) -> bool:
        """Whether the request asks for a stream of events."""
        return bool(self.request.get("stream"))

    def stream(self) -> None:
        """Begin a stream of events."""
        if not self.streamed:
            return
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "text/event-stream")
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.send_header("Connection", "close")
        self.handler.end_headers()

    def data(self, text: str) -> None:
        """Send one event as it is."""
        if self.streamed:
            body = f"data: {text}\n\n".encode()
            self.handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> None:
        """Send one piece of the reply."""
        _join(self._message, delta)
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
        self.data(json.dumps(_envelope("chat.completion.chunk") | {"choices": [choice]}))

    def end(self, finish: str = "stop") -> None:
        """Finish as llama-server does: the reason, the usage, [DONE]."""
        usage = self._usage(finish)
        if not self.streamed:
            choice = {"index": 0, "message": self._message, "finish_reason": finish}
            self.json(200, _envelope("chat.completion") | {"choices": [choice], "usage": usage})
            return
        self.chunk({}, finish)
        self.data(json.dumps(_envelope("chat.completion.chunk") | {"choices": [], "usage": usage}))
        self.data("[DONE]")
        self.close()

    def close(self) -> None:
        """End the body in order, whether or not the reply is whole."""
        if self.streamed:
            self.handler.wfile.write(b"0\r\n\r\n")
        else:
            self.hang_up()

    def json(self, status: int, body: object) -> None:
        """Answer with a JSON body in place of a stream."""
        data = json.dumps(body).encode()
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Content-Length", str(len(data)))
        self.handler.send_header("Connection", "close")
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def hang(self) -> None:
        """Say nothing more until the client leaves or the server is closed."""
        connection = self.handler.connection
        readable, _, _ = select.select([connection, self.server.over], [], [])
        if connection in readable:
            self.server.disconnected.set()
        self.handler.close_connection = True

    def pause(self, seconds: float) -> None:
        """Say nothing for so many seconds, or until the server is closed."""
        select.select([self.server.over], [], [], seconds)

    def hang_up(self) -> None:
        """End the connection before the body is whole."""
        self.handler.connection.shutdown(socket.SHUT_RDWR)
        self.handler.close_connection = True

    def reset(self) -> None:
        """Break the connection off (TCP RST)."""
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.handler.connection.close()
        self.handler.close_connection = True

    def _usage(self, finish: str) -> dict[str, int]:
        limit = self.request.get("max_completion_tokens") or self.request.get("max_tokens")
        if finish != "length" or not limit:
            return USAGE
        return {"prompt_tokens": 20, "completion_tokens": limit, "total_tokens": 20 + limit}


Reply = Callable[[Exchange], None]


def _envelope(kind: str) -> dict[str, Any]:
    # one id for all: servers that send a constant one exist
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "scripted"}


def _join(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a piece to the whole message."""
    if delta.get("content"):
        message["content"] = (message["content"] or "") + delta["content"]
    for piece in delta.get("tool_calls", ()):
        made = message.setdefault("tool_calls", [])
        if piece["index"] == len(made):
            named = {"id": piece["id"]} if "id" in piece else {}
            made.append(named | {"type": "function", "function": {"name": piece["function"]["name"], "arguments": ""}})
        made[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


def text(words: str, finish: str = "stop") -> Reply:
    """An answer in two pieces; the ``finish`` "length" says that it was cut at the request's limit of tokens."""

    def reply(exchange: Exchange) -> None:
        exchange.stream()
        half = len(words) // 2
        for piece in (words[:half], words[half:]):
            exchange.chunk({"role": "assistant", "content": piece})
        exchange.end(finish)

    return reply


def calls(*wanted: Call, thought: str = "", finish: str = "tool_calls") -> Reply:
    """Native tool calls, with a ``thought`` before them."""

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
        exchange.end(finish)

    return reply


def error(status: int, **body: Any) -> Reply:
    """An HTTP error with OpenAI's body."""
    return lambda exchange: exchange.json(status, {"error": {"code": status} | body})


def error_in_stream(message: str, words: str = "Well") -> Reply:
    """An error of the server's after its answer has begun with ``words``."""

    def then(exchange: Exchange) -> None:
        exchange.data(json.dumps({"error": {"code": 500, "message": message, "type": "server_error"}}))
        exchange.close()

    return begun(words, then)


def broken_call() -> Reply:
    """The server can't read the call that its model wrote: HTTP 500 in the words of llama.cpp."""
    return error(500, message=UNPARSED, type="server_error")


def overflow(needed: int, n_ctx: int) -> Reply:
    """The refusal of a prompt of ``needed`` tokens in the shape of llama.cpp."""
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


def chosen(choose: Callable[[dict[str, Any]], Reply]) -> Reply:
    """The reply that ``choose`` gives for the body of a request: where requests come in no certain order."""
    return lambda exchange: choose(exchange.request)(exchange)


class ScriptedServer:
    """Answers one request after the other with its replies, and all further ones with the last.

    A context manager: the server runs while it is open. An exception that a reply raises is raised again when it
    is left, unless another one is on its way; the client sees a broken connection.

    Args:
        replies: What is answered, in the order in which the requests come.
        n_ctx: Context in tokens that ``/props`` tells.

    Attributes:
        requests: The bodies of the requests for chat completions so far.
        keys: Their ``Authorization`` headers.
        most_at_once: The most requests that were under way at one time.
        disconnected: Set when a client left before its answer was whole.
    """

    def __init__(self, *replies: Reply, n_ctx: int = 4096) -> None:
        self.replies = replies
        self.n_ctx = n_ctx
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self.arrived = threading.Condition()
        self.disconnected = threading.Event()
        self.over, self._end = socket.socketpair()
        self._under_way = 0
        self._failed: Exception | None = None
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
        if kind is None and self._failed is not None:
            raise self._failed

    @property
    def url(self) -> str:
        """The base URL of the OpenAI wire, up to and including ``/v1``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def model(self, **extra: Any) -> dict[str, Any]:
        """An entry of ``models:`` in benchai.yaml."""
        return {"endpoint": self.url, "model": "scripted", **extra}

    def config(self, **extra: Any) -> dict[str, Any]:
        """A whole benchai.yaml with this server in the role general, whose substitutes it is."""
        return {"models": {"far": self.model()}, "roles": {"general": "far"}} | extra

    def wait_for_requests(self, count: int, seconds: float = 10) -> bool:
        """Wait until so many requests have come; False when they do not come in time."""
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.requests) >= count, seconds)

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        """Answer one request for a chat completion."""
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
        except Exception as failed:
            self._failed = self._failed or failed
            raise
        finally:
            with self.arrived:
                self._under_way -= 1

    def about(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is answered at another path than that of chat completions; None where there is nothing."""
        if path == "/health":
            return {"status": "ok"}
        if path == "/props":
            settings = {"n_ctx": self.n_ctx}
            return {"default_generation_settings": settings, "total_slots": 1, "model_path": "scripted"}
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": "scripted", "object": "model"}]}
        if path == "/tokenize":
            return {"tokens": list(range(-(-len(str(body.get("content", ""))) // CHARS_PER_TOKEN)))}
        if path == "/apply-template":
            parts = [*body.get("tools", ()), *body.get("messages", ())]
            return {"prompt": "\n".join(json.dumps(part) for part in parts)}
        return None


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that left is no news, and a reply's own error is raised by the server's owner."""


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._tell({})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/chat/completions":
                # a thread that waited for a next request would outlive the test
                self.close_connection = True
                server.answer(self, body)
            else:
                self._tell(body)

        def _tell(self, body: dict[str, Any]) -> None:
            self.close_connection = True
            found = server.about(self.path, body)
            refused = {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}
            Exchange(self, server, body).json(200 if found is not None else 404, found or refused)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def contents(request: Mapping[str, Any], role: str) -> list[str]:
    """The texts of the messages of a role ("system", "user", "assistant", "tool") in a request."""
    return [str(message.get("content") or "") for message in request["messages"] if message["role"] == role]
