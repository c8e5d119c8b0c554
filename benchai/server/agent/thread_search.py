"""Searching threads: what they must hold, in which order, and which parts of them are wanted.

Keys and values of a filter reach SQLite as bound values alone: it leaves out rows that cannot match, what matches is
decided here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from benchai.server.agent.bodies import MAX_ROWS, MOST, Body, Data, Text, contains
from benchai.server.agent.database import AgentDatabase, Row, from_json
from benchai.server.agent.service import Unprocessable, check_uuid, selected
from benchai.server.agent.shapes import thread_json
from benchai.server.agent.thread_rows import COLUMNS

ThreadField = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "status",
    "values",
    "error",
    "interrupts",
]
_ORDER = {
    "thread_id": "thread_id",
    "status": "status",
    "created_at": "created",
    "updated_at": "updated",
    "state_updated_at": "state_updated",
}
MAX_EXTRACTED = 10
_ROOTS = ("values", "metadata", "config", "interrupts")
_STEP = r"[^.\[\]]+(?:\[-?\d{1,9}\])*"
_PATH = re.compile(rf"{_STEP}(?:\.{_STEP})*")
_STEPS = re.compile(r"\[(-?\d+)\]|([^.\[\]]+)")
# what SQLite counts with
_INT64 = range(-(2**63), 2**63)


class ThreadCount(Body):
    """Which threads are meant."""

    metadata: Data | None = None
    values: Data | None = None
    status: Literal["idle", "busy", "interrupted", "error"] | None = None


class ThreadSearch(ThreadCount):
    """Which threads are wanted, and what of them."""

    ids: Annotated[list[Text], Field(max_length=MAX_ROWS)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 10
    offset: Annotated[int, Field(ge=0, le=MOST)] = 0
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: list[ThreadField] | None = None
    extract: Annotated[dict[Text, Text], Field(max_length=MAX_EXTRACTED)] | None = None


def count_threads(database: AgentDatabase, owner: str, wanted: ThreadCount) -> int:
    """How many threads of an owner match."""
    if not wanted.metadata and not wanted.values:
        where, bound = _where(owner, wanted)
        found = database.one(f"SELECT count(*) FROM threads WHERE {where}", bound)  # noqa: S608
        return 0 if found is None else int(found[0])
    return len(_matching(database, owner, wanted, "thread_id"))


def search_threads(database: AgentDatabase, owner: str, wanted: ThreadSearch) -> tuple[list[dict[str, Any]], int]:
    """The wanted page of the threads of an owner, and how many match in all.

    Raises:
        Unprocessable: an id is no UUID, or a path to extract is malformed.
    """
    paths = {alias: parsed_path(path) for alias, path in (wanted.extract or {}).items()}
    page, total = _page(database, owner, wanted)
    whole = not wanted.select or "values" in wanted.select or any(path[0] == "values" for path in paths.values())
    found = (_row(database, owner, thread_id, whole) for thread_id in page)
    return [_shown(row, whole, wanted, paths) for row in found], total


def _page(database: AgentDatabase, owner: str, wanted: ThreadSearch) -> tuple[list[str], int]:
    """The ids of the wanted page, and how many match in all."""
    order = _ordering(wanted)
    if wanted.metadata or wanted.values:
        ids = _matching(database, owner, wanted, order)
        return ids[wanted.offset : wanted.offset + wanted.limit], len(ids)
    where, bound = _where(owner, wanted)
    query = f"SELECT thread_id FROM threads WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
    rows = database.read(query, (*bound, wanted.limit, wanted.offset))
    return [row["thread_id"] for row in rows], count_threads(database, owner, wanted)


def _shown(row: Row, whole: bool, wanted: ThreadSearch, paths: dict[str, list[str | int]]) -> dict[str, Any]:
    thread = thread_json(row, values=whole)
    shown = selected(thread, list(wanted.select) if wanted.select else None)
    return shown | ({"extracted": {alias: _at(thread, path) for alias, path in paths.items()}} if paths else {})


def _row(database: AgentDatabase, owner: str, thread_id: str, whole: bool) -> Row:
    columns = f"{COLUMNS}, state" if whole else COLUMNS
    query = f"SELECT {columns} FROM threads WHERE owner = ? AND thread_id = ?"  # noqa: S608
    found = database.one(query, (owner, thread_id))
    assert found is not None  # nothing awaits between finding it and this
    return found


def _ordering(wanted: ThreadSearch) -> str:
    column = _ORDER[wanted.sort_by or "created_at"]
    direction = "ASC" if wanted.sort_order == "asc" else "DESC"
    return f"{column} {direction}, thread_id {direction}"


def _matching(database: AgentDatabase, owner: str, wanted: ThreadCount, order: str) -> list[str]:
    """The ids of the threads that match, in order."""
    where, bound = _where(owner, wanted)
    filters = {"metadata": wanted.metadata, "state": wanted.values}
    columns = [column for column, part in filters.items() if part]
    query = f"SELECT {', '.join(['thread_id', *columns])} FROM threads WHERE {where} ORDER BY {order}"  # noqa: S608
    rows = database.read(query, bound)
    return [row["thread_id"] for row in rows if all(contains(from_json(row[one]), filters[one]) for one in columns)]


def _where(owner: str, wanted: ThreadCount) -> tuple[str, list[Any]]:
    """A condition that every match meets, and its bound values."""
    conditions, bound = ["owner = ?", "NOT hidden"], [owner]
    if wanted.status is not None:
        conditions.append("status = ?")
        bound.append(wanted.status)
    if isinstance(wanted, ThreadSearch) and wanted.ids:
        ids = [check_uuid(one, "thread id") for one in wanted.ids]
        conditions.append(f"thread_id IN ({', '.join('?' * len(ids))})")
        bound += ids
    for column, part in (("metadata", wanted.metadata), ("state", wanted.values)):
        for key, value in (part or {}).items():
            condition, values = _holds(column, key, value)
            conditions.append(condition)
            bound += values
    return " AND ".join(conditions), bound


def _holds(column: str, key: str, value: Any) -> tuple[str, list[Any]]:
    if "\0" in key:
        # where SQLite ends a text
        return "1", []
    plain = isinstance(value, str) and "\0" not in value
    plain = plain or (isinstance(value, int) and not isinstance(value, bool) and value in _INT64)
    compared, values = (" AND atom = ?", [value]) if plain else ("", [])
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE key = ?{compared})", [key, *values]  # noqa: S608


def parsed_path(path: str) -> list[str | int]:
    """The steps of a path such as ``values.messages[-1].content``.

    Raises:
        Unprocessable: it is malformed, or begins at nothing that can be looked into.
    """
    name = path if len(path) <= 100 else f"{path[:100]}..."
    if not _PATH.fullmatch(path):
        hint = "keys stand between dots, places in a list in brackets: values.messages[-1].content"
        raise Unprocessable(f"the path {name!r} to extract is malformed", hint=hint)
    steps: list[str | int] = [int(place) if place else key for place, key in _STEPS.findall(path)]
    if steps[0] not in _ROOTS:
        raise Unprocessable(f"the path {name!r} to extract begins at none of {', '.join(_ROOTS)}")
    return steps


def _at(data: Any, path: list[str | int]) -> Any:
    """What a path leads to; None where that is nothing."""
    for step in path:
        try:
            known = isinstance(data, dict) if isinstance(step, str) else isinstance(data, list)
            data = data[step] if known else None
        except (KeyError, IndexError):
            return None
    return data
