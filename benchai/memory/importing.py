"""Reading an export in: each line is checked, all are kept or none, and what is there already is not kept twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import Field, ValidationError

from benchai.errors import NamespaceError
from benchai.memory import distil, howtos
from benchai.memory.database import Database
from benchai.memory.facts import BY_HAND, NOTE, Fact, add_fact
from benchai.memory.labels import keep_label
from benchai.memory.lines import (
    LINE,
    AnyLine,
    DocumentLine,
    FactLine,
    Head,
    HowtoLine,
    LabelLine,
    SummaryLine,
    TurnLine,
)
from benchai.memory.markdown import wrong as _wrong
from benchai.memory.namespace import Namespace
from benchai.memory.relations import is_single, line_key, value_key
from benchai.memory.store import add_document, add_links
from benchai.memory.turns import Said, add_turn, refresh
from benchai.memory.types import Value


class Imported(Value):
    """How many rows of each kind were added, how many were there, and how much of what sort was left out."""

    added: dict[str, int]
    known: dict[str, int]
    skipped: dict[str, int] = Field(default_factory=dict)


def import_lines(database: Database, ns: Namespace, lines: Iterable[str]) -> Imported:
    """Keep what an export holds, in the namespaces that it names, below ``ns``; rows get new ids.

    Raises:
        SourceError: a line is not of the form, names a line that is not there, or a namespace that is not below
            ``ns``; nothing is kept.
        StoreFull: the disk is full; nothing is kept.
        StoreError: it can't be written.
    """
    with database.writing():
        importing = Importing(database, ns)
        for number, text in enumerate(lines, 1):
            if text.strip():
                importing.line(number, text)
        return importing.end()


def read_line(number: int, text: str) -> AnyLine:
    """A line of an export.

    Raises:
        SourceError: it is not of the form; the message names the line, the field and its value.
    """
    try:
        return LINE.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        value = repr(first["input"])[:120]
        raise _wrong(number, f"{where} = {value}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


class Importing:
    """One import; within ``writing``."""

    def __init__(self, database: Database, ns: Namespace) -> None:
        self._database, self._ns = database, ns
        self._connection = database.connection
        self._added: Counter[str] = Counter()
        self._known: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._head = False
        # new ids by those of the export
        self._ids: dict[str, dict[int, int]] = {"document": {}, "turn": {}, "fact": {}, "howto": {}, "summary": {}}
        self._labels: dict[int, tuple[int, int, LabelLine]] = {}
        self._levels: dict[int, Namespace] = {}
        self._level_of_turn: dict[int, int] = {}
        # rows that a line was found to be: a second line that says the same is another row
        self._taken: set[tuple[str, int]] = set()
        self._fresh: dict[tuple[int, str], tuple[int, int]] = {}
        self._fact_lines: set[tuple[int, str]] = set()

    def line(self, number: int, text: str) -> None:
        """Keep what a line holds."""
        line = read_line(number, text)
        if isinstance(line, Head):
            self._head = True
            return
        if not self._head:
            raise _wrong(number, f"{text.strip()[:80]!r} comes before the line that names the format")
        if line.id in (self._labels if isinstance(line, LabelLine) else self._ids[line.kind]):
            raise _wrong(number, f"id = {line.id!r}: another {line.kind} has it")
        try:
            if isinstance(line, LabelLine):
                self._labels[line.id] = (number, self._number(number, line.namespace), line)
            else:
                self._ids[line.kind][line.id] = self._keep(number, line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise _wrong(number, f"{first['loc'][-1]} = {first['input']!r:.120}: {first['msg']}") from None
        except (OverflowError, UnicodeEncodeError) as error:
            raise _wrong(number, f"{text.strip()[:80]!r} can't be kept: {error}") from None

    def end(self) -> Imported:
        """Join what could not be joined before all lines were read."""
        for (ns, thread), (first, last) in self._fresh.items():
            refresh(self._connection, ns, thread, first, last)
        for ns, key in self._fact_lines:
            self._thread_line(ns, key)
        # last: what became of a line of facts may have taken passages away
        for number, ns, label in self._labels.values():
            self._label(number, ns, label)
        return Imported(added=dict(self._added), known=dict(self._known), skipped=dict(self._skipped))

    def note(self, number: int, level: str, text: str) -> None:
        """Keep a note, unless it is known and holds."""
        fact = Fact(subject="user", relation=NOTE, value=text, text=text)
        ns, key = self._number(number, level), line_key(fact.subject, fact.relation)
        asked = "SELECT id FROM facts WHERE ns = ? AND key = ? AND value_key = ? AND invalid_at IS NULL"
        if self._connection.execute(asked, (ns, key, value_key(fact.value))).fetchone() is not None:
            self._known["fact"] += 1
            return
        now = self._database.now()
        add_fact(self._connection, ns, fact, BY_HAND, now, now)
        self._added["fact"] += 1

    def skip(self, sort: str, count: int = 1) -> None:
        """Count what is left out."""
        self._skipped[sort] += count

    def _keep(self, number: int, line: DocumentLine | TurnLine | FactLine | HowtoLine | SummaryLine) -> int:
        ns = self._number(number, line.namespace)
        if isinstance(line, DocumentLine):
            return self._document(number, ns, line)
        if isinstance(line, TurnLine):
            return self._turn(ns, line)
        sources = self._sources(number, ns, line.sources)
        if isinstance(line, FactLine):
            kept = self._fact(ns, line)
        elif isinstance(line, HowtoLine):
            kept = self._howto(ns, line)
        else:
            kept = self._summary(ns, line)
        self._connection.executemany(
            "INSERT OR IGNORE INTO derived (kind, child, turn) VALUES (?, ?, ?)",
            [(line.kind, kept, source) for source in sources],
        )
        return kept

    def _number(self, number: int, name: str) -> int:
        try:
            level = Namespace.parse(name, self._ns.user)
        except NamespaceError as error:
            raise _wrong(number, f"namespace = {name[:120]!r}: {error.message}") from None
        if not self._ns.holds(level):
            raise _wrong(number, f"namespace = {name!r} is not {str(self._ns)!r} or below it")
        found = self._database.number(level)
        self._levels[found] = level
        return found

    def _sources(self, number: int, ns: int, sources: Iterable[int]) -> list[int]:
        found = []
        for source in sources:
            turn = self._ids["turn"].get(source)
            if turn is None:
                raise _wrong(number, f"sources = {source!r}: no line before it is a turn of that id")
            # as where facts are learned: whoever sees a fact sees where it comes from
            if self._levels[self._level_of_turn[turn]] not in self._levels[ns].visible():
                raise _wrong(number, f"sources = {source!r}: that turn can't be seen from its namespace")
            found.append(turn)
        return found

    def _find(self, kind: str, asked: str, values: tuple[object, ...]) -> int | None:
        """A row that is what a line says, and that no other line is."""
        for (row,) in self._connection.execute(asked, values).fetchall():
            if (kind, row) not in self._taken:
                self._taken.add((kind, row))
                self._known[kind] += 1
                return int(row)
        self._added[kind] += 1
        return None

    def _new(self, kind: str, row: int) -> int:
        self._taken.add((kind, row))
        return row

    def _document(self, number: int, ns: int, line: DocumentLine) -> int:
        document = line.document
        asked = "SELECT id FROM documents WHERE ns = ? AND source = ? AND hash = ? AND version = ? AND title = ?"
        found = self._find("document", asked, (ns, document.source, document.hash, document.version, document.title))
        if found is not None:
            return found
        self._connection.execute("DELETE FROM documents WHERE ns = ? AND source = ?", (ns, document.source))
        number = add_document(self._connection, ns, document, line.at)
        self._pieces(ns, number, line)
        add_links(self._connection, number, line.links)
        return self._new("document", number)

    def _pieces(self, ns: int, document: int, line: DocumentLine) -> None:
        self._connection.executemany(
            "INSERT INTO passages (ns, kind, owner, place, text, context, title, heading, line, end_line, page, at) "
            "VALUES (?, 'document', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    ns,
                    document,
                    place,
                    piece.text,
                    piece.context,
                    line.document.title,
                    piece.heading,
                    piece.line,
                    piece.end_line,
                    piece.page,
                    piece.at,
                )
                for place, piece in enumerate(line.pieces)
            ],
        )

    def _turn(self, ns: int, line: TurnLine) -> int:
        asked = (
            "SELECT id FROM turns WHERE ns = ? AND thread = ? AND run = ? AND role = ? AND name = ? AND text = ? "
            "AND at = ? ORDER BY id"
        )
        values = (ns, line.thread, line.run, line.role, line.name, line.text, line.at)
        found = self._find("turn", asked, values)
        if found is None:
            said = Said(role=line.role, text=line.text, name=line.name)
            found = self._new("turn", add_turn(self._connection, ns, line.thread, line.run, said, line.at))
            first, _ = self._fresh.get((ns, line.thread), (found, found))
            self._fresh[ns, line.thread] = (first, found)
        self._level_of_turn[found] = ns
        return found

    def _fact(self, ns: int, line: FactLine) -> int:
        fact, key = line.fact, line_key(line.subject, line.relation)
        asked = (
            "SELECT id FROM facts WHERE ns = ? AND key = ? AND value_key = ? AND text = ? AND valid_at = ? "
            "AND extractor = ? AND at = ? ORDER BY id"
        )
        values = (ns, key, value_key(fact.value), fact.text, line.valid_at, line.extractor, line.at)
        found = self._find("fact", asked, values)
        if found is not None:
            return found
        number = add_fact(self._connection, ns, fact, line.extractor, line.valid_at, line.at)
        if is_single(fact.relation):
            self._fact_lines.add((ns, key))
        return self._new("fact", number)

    def _howto(self, ns: int, line: HowtoLine) -> int:
        worked = line.worked
        asked = "SELECT id FROM howtos WHERE ns = ? AND key = ? AND workflow = ?"
        found = self._find("howto", asked, (ns, value_key(worked.task), worked.workflow))
        if found is not None:
            grown = "UPDATE howtos SET successes = max(successes, ?) WHERE id = ?"
            self._connection.execute(grown, (line.successes, found))
            return found
        number = howtos.add_howto(self._connection, ns, worked, line.successes, line.at)
        howtos.add_passages(self._connection, ns, number, worked, line.at)
        return self._new("howto", number)

    def _summary(self, ns: int, line: SummaryLine) -> int:
        asked = "SELECT id FROM summaries WHERE ns = ? AND thread = ? AND text = ? AND stale = ? AND at = ? ORDER BY id"
        found = self._find("summary", asked, (ns, line.thread, line.text, line.stale, line.at))
        if found is not None:
            return found
        number = distil.add_summary(self._connection, ns, line.thread, line.text, line.extractor, line.stale, line.at)
        distil.add_passages(self._connection, ns, number, line.thread, line.text, line.at)
        return self._new("summary", number)

    def _label(self, number: int, ns: int, line: LabelLine) -> None:
        owner = self._ids[line.part_of].get(line.owner)
        if owner is None:
            raise _wrong(number, f"owner = {line.owner!r}: no line is a {line.part_of} of that id")
        rows = self._connection.execute(
            "SELECT id, ns FROM passages WHERE kind = ? AND owner = ? AND text = ? ORDER BY place <> ?, place",
            (line.part_of, owner, line.text, line.place),
        ).fetchall()
        if not rows:
            self.skip("labels of passages that are not there")
            return
        if self._levels[rows[0][1]] not in self._levels[ns].visible():
            raise _wrong(number, f"owner = {line.owner!r}: that {line.part_of} can't be seen from its namespace")
        kept = keep_label(self._connection, ns, line.query, rows[0][0], line.good, line.at)
        (self._added if kept else self._known)["label"] += 1

    def _thread_line(self, ns: int, key: str) -> None:
        """Give each fact on a line its end: where the next one begins."""
        rows = self._connection.execute(
            "SELECT id, valid_at FROM facts WHERE ns = ? AND key = ? ORDER BY valid_at, id", (ns, key)
        ).fetchall()
        for (number, _), behind in zip(rows, [*rows[1:], None], strict=True):
            by, until = behind or (None, None)
            asked = (until, by, number)
            self._connection.execute("UPDATE facts SET invalid_at = ?, superseded_by = ? WHERE id = ?", asked)
