"""Notes that are linked with what was found: where their links lead is found out from the notes that are kept."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence

from benchai.memory.database import Database, marks
from benchai.memory.namespace import Namespace
from benchai.memory.search import read
from benchai.memory.types import Leg, Link, Passage
from benchai.memory.vault.resolve import Graph, Names

#: Passages of linked notes that follow what was found, and of each note.
MOST, OF_EACH = 5, 1


class Neighbours:
    """The link graphs of vaults, kept until anything changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._graphs: dict[tuple[int, str], Graph] = {}
        self._state: tuple[int, int] = (-1, -1)

    def of(self, ns: Namespace, found: Sequence[Passage]) -> list[Passage]:
        """The first passages of notes that the found ones link, or that link them; notes among the found left out.

        Raises:
            StoreError: the file can't be read.
        """
        with self._database.looking() as connection:
            self._renew()
            visible = self._database.visible(ns)
            there = {passage.source for passage in found}
            wanted: dict[tuple[int, str], str] = {}
            for passage in found:
                for number, source in self._linked(passage, visible):
                    if source not in there:
                        wanted.setdefault((number, source), passage.id)
            numbers = [number for key in list(wanted)[:MOST] for number in self._first(*key)]
            known = read(self._database, connection, ns, numbers)
        legs = {"link": Leg(rank=1, score=0.0)}
        return [known[number].model_copy(update={"legs": legs}) for number in numbers if number in known]

    def _renew(self) -> None:
        """Forget the graphs once this or another connection has changed anything."""
        connection = self._database.connection
        state = (int(connection.execute("PRAGMA data_version").fetchone()[0]), connection.total_changes)
        if state != self._state:
            self._state = state
            self._graphs.clear()

    def _linked(self, passage: Passage, visible: tuple[int, ...]) -> list[tuple[int, str]]:
        vault = passage.meta.get("vault")
        if not isinstance(vault, str):
            return []
        path = posixpath.relpath(passage.source, vault)
        return [
            (number, posixpath.join(vault, other))
            for number in visible
            for other in self._graph(number, vault).neighbours(path)
        ]

    def _graph(self, ns: int, vault: str) -> Graph:
        if (ns, vault) not in self._graphs:
            rows = self._database.connection.execute(
                "SELECT id, source, meta FROM documents WHERE ns = ? AND json_extract(meta, '$.vault') = ?", (ns, vault)
            ).fetchall()
            paths = {number: posixpath.relpath(source, vault) for number, source, _ in rows}
            aliases = {paths[number]: json.loads(meta).get("aliases") or [] for number, _, meta in rows}
            self._graphs[ns, vault] = Graph(Names(paths.values(), aliases), self._links(paths))
        return self._graphs[ns, vault]

    def _links(self, paths: dict[int, str]) -> dict[str, list[Link]]:
        links: dict[str, list[Link]] = {path: [] for path in paths.values()}
        for begin in range(0, len(paths), 500):
            part = list(paths)[begin : begin + 500]
            asked = f"SELECT document, target, part, kind FROM links WHERE document IN ({marks(part)}) ORDER BY rowid"  # noqa: S608
            for number, target, within, kind in self._database.connection.execute(asked, part):
                links[paths[number]].append(Link(target=target, part=within, kind=kind))
        return links

    def _first(self, ns: int, source: str) -> list[int]:
        rows = self._database.connection.execute(
            "SELECT p.id FROM documents d JOIN passages p ON p.kind = 'document' AND p.owner = d.id "
            "WHERE d.ns = ? AND d.source = ? ORDER BY p.place LIMIT ?",
            (ns, source, OF_EACH),
        )
        return [int(row[0]) for row in rows]
