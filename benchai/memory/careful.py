"""Forgetting with proof: forget, write all files anew, look through their bytes. Nobody reads or writes meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchai.memory.forget import Forgotten, Target
from benchai.memory.namespace import Namespace
from benchai.memory.prove import Proof, prove
from benchai.memory.types import Value
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    from benchai.memory.memory import Memory


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
    would = await memory.would_forget(ns, target)
    vectors = [] if memory.vectors is None else list((await memory.vectors.of(would.passages)).values())
    forgotten = await memory.forget(ns, target)
    if memory.vectors is not None:
        await memory.vectors.renew()
    places = [(one.name, Path(one.path)) for one in elsewhere]
    async with memory.alone() as (writer, database):
        proof = await writer.run(
            prove, memory.folder, database, None, forgotten.texts, [vector.tolist() for vector in vectors], places
        )
    return Proven(forgotten=forgotten, proof=proof)


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
