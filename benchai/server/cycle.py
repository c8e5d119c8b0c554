"""A request and its response on a connection: what uvicorn does for each, without what costs it a third of its time.

A response that is known as a whole goes out in one message (``WHOLE``), and so in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Self
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from benchai.server.openai.exchange import GONE, WHOLE

START, BODY = "http.response.start", "http.response.body"
#: What neither a header's name nor its value may hold.
_CONTROL = bytes({*range(32), 127} - {9})
_BODILESS = (204, 304)


def described(parser: httptools.HttpRequestParser, url: bytes) -> dict[str, Any]:
    """What the first line of a request says, as it stands in the scope."""
    parts = httptools.parse_url(url)
    path = parts.path.decode("ascii")
    return {
        "method": parser.get_method().decode("ascii"),
        "http_version": parser.get_http_version(),
        "path": unquote(path) if "%" in path else path,
        "raw_path": parts.path,
        "query_string": parts.query or b"",
    }


class Cycle(RequestResponseCycle):
    """See uvicorn. Two extensions of ASGI are offered: whole responses in one message, and word of the client's end."""

    _left: Callable[[], None] | None = None

    @classmethod
    def of(cls, connection: HttpToolsProtocol) -> Self:
        """The cycle of a request whose headers are there."""
        made = cls(
            scope=connection.scope,
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=connection.scope["http_version"] != "1.0" and connection.parser.should_keep_alive(),
            on_response=connection.on_response_complete,
        )
        connection.scope["extensions"] = {WHOLE: {}, GONE: {"to": made.tell}}
        return made

    def tell(self, left: Callable[[], None] | None) -> None:
        """Call ``left`` when the client goes away before the response is complete; only the last one is called."""
        self._left = left
        self.flow.resume_reading()
        if self.disconnected and left is not None:
            left()

    def leave(self) -> None:
        """The client is gone."""
        self.disconnected = True
        self.message_event.set()
        if self._left is not None:
            self._left()

    async def receive(self) -> Any:
        """The next piece of the request, or that the client is gone."""
        if self.waiting_for_100_continue or self.disconnected or not (self.body and self.message_event.is_set()):
            return await super().receive()
        # the whole body, as a rule
        self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: MutableMapping[str, Any]) -> None:  # type: ignore[override]
        """The next piece of the response.

        Raises:
            RuntimeError: it does not fit to what came before, or would not be HTTP.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == BODY and self.response_started and not self.response_complete:
            last = not message.get("more_body")
            data = self._framed(message.get("body", b""), last)
        elif kind == START and not self.response_started:
            last, data = False, self._head(message["status"], message.get("headers", ()))
        elif kind == WHOLE and not self.response_started:
            last, data = True, self._head(message["status"], message["headers"])
            data += self._framed(message["body"], last)
        else:
            raise RuntimeError(f"the message {kind!r} does not follow the one before it")
        if data:
            self.transport.write(data)
        if last:
            self._complete()

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        self.response_started, self.waiting_for_100_continue = True, False
        # their names are in small letters, as ASGI has it
        sent = [*self.default_headers, *headers]
        named = dict(sent)
        if b"close" in named.get(b"connection", b"").lower():
            self.keep_alive = False
        elif not self.keep_alive:
            sent.append((b"connection", b"close"))
        if (length := named.get(b"content-length")) is not None:
            self.expected_content_length, self.chunked_encoding = int(length), False
        elif status not in _BODILESS and self.scope["method"] != "HEAD":
            self.chunked_encoding = True
            if b"transfer-encoding" not in named:
                sent.append((b"transfer-encoding", b"chunked"))
        text = b"".join([b"%b: %b\r\n" % one for one in sent])
        if len(text.translate(None, _CONTROL)) != len(text) - 2 * len(sent):
            raise RuntimeError("a header holds what no header may")
        return b"%b%b\r\n" % (STATUS_LINE[status], text)

    def _framed(self, body: bytes, last: bool) -> bytes:
        """A piece of the body as it goes out."""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            return b""
        if self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk + b"0\r\n\r\n" if last else chunk
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (last and self.expected_content_length):
            raise RuntimeError("the response is not as long as its content-length")
        return body

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
