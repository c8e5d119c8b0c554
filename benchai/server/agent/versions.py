"""Assistants as they are kept: each change is a version, and one version is what the assistant is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from benchai.errors import UsageError
from benchai.server.agent.bodies import contains, shown
from benchai.server.agent.database import AgentDatabase, Row, as_json, from_json
from benchai.server.agent.service import UnknownItem, Unprocessable, iso, now

#: What the ids of the system's assistants are made from: the reference server's namespace.
SYSTEM = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
_SELECT = (
    "SELECT v.*, a.created, a.updated FROM assistants a JOIN assistant_versions v USING (owner, assistant_id, version)"
)
_ONE = "owner = ? AND assistant_id = ?"


@dataclass(frozen=True)
class Assistant:
    """A workflow, ``graph_id``, with the configuration and context that its runs begin with.

    ``created`` and ``updated`` are seconds since the epoch.
    """

    assistant_id: str
    graph_id: str
    name: str
    description: str | None
    version: int
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    created: float
    updated: float

    @property
    def system(self) -> bool:
        """Whether it is the system's, for all owners."""
        return self.assistant_id == system_id(self.graph_id)

    def as_json(self) -> dict[str, Any]:
        """As the wire has it."""
        data = asdict(self)
        data["created_at"], data["updated_at"] = iso(data.pop("created")), iso(data.pop("updated"))
        return data

    def as_version(self) -> dict[str, Any]:
        """As the wire has one of its versions."""
        data = self.as_json()
        del data["updated_at"]
        return data


@lru_cache(maxsize=1_000)
def system_id(graph_id: str) -> str:
    """The id of a workflow's assistant of the system."""
    return str(uuid.uuid5(SYSTEM, graph_id))


def system_assistant(database: AgentDatabase, name: str, description: str) -> Assistant:
    """The system's assistant of a workflow; it came to be when the workflow was first seen."""
    row = database.one("SELECT seen FROM workflows_seen WHERE name = ?", (name,))
    seen = now() if row is None else float(row["seen"])
    if row is None:
        database.write("INSERT INTO workflows_seen (name, seen) VALUES (?, ?)", (name, seen))
    about: dict[str, Any] = {"config": {}, "context": {}, "metadata": {"created_by": "system"}}
    return Assistant(system_id(name), name, name, description or None, 1, **about, created=seen, updated=seen)


