"""Forgetting with proof: forget, write all files anew, look through their bytes. Nobody reads or writes meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchai.errors import BenchAIError, StoreError
from benchai.memory.forget import Forgotten, Target
from benchai.memory.left import mend
from benchai.memory.namespace import Namespace
from benchai.memory.prove import Proof, prove, see_room
from benchai.memory.types import Value
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    from benchai.memory.memory import Memory

#: How often the index is made anew while vectors of the forgotten are found in its files.
_TRIES = 4
_AGAIN = "mend that, then `benchai memory rebuild` and `benchai memory vacuum` write the files anew"
_WAS_SERVED = (
    "its vectors were deleted, but a Chroma server's files may keep their bytes; once those are out of the world, "
    "`benchai memory vacuum --give-up {}` has this told no more"
)
_SERVED = "a Chroma server's files may keep the bytes of deleted vectors; where that matters, keep them in the folder"


class Place(Value):
    """A file or folder outside the memory that may hold the texts, too, with a name for people."""

    name: str
    path: str


class Proven(Value):
    """What was forgotten, and what a look through all bytes found of it."""

    forgotten: Forgotten
    proof: Proof


async def forget_proved(memory: Memory, ns: Namespace, target: Target, elsewhere: Sequence[Place]) -> Proven:
    """See ``Memory.forget_proved``."""
    async with memory.alone() as (writer, database):
        await writer.run(see_room, database)
    would = await memory.would_forget(ns, target)
    vectors = [] if memory.vectors is None else list((await memory.vectors.of(would.passages)).values())
    forgotten = await memory.forget(ns, target)
    places = [(one.name, Path(one.path)) for one in elsewhere]
    try:
        proof = await _proof(memory, forgotten.texts, [vector.tolist() for vector in vectors], places)
        unread = await _unread(memory)
    except BenchAIError as error:
        # what it says of nothing being kept is true of the last step alone
        text = f"it is forgotten, but not proved, and its bytes may still be in the files: {error.message}"
        raise (type(error) if isinstance(error, StoreError) else StoreError)(text, hint=_AGAIN) from error
    return Proven(forgotten=forgotten, proof=proof.model_copy(update={"unread": proof.unread | unread}))


async def _unread(memory: Memory) -> dict[str, str]:
    """Places whose bytes nobody looks through, with the reason."""
    server = await memory.left.server()
    left = await _left(memory)
    unread = {place: _WAS_SERVED.format(place) for place in await memory.left.served()}
    unread |= {} if server is None else {server: _SERVED}
    return unread | {place: f"vectors may still be there: {why}" for place, why in left.items()}


async def _left(memory: Memory) -> dict[str, str]:
    """Places whose vectors could not be deleted, with the reason and the mend."""
    if memory.vectors is None:
        return await memory.left.empty_all(used=True, unused=lambda: memory.vectors is None)
    return {place: mend(place, problem) for place, problem in (await memory.left.places()).items()}


async def _proof(
    memory: Memory, texts: Sequence[str], vectors: Sequence[Sequence[float]], places: Sequence[tuple[str, Path]]
) -> Proof:
    """Write all files anew and look through them.

    Chroma makes its files from memory that it does not clear, where vectors of before may be: then once more.
    """
    from benchai.memory.memory import VECTORS

    folder, left = memory.folder / VECTORS, _TRIES
    while True:
        if memory.vectors is not None:
            await memory.vectors.renew()
        async with memory.alone() as (writer, database):
            proof = await writer.run(prove, memory.folder, database, None, texts, vectors, places)
        left -= 1
        if not left or not any(folder in Path(one.file).parents for one in proof.findings):
            return proof


@asynccontextmanager
async def held(worker: Worker) -> AsyncIterator[None]:
    """Let a thread do nothing else while the context is open."""
    loop, reached, free = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait() -> None:
        loop.call_soon_threadsafe(reached.set)
        free.wait()

    waiting = asyncio.ensure_future(worker.run(wait))
    try:
        await reached.wait()
        yield
    finally:
        free.set()
        await waiting
