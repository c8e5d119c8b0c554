"""Places of vectors that were left for another: noted until they are empty, lest what is forgotten later stays there.

A place is noted as left in the transaction that notes the new one, which nothing was written to before; the note goes
once it is empty. So each place that may hold a vector is always noted, and all may be done twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from benchai.errors import BenchAIError, UsageError
from benchai.memory.database import Database
from benchai.memory.emptying import empty, holds_vectors
from benchai.memory.types import Value
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    from benchai.memory.opening import IndexPlace

#: Whether a place is still to be emptied, by whether it is noted as left, and what was in use last.
_Still = Callable[[bool, str | None], bool]
logger = logging.getLogger(__name__)
#: Setting that names where the index is, from before the first vector is written there.
PLACE = "place"
#: Setting with the notes of what was left; a memory from before there were any has none.
LEFT = "left"
#: Seconds after a try that failed in which no other is made unasked: a server that is away may cost 5 s each time.
AGAIN_SECONDS = 60.0
#: Setting with the servers that were emptied, whose files keep bytes of deleted vectors, until they are given up.
SERVED = "served"
#: Seconds that the end of a memory waits for an emptying, which then ends with the process; its note stays.
CLOSE_SECONDS = 5.0


class Note(Value):
    """A place that was left: why it could not be emptied, and when that was tried (seconds since 1970)."""

    problem: str = ""
    tried: float = 0.0

    def due(self, now: float) -> bool:
        """Whether to try again unasked; the clock may have been set back."""
        return not 0 <= now - self.tried < AGAIN_SECONDS


def leave(database: Database, place: str) -> None:
    """Note that a place is in use from now on; one that was is to be emptied. Within ``writing``."""
    before, former = noted(database), database.setting(PLACE)
    notes = before if former is None else {former: Note()} | before
    if database.setting(LEFT) is None and (folder := _unnoted(database, place, former)) is not None:
        notes = {folder: Note()} | notes
    notes = {name: note for name, note in notes.items() if name != place}
    if notes != before:
        _keep(database, notes)
    database.set(PLACE, place)


def _unnoted(database: Database, *known: str | None) -> str | None:
    """The folder, where it is not known and a memory from before there were notes has vectors in it.

    Raises:
        StoreError: it can't be told now.
    """
    from benchai.memory.memory import VECTORS
    from benchai.memory.opening import FOLDER

    return FOLDER if FOLDER not in known and holds_vectors(database.file.with_name(VECTORS)) else None


def noted(database: Database) -> dict[str, Note]:
    """The places that were left and not emptied yet."""
    kept = database.setting(LEFT)
    return {name: Note(**note) for name, note in json.loads(kept).items()} if kept else {}


def told(place: str, problem: str) -> str:
    """What is to be said of a place that is not empty yet, with the mend; ``problem``: why not, "" if it is to come."""
    return f"{place!r}, which the vectors have left, may still hold some of what is forgotten: {mend(place, problem)}"


def mend(place: str, problem: str) -> str:
    """Why it is not empty yet, and what can be done."""
    if not problem:
        return "it is emptied once all is embedded in the new place"
    again = f"`benchai memory vacuum` tries again, with `--give-up {place}` they stay there for good"
    return f"{problem}; {again}"


class Left:
    """Empties what was left; one for a memory, whose ``turn`` who opens a place holds meanwhile.

    Who opens one waits for the emptying of that place alone, for a server may take its time.

    Args:
        database: The connection that writes.
        writer: Its thread.
        place: Any of the memory.
    """

    def __init__(self, database: Database, writer: Worker, place: Callable[[], Awaitable[IndexPlace]]) -> None:
        self.turn = asyncio.Lock()
        self._one = asyncio.Lock()
        self._database = database
        self._writer = writer
        self._place = place
        self._thread: Worker | None = None
        self._under_way: IndexPlace | None = None
        self._told: set[str] = set()
        self._closed = False

    async def done_with(self, place: IndexPlace) -> None:
        """Wait for the emptying of a place that is to be opened, or may be; within ``turn``."""
        other = self._under_way
        if other is not None and (place.name == other.name or None not in (place.chroma, other.chroma)):
            await self._idle()

    async def aclose(self) -> None:
        """End the thread; one that a server holds up deletes nothing any more."""
        self._closed = True
        if self._thread is None:
            return
        try:
            await asyncio.wait_for(self._idle(), CLOSE_SECONDS)
        except TimeoutError:
            self._thread.close(wait=False)
        else:
            self._thread.close()

    async def places(self) -> dict[str, str]:
        """Those that are not empty yet, as people know them, with what failed; "" where it is still to come.

        Raises:
            StoreError: the notes can't be read.
        """
        # a memory that has none is not written to
        if not (notes := await self._writer.run(self._noted)):
            return {}
        place = await self._place()
        return {place.at(name).shown: note.problem for name, note in notes.items()}

    async def server(self) -> str | None:
        """The Chroma server that has the vectors, or had them last; None where that is the folder.

        Raises:
            StoreError: the notes can't be read.
        """
        last = await self._writer.run(lambda: self._database.setting(PLACE))
        return (await self._place()).at(last).chroma if last else None

    async def served(self) -> list[str]:
        """Servers that were emptied, whose own files may keep bytes of what was there.

        Raises:
            StoreError: the notes can't be read.
        """
        return await self._writer.run(self._served)

    async def problems(self) -> list[str]:
        """What failed, in words."""
        return [told(place, problem) for place, problem in (await self.places()).items() if problem]

    async def empty(self, present: IndexPlace, *, insist: bool = False) -> None:
        """Empty what was left for a place that holds everything; what fails is noted and tried another time.

        Args:
            present: That place.
            insist: Try what failed a moment ago, too.

        Raises:
            StoreError: the notes can't be written.
        """
        async with self._one:
            notes = await self._writer.run(self._due, present)
            for name, note in notes.items():
                if name != present.name and (insist or note.due(time.time())):
                    place = present.at(name)
                    problem = await self._try(place, present, lambda left, last: left and last == present.name)
                    self._tell(place, problem or "")

    async def empty_all(self, *, used: bool, unused: Callable[[], bool] = lambda: True) -> dict[str, str]:
        """Where nothing makes vectors: empty what was left.

        Args:
            used: Empty what was in use last, too, to be filled anew.
            unused: Whether still nothing makes vectors; otherwise what was in use last is, and stays.

        Returns:
            Those that failed, as people know them, with what is to be said of it.

        Raises:
            StoreError: the notes can't be read or written, or nobody can tell whether the folder has vectors.
        """
        place, failed = await self._place(), {}
        async with self._one:
            notes, last = await self._writer.run(self._known)
            for name in [*notes, *([last] if used and last and last not in notes else [])]:
                left = place.at(name)
                present = place.at(last) if last and name != last else None
                problem = await self._try(left, present, _in_turn(name, used, unused))
                if problem is None:
                    failed[left.shown] = "vectors are made there again; prove it once more"
                elif problem:
                    again = f"{problem}; prove it again once that is mended"
                    failed[left.shown] = mend(left.shown, problem) if name in notes else again
        return failed

    async def give_up(self, shown: str) -> None:
        """Leave what a place holds as it is.

        Raises:
            UsageError: no such place is to be emptied.
            StoreError: it can't be noted.
        """
        await self._writer.run(self._give_up, await self._place(), shown)

    def _give_up(self, place: IndexPlace, shown: str) -> None:
        with self._database.writing():
            notes, served = noted(self._database), self._served()
            left = {name: note for name, note in notes.items() if place.at(name).shown != shown.rstrip("/")}
            kept = [name for name in served if name != shown.rstrip("/")]
            if (left, kept) == (notes, served):
                there = dict.fromkeys([*(place.at(name).shown for name in notes), *served])
                hint = "places that can be given up: " + (", ".join(there) or "none")
                raise UsageError(f"{shown!r} is no place that the vectors have left", hint=hint)
            _keep(self._database, left)
            self._database.set(SERVED, json.dumps(kept))

    async def _try(self, place: IndexPlace, present: IndexPlace | None, still: _Still) -> str | None:
        """Why it could not be emptied, which is noted; "" where it is empty, None where it is not to be any more."""
        # a thread of its own, for a server that is away must not hold up the questions
        self._thread = self._thread or Worker("benchai-left")
        await self._idle()
        async with self.turn:
            # it may have been opened meanwhile
            notes, last = await self._writer.run(self._known)
            if not still(place.name in notes, last):
                return None
            self._under_way = place
        problem = ""
        try:
            await self._thread.run(empty, place, present, lambda: not self._closed)
        except BenchAIError as error:
            problem = error.message
        except Exception as error:
            # of a library, which may do better the next time
            problem = f"{type(error).__name__}: {error!s:.300}"
        self._under_way = None
        await self._writer.run(self._done, place, problem)
        return problem

    async def _idle(self) -> None:
        """Wait for the emptying of a place, which ends even if its call was cancelled."""
        if self._thread is not None:
            await self._thread.run(_nothing)

    def _tell(self, place: IndexPlace, problem: str) -> None:
        if problem and place.name not in self._told:
            self._told.add(place.name)
            logger.warning("%s", told(place.shown, problem))

    def _noted(self) -> dict[str, Note]:
        with self._database.told():
            return noted(self._database)

    def _known(self) -> tuple[dict[str, Note], str | None]:
        """What was left, and what was in use last."""
        with self._database.told():
            last = self._database.setting(PLACE)
            return noted(self._database), last or _unnoted(self._database)

    def _served(self) -> list[str]:
        with self._database.told():
            return list(json.loads(self._database.setting(SERVED) or "[]"))

    def _due(self, present: IndexPlace) -> dict[str, Note]:
        with self._database.told():
            if present.chroma is None or self._database.setting(LEFT) is not None:
                return noted(self._database)
        # a folder that was left before there were notes
        folder = present.at()
        notes = {folder.name: Note()} if holds_vectors(folder.folder) else {}
        with self._database.writing():
            _keep(self._database, notes)
        return notes

    def _done(self, place: IndexPlace, problem: str) -> None:
        with self._database.writing():
            notes = noted(self._database)
            # it may have been given up meanwhile
            if notes.pop(place.name, None) is None:
                return
            failed = {place.name: Note(problem=problem, tried=time.time())} if problem else {}
            _keep(self._database, notes | failed)
            if not problem and place.chroma is not None:
                self._database.set(SERVED, json.dumps(list(dict.fromkeys([*self._served(), place.name]))))


def _in_turn(name: str, used: bool, unused: Callable[[], bool]) -> _Still:
    return lambda left, last: left or (used and name == last and unused())


def _keep(database: Database, notes: dict[str, Note]) -> None:
    database.set(LEFT, json.dumps({name: note.model_dump() for name, note in notes.items()}))


def _nothing() -> None:
    pass
