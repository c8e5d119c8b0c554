"""Server-sent events: the one reader of them, for bytes that are cut anywhere.

As the HTML standard has them, but for a carriage return alone as the end of a line, which no server of models sends.
Names and ids of events, and comments, are left out. Whoever passes a stream on needs no reader: its bytes go as they
came.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

#: The data of the event that ends a stream of OpenAI's.
DONE = b"[DONE]"
_FIELD, _PLAIN, _END = b"data:", b"data: ", b"\n\n"


class Events:
    """Reads one stream."""

    def __init__(self) -> None:
        # joined at the end of an event alone: at each piece the time would grow with the square of an event's length
        self._rest: list[bytes] = []
        self._returned = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in the next bytes of the stream, the lines of one joined by a line feed."""
        if b"\r" in piece or self._returned:
            piece = self._with_line_feeds(piece)
        # most pieces that engines send are one event of one line
        if not self._rest and piece.startswith(_PLAIN) and piece.find(b"\n") == len(piece) - 2 and piece[-1:] == b"\n":
            return [piece[len(_PLAIN) : -len(_END)]]
        text = self._joined(piece)
        return (self._one_line_each(text) or self._any(text)) if text else []

    def texts(self, piece: bytes) -> list[bytes]:
        """The events that end in the next bytes, as they came but for their line ends: for ``data_of``."""
        if b"\r" in piece or self._returned:
            piece = self._with_line_feeds(piece)
        return self._cut(self._joined(piece))

    def end(self) -> list[bytes]:
        """The data of a last event whose empty line is missing, as some servers leave it out; no line that was cut."""
        return self.feed(b"\n")

    @property
    def held(self) -> int:
        """Bytes of the event that has not ended."""
        return sum(map(len, self._rest))

    def _with_line_feeds(self, piece: bytes) -> bytes:
        if self._returned:
            piece = b"\r" + piece
        # what follows the last one is not known yet
        self._returned = piece.endswith(b"\r")
        return piece.removesuffix(b"\r").replace(b"\r\n", b"\n")

    def _joined(self, piece: bytes) -> bytes:
        """What there is of the events that end in a piece; b"" where none does."""
        rest = self._rest
        if not rest or not piece:
            return piece
        rest.append(piece)
        if _END not in piece and not (piece.startswith(b"\n") and rest[-2].endswith(b"\n")):
            return b""
        text = b"".join(rest)
        rest.clear()
        return text

    def _one_line_each(self, text: bytes) -> list[bytes]:
        """The data of events that are all of one line, which takes half the time of others; [] where they are not."""
        *lines, last = text.split(b"\n")
        if len(lines) & 1 or any(lines[1::2]):
            return []
        found = [line[len(_PLAIN) :] for line in lines[::2] if line.startswith(_PLAIN)]
        if 2 * len(found) != len(lines):
            return []
        if found and last:
            self._rest.append(last)
        return found

    def _any(self, text: bytes) -> list[bytes]:
        return [data for one in self._cut(text) if (data := data_of(one)) is not None]

    def _cut(self, text: bytes) -> list[bytes]:
        *texts, last = text.split(_END)
        if last:
            self._rest.append(last)
        return texts


def data_of(event: bytes) -> bytes | None:
    """The data of one of ``Events.texts``; None where it has none."""
    fields = [line for line in event.split(b"\n") if line.startswith(_FIELD) or line == b"data"]
    return b"\n".join([field[len(_FIELD) :].removeprefix(b" ") for field in fields]) if fields else None


async def events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of the events of a stream, the last one also where its empty line is missing."""
    reader = Events()
    async for piece in pieces:
        for data in reader.feed(piece):
            yield data
    for data in reader.end():
        yield data
