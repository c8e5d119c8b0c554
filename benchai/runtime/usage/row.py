"""One row for each request: who asked, who answered, what it cost, how it ended."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Literal

from benchai.errors import UsageError

#: Where the reply came from: a model; the cache of equal or of similar requests; an equal one under way.
CacheState = Literal["none", "exact", "similar", "shared"]
OK, CANCELLED = "ok", "cancelled"
#: What the user may opt out of by leaving `usage.contents` alone; kept apart from the figures.
CONTENTS = ("request", "reply")
COMMENT_CHARS = 4000
_WORDS = {"up": 1.0, "down": -1.0}


def new_id() -> str:
    """An id that no other request has."""
    return f"req-{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """A request and its end. None: not known, or it does not apply.

    ``id`` is the row's own, ``request_id`` what the client called its request, which other clients may do, too.
    ``time`` is when the request came, seconds since the epoch. ``key`` is the *name* of the API key. ``asked`` is what
    the client gave as its model, ``role`` who answered in the end. ``score`` and ``reason`` are the route's.
    Seconds are counted from ``time``: ``first_token_s`` to the first token, ``total_s`` to the end; ``queue_s`` and
    ``swap_s`` are parts of them. ``outcome`` is "ok", "cancelled" or the name of the error's class, ``status`` the HTTP
    status. ``feedback`` lies within -1 and 1. ``request`` and ``reply`` are contents: kept only if the user opts in.
    """

    id: str
    time: float
    key: str | None = None
    session: str | None = None
    asked: str | None = None
    role: str | None = None
    model: str | None = None
    workflow: str | None = None
    score: float | None = None
    reason: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    queue_s: float | None = None
    swap_s: float | None = None
    first_token_s: float | None = None
    total_s: float = 0.0
    tokens_per_s: float | None = None
    cache: CacheState = "none"
    outcome: str = OK
    status: int = 200
    feedback: float | None = None
    comment: str | None = None
    request_id: str | None = None
    request: str | None = None
    reply: str | None = None


#: The columns of the table, in the order of the fields.
COLUMNS = tuple(field.name for field in fields(UsageRow) if field.name not in CONTENTS)
values_of = attrgetter(*COLUMNS)


def storable(value: object) -> str | float | None:
    """A value as SQLite can keep it: half a surrogate pair becomes "?", what is no text and no number None."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    return value if isinstance(value, float) else None


def speed_of(row: UsageRow) -> float | None:
    """Tokens a second: as the engine told, else those after the first by the time that they took."""
    if row.tokens_per_s is not None:
        return row.tokens_per_s
    if row.first_token_s is None or row.tokens_out is None or row.tokens_out < 2 or row.cache != "none":
        return None
    seconds = row.total_s - row.first_token_s
    return (row.tokens_out - 1) / seconds if seconds > 0 else None


def feedback_value(value: str | float) -> float:
    """What a user thinks of a reply, from -1 to 1: "up", "down", or a number.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1:
        return float(value)
    shown = repr(value)[:80] if not isinstance(value, float) or math.isfinite(value) else str(value)
    raise UsageError(f"the feedback {shown} cannot be used", hint="give up, down, or a number from -1 to 1")


def checked_comment(comment: str | None) -> str | None:
    """A comment as it is kept; an empty one is none.

    Raises:
        UsageError: it is too long, or cannot be written as text.
    """
    if comment is None or not comment.strip():
        return None
    if len(comment) > COMMENT_CHARS:
        message = f"the comment has {len(comment)} characters, at most {COMMENT_CHARS} are kept"
        raise UsageError(message, hint="make it shorter")
    return str(storable(comment))
