"""Which conversation a request belongs to, and which model holds its context.

OpenAI's wire has no name for a conversation: a client sends all of it in each request. So a conversation is known by
what was said. A request is summed up at each turn of the user: SHA-256 over the API key and all messages up to there,
each part with its length before it, so that nothing that differs can read the same. The sum at the turn that is
answered now is remembered; the next request holds that turn again, with the reply and a new turn behind it, and the sum
up to the turn before the last one finds the session. Replies need not be read for that, and one that the client
shortened costs nothing until the turn after it.

The same sum may come again. With the same last turn it is the same session: a second try, or the next step of a loop
of tools. With another continuation it is a branch: a session of its own, which inherits the model, since the
beginning is shared. A session holds no contents, and no reply ever comes out of it.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Sessions kept, seconds after the last use, and turns of a session that can be found again.
LIMIT, TTL, POINTS = 4096, 3600.0, 16

_DEEPEST = 32
_ASIDE = frozenset(("system", "developer"))
#: What counts of a message beside role and content; other fields vary without another meaning.
_REST = ("name", "tool_calls", "tool_call_id")


def session_id(messages: Sequence[Mapping[str, Any]], key: str = "") -> str:
    """SHA-256, in hexadecimal, over the contents of all messages that precede the last user turn, and the key.

    Where nothing but system prompts precedes, the first user turn counts as well: else all conversations with one
    system prompt were one. Malformed messages count with what they are; nothing raises.

    Args:
        messages: The conversation as it stands on OpenAI's wire.
        key: The API key, or what stands for the caller.
    """
    return _sums(messages, key).before.hex()


@dataclass
class Session:
    """A conversation, as far as it is known.

    ``model`` answered it last. ``turns`` counts the user's turns that were seen, ``branch_of`` names the
    session whose beginning it shares. ``new``: it was not known before this request.
    """

    id: str
    model: str | None = None
    turns: int = 0
    branch_of: str | None = None
    new: bool = True
    used: float = 0.0
    points: list[bytes] = field(default_factory=list, repr=False)


class _Sums(NamedTuple):
    """``before`` names a new session, ``turns`` are the sums at the user's last turns, of ``users`` in all."""

    before: bytes
    turns: tuple[bytes, ...]
    users: int


class Sessions:
    """The sessions of a server, bounded in number and age; not safe for several threads.

    Args:
        limit: Sessions kept; the one unused longest goes first.
        ttl: Seconds after its last use at which a session is forgotten.
        clock: Seconds, never going back.
    """

    def __init__(self, limit: int = LIMIT, ttl: float = TTL, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = max(1, limit)
        self._ttl = ttl
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._points: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, messages: Sequence[Mapping[str, Any]], key: str = "") -> Session:
        """The session of a request as it is now, a new one where none is known; it counts as used.

        Args:
            messages: The conversation as it stands on OpenAI's wire.
            key: The API key; no session is shared between keys.
        """
        now = self._clock()
        self._expire(now)
        sums = _sums(messages, key)
        last = sums.turns[-1]
        session = self._known(last) or self._went_on(sums) or self._begin(sums)
        session.used, session.turns = now, sums.users
        self._sessions.move_to_end(session.id)
        self._remember(session, last)
        self._shrink()
        one = session
        return Session(one.id, one.model, one.turns, one.branch_of, one.new, one.used)

    def bind(self, session_id: str, model: str) -> None:
        """Note who answers a session; one that was forgotten meanwhile stays so."""
        if (found := self._sessions.get(session_id)) is not None:
            found.model = model

    def _known(self, point: bytes) -> Session | None:
        """The session that was at this very turn."""
        found = self._sessions.get(self._points.get(point, ""))
        if found is not None:
            found.new = False
        return found

    def _went_on(self, sums: _Sums) -> Session | None:
        """The session that was at an earlier turn: it goes on, or branches off where it went on otherwise before."""
        for point in reversed(sums.turns[:-1]):
            found = self._known(point)
            if found is not None:
                return found if found.points[-1] == point else self._begin(sums, found)
        return None

    def _begin(self, sums: _Sums, origin: Session | None = None) -> Session:
        name = sums.before.hex()
        if name in self._sessions:
            # two branches with the same words before their last turn
            name = hashlib.sha256(sums.before + sums.turns[-1]).hexdigest()
        session = Session(name)
        if origin is not None:
            session.model, session.branch_of = origin.model, origin.id
        # the same words may name one that is still there, but has lost the turn they belong to
        self._drop(name)
        self._sessions[name] = session
        return session

    def _remember(self, session: Session, point: bytes) -> None:
        if session.points and session.points[-1] == point:
            return
        if self._points.get(point) == session.id:
            # an earlier turn again: what came behind it is left behind
            return
        self._points[point] = session.id
        session.points.append(point)
        if len(session.points) > POINTS:
            self._forget(session.points.pop(0), session.id)

    def _expire(self, now: float) -> None:
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            if now - oldest.used <= self._ttl:
                return
            self._drop(oldest.id)

    def _shrink(self) -> None:
        while len(self._sessions) > self._limit:
            self._drop(next(iter(self._sessions)))

    def _drop(self, name: str) -> None:
        if (gone := self._sessions.pop(name, None)) is not None:
            for point in gone.points:
                self._forget(point, name)

    def _forget(self, point: bytes, name: str) -> None:
        if self._points.get(point) == name:
            del self._points[point]