def joined(settings: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings with what ``context`` and ``config.configurable`` say in both: they are two words for one thing.

    Args:
        settings: Of an assistant, as they are set; what is None is not set.
        before: The configuration that it has already.

    Raises:
        UsageError: both are set, or ``configurable`` is no object.
    """
    found = {name: value for name, value in settings.items() if value is not None}
    config, context = found.get("config", before or {}), found.get("context")
    inside = found.get("config", {}).get("configurable")
    if not isinstance(inside or {}, dict):
        raise Unprocessable(f"config.configurable is {shown(inside)}", hint="give it an object")
    if inside and context:
        raise UsageError("both config.configurable and context are set", hint="set context alone")
    if inside or context is None:
        return found | ({"context": inside} if inside else {})
    rest = {name: value for name, value in config.items() if name != "configurable"}
    return found | {"config": rest | ({"configurable": context} if context else {})}


def changed(old: Assistant, settings: Mapping[str, Any]) -> Assistant:
    """An assistant with what is set in place of what it had; metadata is merged key by key.

    Raises:
        UsageError: see ``joined``.
    """
    new = joined(settings, old.config)
    return replace(old, **new | {"metadata": old.metadata | new.get("metadata", {})})


class Versions:
    """The assistants of one owner."""

    def __init__(self, database: AgentDatabase, owner: str) -> None:
        self._database = database
        self._owner = owner

    def get(self, assistant_id: str) -> Assistant | None:
        """One of them; None where there is none."""
        row = self._database.one(f"{_SELECT} WHERE {_ONE}", (self._owner, assistant_id))
        return None if row is None else _assistant(row)

    def all(self) -> list[Assistant]:
        """All of them."""
        return [_assistant(row) for row in self._database.read(f"{_SELECT} WHERE owner = ?", (self._owner,))]

    def add(self, assistant: Assistant) -> bool:
        """Keep a new one; false where its id is taken."""
        insert = "INSERT INTO assistants (owner, assistant_id, version, created, updated) VALUES (?, ?, ?, ?, ?)"
        values = (self._owner, assistant.assistant_id, assistant.version, assistant.created, assistant.updated)
        with self._database.transaction():
            if not self._database.write(f"{insert} ON CONFLICT DO NOTHING", values):
                return False
            self._write(assistant)
        return True

    def change(self, assistant_id: str, changed: Callable[[Assistant], Assistant]) -> Assistant:
        """Keep what ``changed`` makes of one as its newest version, and make it that.

        Raises:
            UnknownItem: there is none.
        """
        with self._database.transaction():
            found = self.get(assistant_id)
            if found is None:
                raise UnknownItem(f"there is no assistant {shown(assistant_id)}")
            last = self._database.one(f"SELECT max(version) FROM assistant_versions WHERE {_ONE}", self._at(found))  # noqa: S608 fixed text
            at = now()
            new = replace(changed(found), version=(last[0] if last else 0) + 1, created=at, updated=at)
            self._write(new)
            return self._set(replace(new, created=found.created))

    def versions(self, assistant_id: str) -> list[Assistant]:
        """All versions of one, the newest first; ``created`` is when the version came to be."""
        select = f"SELECT *, written AS created, written AS updated FROM assistant_versions WHERE {_ONE}"  # noqa: S608 fixed text
        rows = self._database.read(f"{select} ORDER BY version DESC", (self._owner, assistant_id))
        return [_assistant(row) for row in rows]

    def go_back(self, assistant_id: str, version: int) -> Assistant:
        """Make an assistant what one of its versions says.

        Raises:
            UnknownItem: there is none, or no such version.
        """
        with self._database.transaction():
            found = self.get(assistant_id)
            there = next((one for one in self.versions(assistant_id) if one.version == version), None)
            if found is None or there is None:
                raise UnknownItem(f"there is no version {version} of the assistant {shown(assistant_id)}")
            return self._set(replace(there, created=found.created, updated=now()))

    def delete(self, assistant_id: str) -> None:
        """Delete one with all its versions."""
        with self._database.transaction():
            for table in ("assistants", "assistant_versions"):
                self._database.write(f"DELETE FROM {table} WHERE {_ONE}", (self._owner, assistant_id))  # noqa: S608 names of ours

    def _set(self, assistant: Assistant) -> Assistant:
        values = (assistant.version, assistant.updated, *self._at(assistant))
        self._database.write(f"UPDATE assistants SET version = ?, updated = ? WHERE {_ONE}", values)  # noqa: S608 fixed text
        return assistant

    def _write(self, new: Assistant) -> None:
        """A version; its ``created`` is when it came to be."""
        plain = (new.version, new.graph_id, new.name, new.description)
        data = (as_json(new.config), as_json(new.context), as_json(new.metadata))
        self._database.write(
            "INSERT INTO assistant_versions"
            " (owner, assistant_id, version, graph_id, name, description, config, context, metadata, written)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*self._at(new), *plain, *data, new.created),
        )

    def _at(self, assistant: Assistant) -> tuple[str, str]:
        return self._owner, assistant.assistant_id


def found_by(
    assistants: list[Assistant], metadata: dict[str, Any] | None, graph_id: str | None, name: str | None
) -> list[Assistant]:
    """Those of a workflow, with this in their name, in any case, and in their metadata."""
    part = (name or "").casefold()
    return [
        one
        for one in assistants
        if graph_id in (None, one.graph_id) and part in one.name.casefold() and contains(one.metadata, metadata or {})
    ]


def in_order(assistants: list[Assistant], key: str | None, descending: bool) -> list[Assistant]:
    """Sorted by a field of the wire, by default by when they came to be."""
    name = {"created_at": "created", "updated_at": "updated", None: "created"}.get(key, key)

    def place(one: Assistant) -> tuple[Any, str]:
        value = getattr(one, name or "")
        return (value.casefold() if isinstance(value, str) else value), one.assistant_id

    return sorted(assistants, key=place, reverse=descending)


def _assistant(row: Row) -> Assistant:
    plain = {name: row[name] for name in ("assistant_id", "graph_id", "name", "description", "version")}
    data = {name: from_json(row[name]) for name in ("config", "context", "metadata")}
    return Assistant(**plain, **data, created=row["created"], updated=row["updated"])
