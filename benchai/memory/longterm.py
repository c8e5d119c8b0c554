"""The memory's calls on what was said and learned; each says what it is of, the parts they go to say the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchai.memory.audit import Doubtful, audit
from benchai.memory.database import Database
from benchai.memory.distil import Summaries, Summary, Work
from benchai.memory.export import export_lines, export_markdown
from benchai.memory.facts import Added, Fact, Facts, Known, Why
from benchai.memory.forget import Forgetting, Forgotten, Target
from benchai.memory.howtos import Howto, Howtos
from benchai.memory.importing import Imported, import_lines
from benchai.memory.importing_files import import_markdown
from benchai.memory.namespace import Namespace
from benchai.memory.turns import Said, Thread, Turn, Turns
from benchai.memory.worker import Worker


class LongTerm:
    """Turns and facts: reading beside writing, each on a thread and a connection of its own."""

    def __init__(self, writing: Database, reading: Database) -> None:
        self._writing, self._reading = writing, reading
        self._writer, self._reader = Worker("benchai-memory"), Worker("benchai-recall")
        self._turns, self._turns_read = Turns(writing), Turns(reading)
        self._facts, self._facts_read = Facts(writing), Facts(reading)
        self._howtos, self._howtos_read = Howtos(writing), Howtos(reading)
        self._summaries, self._summaries_read = Summaries(writing), Summaries(reading)
        self._forgetting = Forgetting(writing)

    async def record(self, ns: Namespace, thread: str, run: str, turns: Sequence[Said]) -> list[int]:
        """See ``Turns.record``."""
        numbers = await self._writer.run(self._turns.record, ns, thread, run, turns)
        self._changed()
        return numbers

    async def turns_of(self, ns: Namespace, thread: str) -> list[Turn]:
        """See ``Turns.turns_of``."""
        return await self._reader.run(self._turns_read.turns_of, ns, thread)

    async def turn(self, ns: Namespace, id: str) -> Turn:
        """See ``Turns.show``."""
        return await self._reader.run(self._turns_read.show, ns, id)

    async def threads(self, ns: Namespace) -> list[Thread]:
        """See ``Turns.threads``."""
        return await self._reader.run(self._turns_read.threads, ns)

    async def learn(self, ns: Namespace, fact: Fact, sources: Sequence[int] = (), extractor: str = "user") -> Added:
        """See ``Facts.add``."""
        added = await self._writer.run(self._facts.add, ns, fact, sources, extractor)
        self._changed()
        return added

    async def remember(self, ns: Namespace, text: str, sources: Sequence[int] = ()) -> Added:
        """See ``Facts.note``."""
        added = await self._writer.run(self._facts.note, ns, text, sources)
        self._changed()
        return added

    async def facts(
        self, ns: Namespace, as_of: float | None = None, subject: str | None = None, relation: str | None = None
    ) -> list[Known]:
        """See ``Facts.holding``."""
        return await self._reader.run(self._facts_read.holding, ns, as_of=as_of, subject=subject, relation=relation)

    async def fact(self, ns: Namespace, id: str) -> Known:
        """See ``Facts.show``."""
        return await self._reader.run(self._facts_read.show, ns, id)

    async def edit(
        self,
        ns: Namespace,
        id: str,
        text: str | None = None,
        value: str | None = None,
        confidence: float | None = None,
    ) -> Known:
        """See ``Facts.edit``."""
        known = await self._writer.run(self._facts.edit, ns, id, text=text, value=value, confidence=confidence)
        self._changed()
        return known

    async def why(self, ns: Namespace, id: str) -> Why:
        """See ``Facts.why``."""
        return await self._reader.run(self._facts_read.why, ns, id)

    async def worked(
        self, ns: Namespace, task: str, steps: Sequence[str], workflow: str, sources: Sequence[int] = ()
    ) -> Howto:
        """See ``Howtos.learned``."""
        howto = await self._writer.run(self._howtos.learned, ns, task, steps, workflow, sources)
        self._changed()
        return howto

    async def howtos(self, ns: Namespace) -> list[Howto]:
        """See ``Howtos.all``."""
        return await self._reader.run(self._howtos_read.all, ns)

    async def audit(self, ns: Namespace) -> list[Doubtful]:
        """See ``audit.audit``."""
        return await self._reader.run(audit, self._reading, ns)

    async def due(self, ns: Namespace, budget: int) -> list[Work]:
        """See ``Summaries.due``."""
        return await self._reader.run(self._summaries_read.due, ns, budget)

    async def stale(self, ns: Namespace) -> list[Work]:
        """See ``Summaries.stale``."""
        return await self._reader.run(self._summaries_read.stale, ns)

    async def summarised(self, ns: Namespace, work: Work, text: str, extractor: str) -> Summary | None:
        """See ``Summaries.keep``."""
        summary = await self._writer.run(self._summaries.keep, ns, work, text, extractor)
        self._changed()
        return summary

    async def drop_summary(self, ns: Namespace, id: str) -> None:
        """See ``Summaries.drop``."""
        await self._writer.run(self._summaries.drop, ns, id)
        self._changed()

    async def summaries(self, ns: Namespace, thread: str | None = None) -> list[Summary]:
        """See ``Summaries.all``."""
        return await self._reader.run(self._summaries_read.all, ns, thread)

    async def exported(self, ns: Namespace, markdown: bool = False) -> str:
        """See ``export_lines``, or ``export_markdown``; all of it as one text."""
        written: list[str] = []
        function = export_markdown if markdown else export_lines
        await self._reader.run(function, self._reading, ns, written.append)
        return "".join(written)

    async def imported(self, ns: Namespace, lines: Sequence[str]) -> Imported:
        """See ``import_lines``."""
        imported = await self._writer.run(import_lines, self._writing, ns, lines)
        self._changed()
        return imported

    async def imported_markdown(self, ns: Namespace, files: Mapping[str, str]) -> Imported:
        """See ``import_markdown``."""
        imported = await self._writer.run(import_markdown, self._writing, ns, files)
        self._changed()
        return imported

    async def would_forget(self, ns: Namespace, target: Target) -> Forgotten:
        """See ``Forgetting.would``."""
        return await self._writer.run(self._forgetting.would, ns, target)

    async def forget(self, ns: Namespace, target: Target) -> Forgotten:
        """See ``Forgetting.forget``; their vectors go aside."""
        forgotten = await self._writer.run(self._forgetting.forget, ns, target)
        self._changed()
        return forgotten

    def _changed(self) -> None:
        """The vectors are to follow."""
