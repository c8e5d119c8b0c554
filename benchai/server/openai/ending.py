"""The last event of a stream of /v1/responses: it holds the whole response, however long that is."""

from __future__ import annotations

from typing import Any

import orjson

from benchai.server.openai.forward import DATA

#: How a response ends that is given to the client.
ENDS = ("response.completed", "response.incomplete")


class Ending:
    """Reads a stream of events, cut into pieces anywhere, and keeps its last one; of more bytes than ``cap`` none."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._coming: list[bytes] = []
        self._size = 0
        self._last = b""
        self.gave_up: str | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        self._size += len(piece)
        if self._size > self._cap:
            self.gave_up, self._coming = "too long", []
            return
        self._coming.append(piece)
        if b"\n" not in piece:
            return
        *events, rest = b"".join(self._coming).replace(b"\r\n", b"\n").split(b"\n\n")
        self._coming, self._size = [rest], len(rest)
        self._last = next((one for one in reversed(events) if DATA in one), self._last)

    @property
    def event(self) -> dict[str, Any]:
        """The last event; {} where there is none."""
        if self.gave_up is not None:
            return {}
        # a server may leave out the empty line at the end
        rest = b"".join(self._coming)
        return _data(rest) or _data(self._last)

    def whole(self) -> dict[str, Any] | None:
        """The whole response; None where the stream did not come to its end."""
        event = self.event
        found = event.get("response") if event.get("type") in ENDS else None
        return found if isinstance(found, dict) else None


def _data(event: bytes) -> dict[str, Any]:
    for line in event.splitlines():
        if line.startswith(DATA):
            try:
                found = orjson.loads(line[len(b"data: ") :])
            except orjson.JSONDecodeError:
                return {}
            return found if isinstance(found, dict) else {}
    return {}
