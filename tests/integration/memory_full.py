"""A program that lets a memory's disk become full or read-only, and tells as JSON what each call came to.

``python -m tests.integration.memory_full FOLDER``, as root of namespaces of its own (``unshare --user --map-root-user
--mount``): it puts a file system of 24 MiB there.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchai.errors import BenchAIError, StoreFull
from benchai.memory import careful, probe
from benchai.memory.chroma import Link
from benchai.memory.forget import Target
from benchai.memory.index import ChromaIndex
from benchai.memory.ingest import ingest
from benchai.memory.memory import FILE, Memory
from benchai.memory.namespace import Namespace
from benchai.memory.search import Query
from benchai.memory.types import Document
from benchai.memory.vault.notes import VaultNotes
from tests.integration.memory_helpers import document
from tests.integration.vector_source import WordEmbedder

NS = Namespace()
READ_ONLY, REMOUNT, BIND = 1, 32, 4096  # mount(2)
WORDS = "word " * 60
HANGS_SECONDS = 25


def mount(kind: str, at: Path, flags: int = 0, data: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(str(at).encode(), str(at).encode(), kind.encode(), flags, data.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")


def unmount(at: Path) -> None:
    ctypes.CDLL(None).umount2(str(at).encode(), 2)


async def come_to(call: Awaitable[Any]) -> Any:
    """What a call returned, or the kind of its error, the message and the mend."""
    try:
        done = await call
    except BenchAIError as error:
        return [type(error).__name__, error.message, error.hint]
    return "done" if done is None else done.model_dump(mode="json") if hasattr(done, "model_dump") else str(done)


async def come_to_open(folder: Path) -> Any:
    try:
        async with Memory.open(folder):
            return "opened"
    except BenchAIError as error:
        return [type(error).__name__, error.message, error.hint]


def piece_by_piece(number: int) -> Document:
    return document(
        f"/{number}", *[f"document {number} piece {place} unique{number}n{place} {WORDS}" for place in range(12)]
    )


class Disk:
    """The file system, and what fills it."""

    def __init__(self, at: Path) -> None:
        self.at, self.ballast = at, at / "ballast"
        mount("tmpfs", at, data="size=24m")

    def fill(self, room: int = 0) -> None:
        with self.ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass
            file.truncate(file.tell() - room)

    def free(self) -> None:
        self.ballast.unlink()


@asynccontextmanager
async def opened(disk: Disk) -> AsyncIterator[Memory]:
    async with Memory.open(disk.at / "memory", embedder=WordEmbedder()) as memory:
        yield memory


async def state(memory: Memory) -> dict[str, Any]:
    return {
        "verify": await come_to(memory.verify()),
        "sources": sorted(await memory.known(NS)),
        "found": len((await memory.search(NS, Query(text="piece"))).passages),
    }


async def full(disk: Disk, folder: Path) -> dict[str, Any]:
    """Each call that writes on a full disk, and again once there is room."""
    async with opened(disk) as memory:
        for number in range(3):
            await memory.put(NS, [piece_by_piece(number)])
        await memory.index()
        disk.fill()
        before = await state(memory)
        calls = {
            "put": lambda: memory.put(NS, [piece_by_piece(number) for number in range(3, 9)]),
            "add": lambda: ingest(memory, NS, [folder]),
            "remember": lambda: memory.remember(NS, "Anna likes tea. " + WORDS * 12),
            "forget": lambda: memory.forget(NS, Target(source="/1")),
            "prove": lambda: memory.forget_proved(NS, Target(source="/1")),
            "vacuum": lambda: memory.vacuum(),
            "rebuild": lambda: memory.rebuild(),
        }
        told = {name: await come_to(call()) for name, call in calls.items()}
        middle = await state(memory)
        exported = await memory.exported(NS)
        disk.free()
        again = {name: await come_to(calls[name]()) for name in ("put", "add", "index") if name in calls}
        again["index"] = await come_to(memory.index())
        return {
            "told": told,
            "before": before,
            "middle": middle,
            "exported": exported.count("\n"),
            "again": again,
            "after": await state(memory),
        }


async def opening(disk: Disk) -> dict[str, Any]:
    """Opened on a full disk, a memory that is there and a new one, its vectors alone, and all with room."""
    disk.fill()
    told: dict[str, Any] = {name: await come_to_open(disk.at / name) for name in ("memory", "new")}
    vectors = disk.at / "memory" / "vectors"
    files = {path: path.stat().st_size for path in vectors.rglob("*.bin")}
    disk.free()
    async with opened(disk) as memory:
        disk.fill()
        told["index"] = await come_to(memory.index())
        told["found"] = len((await memory.search(NS, Query(text="piece"))).passages)
        told["index again"] = await come_to(memory.index())
        disk.free()
        told["index with room"] = await come_to(memory.index())
    told["kept"] = files == {path: path.stat().st_size for path in vectors.rglob("*.bin")}
    async with Memory.open(disk.at / "new") as memory:
        told["new with room"] = await come_to(memory.verify())
    async with opened(disk) as memory:
        told["after"] = await state(memory)
    return told


async def half_proved(disk: Disk) -> dict[str, Any]:
    """Room enough for forgetting, and not for writing all files anew, which is seen when it is too late."""
    told = {}
    async with Memory.open(disk.at / "memory") as memory:
        disk.fill(room=150_000)
        told["refused"] = await come_to(memory.forget_proved(NS, Target(source="/0")))
        told["sources"] = sorted(await memory.known(NS))
        seen, careful.see_room = careful.see_room, lambda database: None
        told["late"] = await come_to(memory.forget_proved(NS, Target(source="/0")))
        careful.see_room = seen
        told["middle"] = await state(memory)
        disk.free()
        await memory.rebuild()
        await memory.vacuum()
        told["left"] = [
            path.name for path in (disk.at / "memory").rglob("*") if path.is_file() and b"unique0n" in path.read_bytes()
        ]
        told["proved"] = (await memory.forget_proved(NS, Target(source="/1"))).proof.clean
        told["after"] = await state(memory)
    return told


def crammed(disk: Disk, folder: Path, told: dict[str, Any]) -> None:
    """Vectors written and deleted on a disk that becomes full again and again."""
    kept: set[int] = set()
    index = ChromaIndex.in_folder(folder, "words", 8)
    numbers = iter(range(1, 10_000))

    def put(count: int) -> None:
        ids = [next(numbers) for _ in range(count)]
        index.upsert(ids, np.random.default_rng(ids[0]).standard_normal((count, 8)).astype(np.float32), [1] * count)
        kept.update(ids)

    def drop() -> None:
        gone = sorted(kept)[:5]
        kept.difference_update(gone)
        index.delete(gone)

    put(100)
    told["full"] = []
    for room in (60_000, 20_000, 0, 60_000):
        disk.fill(room)
        for _ in range(3):
            try:
                put(32)
            except StoreFull as error:
                told["full"].append([error.message, error.hint])
        disk.free()
        put(10)
        drop()
    held = index.ids()
    told["lost"], told["whole"] = len(kept - held), len(held) == index.count()
    told["found"] = len(index.query(np.ones(8, np.float32), [1], 5))
    index.close()


def hanging(disk: Disk) -> dict[str, Any]:
    """The same with and without the look at the room beforehand; a call that hangs ends this program."""
    told: dict[str, Any] = {"looked": {}, "not looked": {}}
    looked = Link.see_room
    # a hanging call keeps Python's lock: nothing in Python can end it
    faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
    for name, part in told.items():
        if name == "not looked":
            setattr(Link, "see_room", lambda *_: None)  # noqa: B010
        crammed(disk, disk.at / name, part)
    faulthandler.cancel_dump_traceback_later()
    setattr(Link, "see_room", looked)  # noqa: B010
    return told


async def read_only(disk: Disk) -> dict[str, Any]:
    """A file system that can't be written, whoever asks; and one folder of it."""
    mount("", disk.at, REMOUNT | READ_ONLY)
    told: dict[str, Any] = {name: await come_to_open(disk.at / name) for name in ("memory", "other")}
    mount("", disk.at, REMOUNT)
    async with opened(disk) as memory:
        # the proof without an embedder has deleted them
        await memory.index()
    vectors = disk.at / "memory" / "vectors"
    files = sorted(str(path) for path in vectors.rglob("*"))
    mount("", vectors, BIND)
    mount("", vectors, REMOUNT | BIND | READ_ONLY)
    async with opened(disk) as memory:
        told["index"] = await come_to(memory.index())
        found = await memory.search(NS, Query(text="piece"))
        told["found"], told["off"] = len(found.passages), dict(found.off)
    told["kept"] = files == sorted(str(path) for path in vectors.rglob("*"))
    unmount(vectors)
    async with opened(disk) as memory:
        told["index after"] = await come_to(memory.index())
        told["after"] = await state(memory)
    return told


