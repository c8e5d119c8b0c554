"""What stands before every request of `benchai serve`, as pure ASGI: it costs a few microseconds.

In this order: a request id, the Host (DNS rebinding), the origin (CORS), caps, the API key and its limits. What is
refused is answered in OpenAI's shape. The name of the key and the id go into ``scope["state"]``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import chain
from typing import Any

from starlette.requests import ClientDisconnect

from benchai.config.server import ServerConfig
from benchai.errors import BenchAIError
from benchai.server.auth import Allowance, Keyring, check_reach, is_loopback, needs_key, refusal
from benchai.server.openai.errors import Headers, Reply, failure, openai_error
from benchai.server.openai.exchange import WHOLE
from benchai.server.origins import Cors, HostCheck, wrong_host, wrong_origin

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_DISCONNECT = {"type": "http.disconnect"}
_INTERNAL = openai_error(500, "the server failed; its log says why", code="internal_error")


class Edge:
    """The outermost application.

    Args:
        app: What answers the requests that pass.
        settings: The section ``server:``.
        address: The address that the server is bound to.
        log: Takes a line for each request; None writes none.
        clock: Seconds that only go forward.

    Raises:
        ConfigError: the address can be reached from other machines, and there are no keys.
    """

    def __init__(
        self,
        app: App,
        settings: ServerConfig,
        address: str,
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.address = address
        self.log = log
        self.clock = clock
        self.keys = Keyring((), clock())
        self.apply(settings)

    def apply(self, settings: ServerConfig) -> None:
        """Take other settings; keys that stay keep what is left of their limits.

        Raises:
            ConfigError: see the class; nothing has changed.
        """
        check_reach(self.address, settings.keys)
        self.settings = settings
        self.hosts = HostCheck(self.address, settings.hosts, is_loopback(self.address))
        self.cors = Cors(settings.cors)
        self.keys = Keyring(settings.keys, self.clock(), self.keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        passing = Passing(self, scope, receive, send)
        try:
            refused = passing.refused()
            if refused is not None:
                await passing.answer(refused)
            else:
                await self.app(scope, passing.receive, passing.send)
        except BenchAIError as error:
            if passing.status:
                raise
            await passing.answer(failure(error))
        except ClientDisconnect:
            pass
        except Exception:
            if not passing.status:
                await passing.answer(_INTERNAL)
            raise
        finally:
            passing.end()


class Passing:
    """One request on its way through.

    Attributes:
        status: The response's status; 0 while none has begun.
    """

    __slots__ = ("_began", "_edge", "_extra", "_given", "_key", "_place", "_read", "_receive", "_scope", "_send",
                 "_shut", "_unread", "id", "status")  # fmt: skip

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = 0
        self.id = ""
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._given: dict[bytes, bytes] = {}
        self._extra: Headers = []
        self._place: Allowance | None = None
        self._key = ""
        self._read = 0
        self._unread = False
        self._shut = False
        self._began = edge.clock()

    # ---- before the application

    def refused(self) -> Reply | None:
        """Why this request is answered here; None lets it pass."""
        too_large = self._take_headers()
        self._name()
        given = self._given
        host = given.get(b"host")
        # a browser always says a host; HTTP/1.0 need not
        if host is not None and not self._edge.hosts.knows(host):
            return wrong_host(host)
        origin = given.get(b"origin")
        if origin is not None and (reply := self._from_origin(origin, host or b"")):
            return reply
        return too_large or self._too_long() or self._without_key()

    def _take_headers(self) -> Reply | None:
        headers = self._scope["headers"]
        given = self._given = dict(headers)
        if len(given) != len(headers):
            self._given = given = _joined(headers)
        size = sum(map(len, chain.from_iterable(headers))) + 4 * len(headers)
        most = self._edge.settings
        self._unread = b"transfer-encoding" in given or given.get(b"content-length", b"0") != b"0"
        if len(headers) > most.max_headers:
            message = f"the request has {len(headers)} headers, at most {most.max_headers} are taken"
            return openai_error(431, message, code="headers_too_large")
        if size > most.max_header_bytes:
            message = f"the request's headers have {size:,} bytes, at most {most.max_header_bytes:,} are taken"
            return openai_error(431, message, code="headers_too_large")
        return None

    def _name(self) -> None:
        wanted = self._given.get(b"x-request-id", b"")
        self.id = wanted.decode() if REQUEST_ID.fullmatch(wanted) else f"req_{os.urandom(12).hex()}"
        self._extra.append((b"x-request-id", self.id.encode()))
        state = self._scope.setdefault("state", {})
        state["request_id"], state["key"] = self.id, ""

    def _from_origin(self, origin: bytes, host: bytes) -> Reply | None:
        cors = self._edge.cors
        if cors.refuses(origin, host):
            return wrong_origin(origin)
        if not cors.allows(origin):
            return None
        self._extra += cors.headers(origin)
        if self._scope["method"] == "OPTIONS" and b"access-control-request-method" in self._given:
            return cors.preflight(self._given)
        return None

    def _too_long(self) -> Reply | None:
        most, length = self._edge.settings.max_body, self._given.get(b"content-length")
        if length is None or (length.isdigit() and len(length) < 16 and int(length) <= most):
            return None
        return _body_too_large(most)

    def _without_key(self) -> Reply | None:
        edge = self._edge
        if not edge.keys or not needs_key(self._scope["path"]):
            return None
        caller = edge.keys.caller(self._given)
        if caller is None:
            return refusal(self._given)
        self._key = self._scope["state"]["key"] = caller.name
        refused = caller.allowance.take(edge.clock())
        self._extra += caller.allowance.headers()
        if refused is None:
            self._place = caller.allowance
        return refused

    # ---- beside the application

    async def receive(self) -> Message:
        """The next piece of the request; one over the cap is answered here, and ends it for the application."""
        if self._shut:
            return _DISCONNECT
        message = await self._receive()
        if message["type"] == "http.request":
            self._unread = message.get("more_body", False)
            self._read += len(message.get("body", b""))
            most = self._edge.settings.max_body
            if self._read > most:
                self._unread = True
                if not self.status:
                    self._scope["state"]["refused"] = 413, "body_too_large"
                    await self.answer(_body_too_large(most))
                self._shut = True
                return _DISCONNECT
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the response."""
        if self._shut:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._extra]
            await self._send(message)
            return
        if message["type"] == WHOLE:
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._extra]
        await self._send(message)
        if not message.get("more_body"):
            self._give_back()

    async def answer(self, reply: Reply) -> None:
        """Send a whole response in the application's place."""
        status, headers, body = reply
        if self._unread:
            # the rest of the request is not read: the connection can't go on
            headers = [*headers, (b"connection", b"close")]
        if status != 204:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def end(self) -> None:
        """The application has ended."""
        self._give_back()
        if self._edge.log is not None:
            self._edge.log(self._line())

    def _give_back(self) -> None:
        if self._place is not None:
            self._place.give_back()
            self._place = None

    def _line(self) -> str:
        # the path as it was sent has neither control characters nor the query, which may hold secrets
        path = self._scope.get("raw_path", b"")[:200].decode("ascii", "backslashreplace")
        took = (self._edge.clock() - self._began) * 1000
        status = self.status or "gone"
        return f"{self._scope['method']} {path} {status} {took:.1f} ms key={self._key or '-'} id={self.id}"


def _joined(headers: Headers) -> dict[bytes, bytes]:
    """The headers by name; the values of one that stands several times as one."""
    given: dict[bytes, bytes] = {}
    for name, value in headers:
        given[name] = value if name not in given else given[name] + b"," + value
    return given


def _body_too_large(most: int) -> Reply:
    message = f"the request's body is longer than {most:,} bytes"
    return openai_error(413, message, code="body_too_large")
