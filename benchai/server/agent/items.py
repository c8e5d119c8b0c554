"""The store of the agent wire: what LangGraph calls a store, in the server's SQLite file, for one owner.

No vectors are kept: ``query`` ranks by the words that an item has in common with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    get_text_at_path,
)

from benchai.server.agent.bodies import MOST, check_key, check_labels, check_namespace, shown
from benchai.server.agent.database import AgentDatabase, Row, as_json, from_json
from benchai.server.agent.filters import Condition, conditions
from benchai.server.agent.service import Unprocessable, now

MAX_QUERY_WORDS = 32
#: characters of an item that can be found by their words
MAX_TEXT = 100_000
MAX_PATH = 256
_WORD = re.compile(r"\w+")
_FRESH = "(expires IS NULL OR expires > ?)"
_ONE = "owner = ? AND namespace = ? AND key = ?"


class ItemStore(BaseStore):
    """The items of one owner. Calls from other threads wait for the event loop on which it was made.

    ``clock`` tells the seconds since the epoch.

    Raises, from all its calls:
        UsageError: a namespace, key, filter or value that cannot be taken.
        StoreError: the file cannot be read or written.
    """

    supports_ttl = True

    def __init__(self, database: AgentDatabase, owner: str, clock: Callable[[], float] = now) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._loop = _running()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do the operations in their order, all or none."""
        if self._at_home():
            return self._all(list(ops))
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self.abatch(list(ops)), self._loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do the operations in their order, all or none."""
        if self._at_home():
            return self._all(list(ops))
        assert self._loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.abatch(list(ops)), self._loop))

    def _at_home(self) -> bool:
        """Whether the database may be used here: SQLite's connection belongs to one thread."""
        return self._loop is None or _running() is self._loop

    def _all(self, ops: list[Op]) -> list[Result]:
        with self._database.transaction():
            return [self._done(op) for op in ops]

    def _done(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            return self._get(op)
        if isinstance(op, SearchOp):
            return list(self._search(op))
        if isinstance(op, PutOp):
            self._delete(op) if op.value is None else self._put(op)
            return None
        return self._namespaces(op)

    def _get(self, op: GetOp) -> Item | None:
        here = (self._owner, _joined(op.namespace), check_key(op.key))
        row = self._database.one(f"SELECT * FROM items WHERE {_ONE} AND {_FRESH}", (*here, self._clock()))  # noqa: S608 fixed
        if row is None:
            return None
        self._used(row, op.refresh_ttl)
        return Item(**_fields(row))

    def _search(self, op: SearchOp) -> Iterator[SearchItem]:
        words = _words(op.query or "")[:MAX_QUERY_WORDS]
        score, bound = _score(words)
        met: list[Condition] = [("owner = ?", (self._owner,)), (_FRESH, (self._clock(),))]
        met += [_below(_joined(op.namespace_prefix))] if op.namespace_prefix else []
        met += conditions(op.filter or {})
        where = " AND ".join(f"({text})" for text, _ in met)
        # pieces of fixed text: keys and values are bound
        statement = f"SELECT *, {score} AS score FROM items WHERE {where}"  # noqa: S608
        statement += " ORDER BY score DESC, updated DESC, namespace, key LIMIT ? OFFSET ?"
        values = [*bound, *(one for _, values in met for one in values), _counted(op.limit), _counted(op.offset)]
        for row in self._database.read(statement, values):
            self._used(row, op.refresh_ttl)
            yield SearchItem(**_fields(row), score=row["score"] if words else None)

    def _put(self, op: PutOp) -> None:
        here = (self._owner, _joined(check_namespace(op.namespace)), check_key(op.key))
        at = self._clock()
        self._database.write("DELETE FROM items WHERE expires <= ?", (at,))
        ttl = _ttl(op.ttl)
        value = dict(op.value or {})
        self._database.write(
            "INSERT INTO items (owner, namespace, key, value, words, created, updated, ttl, expires)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value, words = excluded.words, updated = excluded.updated,"
            " ttl = excluded.ttl, expires = excluded.expires",
            (*here, _kept(value), _found_by(value, op.index), at, at, ttl, None if ttl is None else at + ttl * 60),
        )

    def _delete(self, op: PutOp) -> None:
        here = (self._owner, _joined(op.namespace), check_key(op.key))
        self._database.write(f"DELETE FROM items WHERE {_ONE}", here)  # noqa: S608 fixed text

    def _used(self, row: Row, refresh: bool) -> None:
        """An item is kept for so long after it was last used."""
        if refresh and row["ttl"] is not None:
            end = self._clock() + row["ttl"] * 60
            here = (self._owner, row["namespace"], row["key"])
            self._database.write(f"UPDATE items SET expires = ? WHERE {_ONE}", (end, *here))  # noqa: S608 fixed text

    def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        wanted = op.match_conditions or ()
        for one in wanted:
            check_labels(one.path)
        rows = self._database.read(
            f"SELECT DISTINCT namespace FROM items WHERE owner = ? AND {_FRESH}",  # noqa: S608 fixed text
            (self._owner, self._clock()),
        )
        all_of_them = (tuple(row["namespace"].split(".")) for row in rows)
        met = {one[: op.max_depth] for one in all_of_them if all(_matches(one, by) for by in wanted)}
        return sorted(met)[_counted(op.offset) :][: _counted(op.limit)]


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _joined(namespace: tuple[str, ...]) -> str:
    return ".".join(check_labels(namespace))


def _below(prefix: str) -> Condition:
    """A namespace and those below it, as a range for the index: "/" comes after "." and no label holds a dot."""
    range_of_it = "namespace >= ? AND namespace < ? AND (namespace = ? OR namespace > ?)"
    return range_of_it, (prefix, f"{prefix}/", prefix, f"{prefix}.")


def _matches(namespace: tuple[str, ...], by: MatchCondition) -> bool:
    size = len(by.path)
    if size > len(namespace):
        return False
    part = namespace[:size] if by.match_type == "prefix" else namespace[len(namespace) - size :]
    return all(wanted in ("*", label) for wanted, label in zip(by.path, part, strict=True))


def _score(words: list[str]) -> Condition:
    """The share of the words that an item has."""
    if not words:
        return "0.0", ()
    return f"({' + '.join(['(instr(words, ?) > 0)'] * len(words))}) / ?", (
        *(f" {one} " for one in words),
        len(words) * 1.0,
    )


def _words(text: str) -> list[str]:
    """The words of a text, each once."""
    return list(dict.fromkeys(_WORD.findall(text.casefold())))


def _found_by(value: Mapping[str, Any], index: Any) -> str:
    """All that an item can be found by, each word between blanks."""
    if index is False:
        return ""
    texts = _texts(value) if index is None else _at_paths(value, index)
    return f" {' '.join(_words(' '.join(texts)[:MAX_TEXT]))} "


def _at_paths(value: Mapping[str, Any], index: list[str]) -> Iterator[str]:
    for path in index:
        if not isinstance(path, str) or len(path) > MAX_PATH:
            raise Unprocessable(f"the index {shown(path)} is no path of at most {MAX_PATH} characters")
        yield from get_text_at_path(value, path)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float):
        yield str(value)
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _kept(value: dict[str, Any]) -> str:
    try:
        return as_json(value)
    except (TypeError, RecursionError) as error:
        raise Unprocessable(f"the item's value cannot be kept as JSON: {error}") from None


def _ttl(minutes: float | None) -> float | None:
    if minutes is not None and not minutes > 0:
        raise Unprocessable(f"the ttl is {minutes!r}", hint="give minutes, more than 0, or none at all")
    return minutes


def _counted(value: int) -> int:
    return max(0, min(value, MOST))


def _fields(row: Row) -> dict[str, Any]:
    return {
        "namespace": tuple(row["namespace"].split(".")),
        "key": row["key"],
        "value": from_json(row["value"]),
        "created_at": datetime.fromtimestamp(row["created"], UTC),
        "updated_at": datetime.fromtimestamp(row["updated"], UTC),
    }
