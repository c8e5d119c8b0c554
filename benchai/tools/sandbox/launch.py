"""Starting a guard, taking what the program writes, and ending both; all without blocking the event loop."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import psutil

from benchai.errors import ToolError
from benchai.tools.sandbox.base import EndedBy, Limits, Ran

__all__ = ["Job", "Kept", "private_folder", "run_job"]

GUARD = Path(__file__).with_name("guard.py")
FLOOD = 16  # times the bytes that are kept
_START_SECONDS = 20.0  # that the guard gets beyond the program's time, to start and to end it
_END_SECONDS = 5.0
_ORPHAN_ROUNDS = 3
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Job:
    """What a guard does: `kind`, the private folder of the program, and `details` as the kind needs them."""

    kind: str
    argv: list[str]
    limits: Limits
    stdin: str | None
    temp: Path
    details: dict[str, Any]

    def line(self) -> bytes:
        """Return the job as the guard reads it."""
        fields = {"kind": self.kind, "argv": self.argv, "stdin": self.stdin, **self.details}
        return json.dumps({**fields, "limits": asdict(self.limits)}).encode() + b"\n"


class Kept:
    """The first and the last half of a stream, so that a flood needs no more memory than what is kept."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.limit = limit
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.total += len(chunk)
        room = self.limit - self.limit // 2 - len(self._head)
        self._head += chunk[: max(room, 0)]
        self._tail += chunk[max(room, 0) :]
        del self._tail[: max(len(self._tail) - self.limit // 2, 0)]

    @property
    def truncated(self) -> bool:
        """Whether bytes are left out."""
        return self.total > self.limit

    def text(self) -> str:
        """Return what is kept; what is no UTF-8 is replaced."""
        if not self.truncated:
            return (self._head + self._tail).decode("utf-8", "replace")
        note = f"\n[... {self.total - self.limit} bytes left out ...]\n"
        return self._head.decode("utf-8", "replace") + note + self._tail.decode("utf-8", "replace")


@asynccontextmanager
async def private_folder() -> AsyncIterator[Path]:
    """Make a folder that only we may enter, and remove it with all that is in it."""
    folder = Path(await anyio.to_thread.run_sync(_make_folder))
    try:
        yield folder
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_remove, folder)


async def run_job(job: Job) -> Ran:
    """Run a job to its end, whatever that is; a cancelled one ends before this returns.

    Raises ToolError when the program can't be started.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with closing(ours):
        with theirs:
            process = await _start_guard(theirs)
        out, err = Kept(job.limits.output_bytes), Kept(job.limits.output_bytes)
        assert process.stdout is not None
        assert process.stderr is not None
        reading = [
            asyncio.ensure_future(_keep(stream, kept, ours))
            for stream, kept in ((process.stdout, out), (process.stderr, err))
        ]
        try:
            async with asyncio.timeout(job.limits.wall_seconds + _START_SECONDS):
                verdict = await _verdict(ours, job)
                if verdict is None:
                    await anyio.to_thread.run_sync(_end_orphans, process.pid, job.temp)
                await asyncio.gather(*reading)
        except TimeoutError:
            raise ToolError("the sandbox does not answer", hint="try again with less load on the machine") from None
        finally:
            ours.close()
            with anyio.CancelScope(shield=True):
                await _end(process, reading, job.temp)
    if verdict is None:
        raise ToolError("the program was ended, as its guard was killed; the machine may have run out of memory")
    return _ran(verdict, out, err)


async def _start_guard(theirs: socket.socket) -> Process:
    # A folder that is always there, as ours may be deleted
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-B", str(GUARD)),
        stdin=theirs.fileno(),
        stdout=PIPE,
        stderr=PIPE,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        start_new_session=True,
    )


async def _verdict(ours: socket.socket, job: Job) -> dict[str, Any] | None:
    """Hand over the job and wait for what became of it; None when the guard has gone."""
    loop = asyncio.get_running_loop()
    line = b""
    with suppress(ConnectionError):
        await loop.sock_sendall(ours, job.line())
        while chunk := await loop.sock_recv(ours, _CHUNK):
            line += chunk
    return cast("dict[str, Any]", json.loads(line)) if line else None


async def _keep(stream: asyncio.StreamReader, kept: Kept, ours: socket.socket) -> None:
    while chunk := await stream.read(_CHUNK):
        kept.add(chunk)
        if kept.total > FLOOD * kept.limit:
            with suppress(OSError):
                ours.shutdown(socket.SHUT_WR)


async def _end(process: Process, reading: Sequence[asyncio.Future[None]], temp: Path) -> None:
    """Wait until the guard, which ends when its socket closes, is gone, and all pipes with it."""
    with anyio.move_on_after(_END_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
    if process.returncode != 0:
        await anyio.to_thread.run_sync(_end_orphans, process.pid, temp)
    # Only once the pipes are closed too, which an orphan might hold
    with anyio.move_on_after(_END_SECONDS):
        await process.wait()
        await asyncio.wait(reading)
    for task in reading:
        task.cancel()


def _ran(verdict: dict[str, Any], out: Kept, err: Kept) -> Ran:
    if "error" in verdict:
        raise ToolError(f"the sandbox could not run the program: {verdict['error']}")
    code, ended_by = verdict["code"], _ended_by(verdict)
    return Ran(
        exit_code=code if ended_by == "exit" else None,
        stdout=out.text(),
        stderr=err.text(),
        seconds=verdict["seconds"],
        ended_by=ended_by,
        truncated=out.truncated or err.truncated,
    )


def _ended_by(verdict: dict[str, Any]) -> EndedBy:
    exceeded = verdict["exceeded"]
    if exceeded == "closed":
        return "output"
    if exceeded is not None:
        return cast("EndedBy", exceeded)
    return "exit" if verdict["code"] is not None and verdict["code"] >= 0 else "signal"


def _end_orphans(guard: int, temp: Path) -> None:
    """End what a guard that was killed itself has left: its session, and all that has our TMPDIR."""
    # again, for what was started meanwhile
    for _ in range(_ORPHAN_ROUNDS):
        left = [process for process in psutil.process_iter() if _is_orphan(process, guard, temp)]
        if not left:
            return
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        # the guard's own end is the event loop's to notice
        psutil.wait_procs([process for process in left if process.pid != guard], timeout=_END_SECONDS)


def _is_orphan(process: psutil.Process, guard: int, temp: Path) -> bool:
    with suppress(psutil.Error, OSError):
        ended = process.status() == psutil.STATUS_ZOMBIE
        return not ended and (os.getsid(process.pid) == guard or process.environ().get("TMPDIR") == str(temp))
    return False


def _make_folder() -> str:
    return tempfile.mkdtemp(prefix="benchai-run-")


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # Folders that the program made unreadable
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