def _sums(messages: Sequence[Mapping[str, Any]], key: str) -> _Sums:
    """The sums of a conversation; one without a turn of the user is summed up at its end."""
    listed = messages if isinstance(messages, list | tuple) else ()
    roles = list(map(_role, listed))
    users = [index for index, role in enumerate(roles) if role == "user"]
    # turns that no session remembers need no sum
    points = users[-POINTS - 1 :]
    names = _naming(roles, users)
    running = hashlib.sha256(_measured(b"key", _bytes(key)))
    sums = {}
    for index, message in enumerate(listed):
        running.update(_said(message))
        if index in points or index == names:
            sums[index] = running.digest()
    if not users:
        return _Sums(running.digest(), (running.digest(),), 0)
    return _Sums(sums[names], tuple([sums[index] for index in points]), len(users))


def _naming(roles: Sequence[str | None], users: Sequence[int]) -> int:
    """The last message that names a conversation: the one before the last turn, or the first turn itself."""
    last = users[-1] if users else -1
    return last if _ASIDE.issuperset(roles[:last]) else last - 1


def _role(message: Any) -> str | None:
    role = message.get("role") if type(message) is dict or isinstance(message, Mapping) else None
    return role if isinstance(role, str) else None


def _measured(kind: bytes, data: bytes) -> bytes:
    """A piece with its kind and length before it: no two sequences of pieces read the same."""
    return b"%b:%d:%b" % (kind, len(data), data)


def _bytes(text: str) -> bytes:
    # half a surrogate is valid in JSON
    return text.encode("utf-8", "surrogatepass")


def _said(message: Any) -> bytes:
    """A message in one way to write it: what differs reads differently."""
    if type(message) is not dict and not isinstance(message, Mapping):
        return b"other:" + b"".join(_pieces(message, 0))
    role, content = message.get("role"), message.get("content")
    rest = any(map(message.get, _REST))
    if not isinstance(content, str):
        content = _plain(content)
    if not rest and isinstance(role, str) and isinstance(content, str):
        speaker, text = _bytes(role), _bytes(content)
        return b"said:%d:%b:%d:%b" % (len(speaker), speaker, len(text), text)
    return _fields([("role", role), ("content", content), *((name, message.get(name)) for name in _REST)])


def _fields(values: Sequence[tuple[str, Any]]) -> bytes:
    given = [(name, value) for name, value in values if value or name == "content"]
    pieces = [b"fields:%d:" % len(given)]
    for name, value in given:
        pieces += [_measured(b"field", name.encode()), *_pieces(value, 0)]
    return b"".join(pieces)


def _plain(content: Any) -> Any:
    """A text alone, whether it came as a string or as a single part: clients change between the two."""
    if not isinstance(content, list | tuple) or len(content) != 1 or not isinstance(content[0], Mapping):
        return content
    text = content[0].get("text") if content[0].get("type") == "text" else None
    return text if isinstance(text, str) else content


def _pieces(value: Any, depth: int) -> Iterator[bytes]:
    """A value of JSON as pieces, whatever it holds; what lies very deep counts with its kind alone."""
    if isinstance(value, str):
        yield _measured(b"text", _bytes(value))
    elif depth > _DEEPEST:
        yield b"deep:"
    elif isinstance(value, Mapping):
        yield b"map:%d:" % len(value)
        for name in sorted(value, key=str):
            yield _measured(b"name", _bytes(str(name)))
            yield from _pieces(value[name], depth + 1)
    elif isinstance(value, list | tuple):
        yield b"list:%d:" % len(value)
        for one in value:
            yield from _pieces(one, depth + 1)
    else:
        yield _measured(b"plain", type(value).__name__.encode() + b" " + _plain_value(value))


def _plain_value(value: Any) -> bytes:
    if isinstance(value, int):
        # repr refuses integers of thousands of digits
        return format(value, "x").encode()
    return repr(value).encode() if isinstance(value, float) else b""