async def notes(disk: Disk) -> dict[str, Any]:
    """A vault on a disk that is full, then read-only, then neither."""
    vault = disk.at / "vault"
    (vault / ".obsidian").mkdir(parents=True)
    made = VaultNotes(vault)
    await made.create("Pump", "# Log\n\nfirst\n")
    told: dict[str, Any] = {}
    for name in ("full", "read-only", "writable"):
        disk.fill() if name == "full" else None
        mount("", disk.at, REMOUNT | (READ_ONLY if name == "read-only" else 0))
        told[name] = {
            "create": await come_to(made.create("New", WORDS * 30)),
            "append": await come_to(made.append("Pump", WORDS * 30, "Log")),
            "read": (await made.read("Pump"))[:20],
            "files": sorted(path.name for path in vault.iterdir()),
        }
        disk.free() if name == "full" else None
    await made.close()
    return told


async def main(at: Path) -> None:
    # a process for each look would import Chroma each time
    probe.probe = lambda folder, timeout=0.0: probe._look(folder) if (folder / probe.DATABASE).exists() else None
    documents = at.with_name("documents")
    documents.mkdir()
    (documents / "a.md").write_text("A text. " + WORDS * 100)
    disk = Disk(at)
    told = {"full": await full(disk, documents), "opening": await opening(disk), "proving": await half_proved(disk)}
    told["hanging"] = hanging(disk)
    told |= {"read_only": await read_only(disk), "notes": await notes(disk)}
    assert (at / "memory" / FILE).exists()
    print(json.dumps(told))


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(main(Path(sys.argv[1])))
