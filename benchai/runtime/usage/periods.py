"""Moments as a user names them: an age (7d, 12h) or a date."""

from __future__ import annotations

import re
import time
from datetime import datetime

from benchai.errors import UsageError

_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(text: str, now: float | None = None) -> float:
    """Seconds since the epoch of ``text``: an age before ``now``, or a date (this machine's time zone unless it says).

    Raises:
        UsageError: it is neither.
    """
    text = text.strip()
    if age := _AGE.fullmatch(text.lower()):
        return (time.time() if now is None else now) - float(age[1]) * _SECONDS[age[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        hint = "give an age such as 12h, 7d or 4w, or a date such as 2026-11-01 or 2026-11-01T12:00"
        raise UsageError(f"{text[:80]!r} is no moment", hint=hint) from error


def when(seconds: float) -> str:
    """A moment for people, in this machine's time zone; what lies outside the calendar is cut to its ends."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "the beginning" if seconds < 0 else "the end"


def span(seconds: float) -> str:
    """A length of time for people, in its largest fitting unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
