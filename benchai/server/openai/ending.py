"""The last event of a stream of /v1/responses: it holds the whole response, however long that is."""

from __future__ import annotations

from typing import Any

from benchai.runtime.sse import Events, data_of
from benchai.server.openai.forward import as_object

#: How a response ends that is given to the client.
ENDS = ("response.completed", "response.incomplete")


class Ending:
    """Reads a stream of events, cut into pieces anywhere, and keeps its last one; of more bytes than ``cap`` none."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._events = Events()
        self._size = 0
        self._last = b""
        self.gave_up: str | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        self._size += len(piece)
        if self._size > self._cap:
            self.gave_up, self._events, self._last = "too long", Events(), b""
        elif found := self._events.texts(piece):
            self._take(found)
            self._size = self._events.held

    @property
    def event(self) -> dict[str, Any]:
        """The last event, when all has come; {} where there is none."""
        # a server may leave out the empty line at the end, and the end of the line before it
        self._take(self._events.texts(b"\n\n"))
        return as_object(data_of(self._last) or b"")

    def whole(self) -> dict[str, Any] | None:
        """The whole response; None where the stream did not come to its end."""
        event = self.event
        found = event.get("response") if event.get("type") in ENDS else None
        return found if isinstance(found, dict) else None

    def _take(self, found: list[bytes]) -> None:
        # the others are not read; behind the last one some servers send the end mark of other paths
        self._last = next((one for one in reversed(found) if b"data:" in one and b"{" in one), self._last)
