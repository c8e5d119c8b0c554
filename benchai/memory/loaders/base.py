"""What all loaders share: what they are given, and a bound on their time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchai.errors import SourceError
from benchai.memory.sections import Loaded


@dataclass(frozen=True, slots=True)
class Raw:
    """What a loader is given.

    Attributes:
        source: As in `Document`, for the messages.
        suffix: In small letters, with the dot.
        charset: As HTTP tells, else "".
    """

    source: str
    suffix: str
    data: bytes
    charset: str = ""


Loader = Callable[[Raw], Loaded]
_SIGN = 1.0  # seconds from one sign to the next
#: Called now and then by loaders that check a `Deadline`: they go on.
signs: list[Callable[[], None]] = []


class Deadline:
    """A bound on the time that a loader takes for one document.

    Args:
        seconds: From now.
        what: Of the document, for the message.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds, self._what = seconds, what
        self._next = time.monotonic()
        self._end = self._next + seconds

    def check(self, *_: object) -> None:
        """Raises SourceError once the time is over."""
        now = time.monotonic()
        if now > self._end:
            raise SourceError(
                f"{self._what} takes longer than {self._seconds:g} s to read", hint="split it, or save it as text"
            )
        if now >= self._next:
            self._next = now + _SIGN
            for sign in signs:
                sign()
