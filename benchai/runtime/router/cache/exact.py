"""Replies that are given again to the very same request: in memory, and in SQLite behind it.

All methods belong to one thread, the event loop's; none waits for the disk except ``get`` for one row.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from benchai.runtime.router.cache.chunks import ENDINGS, WHOLE
from benchai.runtime.router.cache.database import GENERATION, Database
from benchai.runtime.router.cache.identity import Identity
from benchai.runtime.router.cache.key import OURS, key_of

MIB = 1024 * 1024
FRONT_MIB = 32
#: Bytes of a reply at most.
LARGEST = 4 * MIB
#: What a row takes beside its reply.
ROW_BYTES = 400
#: Seconds after which the file is looked through, for what is too old and what other processes wrote.
LOOK_SECONDS = 60.0
#: Share of the size that is left when it was exceeded, so that not every reply makes room for itself.
LEFT = 0.95
NOTE_SECONDS, NOTED = 1.0, 10_000
# a clock that was set back by more makes an entry useless
_SKEW = 60.0
_GENERATION = "SELECT value FROM facts WHERE name = ?"
_FIND = "SELECT reply, created, has_usage, checksum FROM replies WHERE key = ?"
_KEEP = "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?)"


class Entry(NamedTuple):
    """A reply in memory; ``created`` in seconds since the epoch."""

    reply: bytes
    created: float
    has_usage: bool
    source: str
    version: bytes


def worth_keeping(reply: Mapping[str, Any]) -> bool:
    """Whether a whole reply came to a regular end and holds something: text or a tool call."""
    choices = reply.get("choices")
    if reply.get("object") != WHOLE or not isinstance(choices, list) or len(choices) != 1:
        return False
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or choice.get("finish_reason") not in ENDINGS or choice.get("index", 0) != 0:
        return False
    return bool(message.get("content") or message.get("tool_calls"))


class ExactCache:
    """The replies of one user.

    Args:
        file: The SQLite file; made where it is not there.
        size: MiB of replies in it at most; those used longest ago go first.
        max_age: Seconds for which a reply is given again.
        report: Gets a line when the file can't be used, perhaps from another thread.
        front: MiB of replies in memory at most.
    """

    def __init__(
        self,
        file: Path,
        *,
        size: int,
        max_age: float,
        report: Callable[[str], None],
        front: float = FRONT_MIB,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = Database(file, report)
        self._limit, self._max_age, self._clock = size * MIB, max_age, clock
        self._front_mib = front
        self._front = _Front(int(min(front, size) * MIB))
        self._seen: dict[str, bytes] = {}
        self._used: dict[bytes, int] = {}
        self._misses = 0
        self._looked, self._bytes = 0.0, 0
        self._noted = 0.0
        self._mark: tuple[int, int] | None = None
        self._generation = 0

    def apply(self, *, size: int, max_age: float) -> None:
        """Take other bounds; what is beyond them goes with the next replies."""
        self._limit, self._max_age = size * MIB, max_age
        self._front.bound(int(min(self._front_mib, size) * MIB))

    def key(self, identity: Identity, body: Mapping[str, Any]) -> bytes | None:
        """The key of a request; None where it has none, or where a file of the model is not the one its engine read."""
        if not identity.current:
            return None
        if self._seen.get(identity.source) != identity.version:
            self._forget_others(identity)
        return key_of(identity, body)

    def get(self, key: bytes, *, usage: bool = False) -> bytes | None:
        """The kept reply (JSON of a ``chat.completion``), or None.

        Args:
            key: What ``key`` gave.
            usage: Whether a reply without its usage is of no use: true unless a stream without usage was asked for.
        """
        now = self._clock()
        if key in self._front:
            # what is only in the file needs no look
            self._notice_clear()
        entry = self._front.get(key) or self._find(key)
        found = entry is not None and -_SKEW <= now - entry.created <= self._max_age and (entry.has_usage or not usage)
        self._note(now, key if found else None)
        return entry.reply if entry is not None and found else None

    def put(self, key: bytes, identity: Identity, reply: Mapping[str, Any] | None) -> bool:
        """Keep a whole reply that came with status 200. Whether it is kept: see ``worth_keeping``."""
        if reply is None or not worth_keeping(reply) or not identity.current:
            return False
        try:
            # our own field tells of the request that the reply was for
            text = orjson.dumps({name: value for name, value in reply.items() if name != OURS})
        except TypeError:
            return False
        if len(text) > LARGEST:
            return False
        self._notice_clear()
        has_usage = isinstance(reply.get("usage"), dict)
        entry = Entry(text, self._clock(), has_usage, identity.source, identity.version)
        self._front.put(key, entry)
        generation = self._generation
        self.database.write(lambda opened: self._keep(opened, key, entry, generation), len(text))
        return True

    def generation(self) -> int:
        """Another number whenever all that is kept was deleted, by whomever; 0 while the file can't be read."""
        self._notice_clear()
        return self._generation

    def flush(self) -> bool:
        """Wait until all is on the disk; blocks."""
        return self.database.flush()

    def close(self) -> None:
        """Write what is left; blocks, in general for some milliseconds."""
        self.database.write(self._count)
        self.database.close()

    def _find(self, key: bytes) -> Entry | None:
        rows = self.database.read(_FIND, (key,))
        if not rows:
            return None
        reply, created, has_usage, checksum = rows[0]
        if not isinstance(reply, bytes) or zlib.crc32(reply, zlib.crc32(key)) != checksum:
            self.database.write(lambda opened: _run(opened, "DELETE FROM replies WHERE key = ?", (key,)))
            return None
        entry = Entry(reply, created, bool(has_usage), "", b"")
        self._front.put(key, entry)
        return entry

    def _notice_clear(self) -> None:
        """Empty the memory when another process has emptied the file."""
        mark = self.database.mark()
        if mark is None or mark == self._mark:
            return
        rows = self.database.read(_GENERATION, (GENERATION,))
        if not rows:
            return
        if rows[0][0] != self._generation:
            self._front.clear()
        self._mark, self._generation = mark, rows[0][0]

    def _forget_others(self, identity: Identity) -> None:
        """Delete the replies of a model's earlier files."""
        self._seen[identity.source] = identity.version
        self._front.forget(identity.source, identity.version)
        query = "DELETE FROM replies WHERE source = ? AND version <> ?"
        self.database.write(lambda opened: _run(opened, query, (identity.source, identity.version)))

    def _note(self, now: float, key: bytes | None) -> None:
        """Count a use, or a miss; the counts go to the disk with the next batch."""
        if key is None:
            self._misses += 1
        else:
            self._used[key] = self._used.get(key, 0) + 1
            if len(self._used) > NOTED:
                self._used.clear()
        if abs(now - self._noted) > NOTE_SECONDS:
            self._noted = now
            self.database.write(self._count)

    def _count(self, opened: sqlite3.Connection) -> None:
        now, hits = self._clock(), 0
        while self._used:
            key, times = self._used.popitem()
            hits += times
            _run(opened, "UPDATE replies SET used = ?, hits = hits + ? WHERE key = ?", (now, times, key))
        misses, self._misses = self._misses, 0
        query = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
        opened.executemany(query, [("hits", hits), ("misses", misses)])

    def _keep(self, opened: sqlite3.Connection, key: bytes, entry: Entry, generation: int) -> None:
        if cleared_since(opened, generation):
            return
        size, checksum = len(entry.reply) + ROW_BYTES, zlib.crc32(entry.reply, zlib.crc32(key))
        about = (entry.source, entry.version, entry.created, entry.created, size, entry.has_usage, checksum)
        _run(opened, _KEEP, (key, *about, entry.reply))
        self._bytes += size
        if self._bytes > self._limit or abs(self._clock() - self._looked) > LOOK_SECONDS:
            self._trim(opened)

    def _trim(self, opened: sqlite3.Connection) -> None:
        self._looked = self._clock()
        _run(opened, "DELETE FROM replies WHERE created < ?", (self._looked - self._max_age,))
        [(self._bytes,)] = opened.execute("SELECT coalesce(sum(size), 0) FROM replies").fetchall()
        if self._bytes <= self._limit:
            return
        gone = []
        for rowid, size in opened.execute("SELECT rowid, size FROM replies ORDER BY used"):
            gone.append((rowid,))
            self._bytes -= size
            if self._bytes <= LEFT * self._limit:
                break
        opened.executemany("DELETE FROM replies WHERE rowid = ?", gone)


class _Front:
    """The replies used last, bounded by their bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def get(self, key: bytes) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        self.drop(key)
        self._entries[key] = entry
        self._bytes += len(entry.reply) + ROW_BYTES
        self.bound(self._limit)

    def bound(self, limit: int) -> None:
        self._limit = limit
        while self._bytes > self._limit:
            self.drop(next(iter(self._entries)))

    def drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry.reply) + ROW_BYTES

    def forget(self, source: str, version: bytes) -> None:
        for key in [key for key, one in self._entries.items() if one.source == source and one.version != version]:
            self.drop(key)

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0


def cleared_since(opened: sqlite3.Connection, generation: int) -> bool:
    """Whether all that is kept was deleted since ``ExactCache.generation`` gave a number."""
    # 0: not known, the file could not be read yet
    return generation != 0 and opened.execute(_GENERATION, (GENERATION,)).fetchall() != [(generation,)]


def _run(opened: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> None:
    opened.execute(query, values).close()
