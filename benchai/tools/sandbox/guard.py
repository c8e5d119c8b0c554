"""The process between BenchAI and a program in a sandbox: it starts the program, watches it, and ends it.

It is run as a script, by path. On its stdin is a socket: one line of JSON, the job, comes in; one line, the
verdict, goes out. Its stdout and stderr are the program's. When the socket is closed, all that the program
has started is ended, so nothing outlives BenchAI, however that ends.

A process of its own makes that possible: orphans become its children (PR_SET_CHILD_SUBREAPER), so that
none can get away; limits and signal dispositions are inherited from it; and its environment holds no secrets.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

MIB = 1024**2
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_PATIENCE = 3.0  # seconds that killed processes get to vanish
_OWN_MIB = 128  # what the guard itself needs, which has the limits that it hands on
_TICKS = os.sysconf("SC_CLK_TCK")
_BY_SIGNAL = {signal.SIGXCPU: "cpu", signal.SIGXFSZ: "files"}


class Sandlock:
    """A program shut in by Landlock and seccomp."""

    def __init__(self, job: dict[str, Any]) -> None:
        sys.path += [job["packages"], os.path.dirname(__file__)]  # noqa: PTH120
        self._sandlock = importlib.import_module("sandlock")
        self._syscalls = importlib.import_module("syscalls")
        # Of the two calls that take handlers only the captured one has a method: it would hold all output
        # in memory, and give none of it before the end
        library = importlib.import_module("sandlock._sdk")._lib
        library.sandlock_run_with_handlers = library.sandlock_run_interactive_with_handlers
        self._job = job

    def run(self) -> int:
        """Run the program to its end; return the exit code, negative for a signal."""
        policy = self._job["policy"]
        handlers = self._syscalls.handlers(self._sandlock, policy["fs_writable"])
        denied = self._syscalls.denied(os.uname().machine)
        box = self._sandlock.Sandbox(**policy, extra_deny_syscalls=denied)
        result = box.run_with_handlers(self._job["argv"], handlers)
        if result.error:
            raise RuntimeError(result.error)
        if result.signal > 0:
            return -int(result.signal)
        return -int(signal.SIGKILL) if result.reason in {2, 3} else int(result.exit_code)


class Program:
    """A program that shuts in another one by itself, such as bwrap."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    def run(self) -> int:
        """Run the program to its end; return the exit code, negative for a signal."""
        return subprocess.run(self._job["argv"], env=self._job["env"], cwd="/", check=False).returncode


class Usage:
    """What all processes of a run use at one moment."""

    def __init__(self, pids: list[int]) -> None:
        self.processes = len(pids)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        ticks = [sum(int(field) for field in stat_of(pid)[11:15]) for pid in pids]
        self.cpu_seconds = ended.ru_utime + ended.ru_stime + sum(ticks) / _TICKS
        self.memory = sum(memory_of(pid, "status", ("RssAnon:", "RssShmem:")) for pid in pids)
        self._pids = pids

    def exceeds(self, limits: dict[str, Any]) -> str | None:
        """Return the limit that is exceeded, if one is."""
        if self.cpu_seconds > limits["cpu_seconds"]:
            return "cpu"
        if self.processes > limits["processes"]:
            return "processes"
        allowed = limits["memory_mib"] * MIB
        if self.memory > allowed and self._proportional() > allowed:
            return "memory"
        return None

    def _proportional(self) -> int:
        # Exact where processes share pages, as after a fork, but slow
        return sum(memory_of(pid, "smaps_rollup", ("Pss:",)) for pid in self._pids)


def read_proc(pid: int, name: str) -> str:
    """Return a file of a process, empty when it has ended."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""


def stat_of(pid: int) -> list[str]:
    """Return the fields of a process after its name (state, ppid, ...), none when it has ended."""
    return read_proc(pid, "stat").rpartition(")")[2].split()


def memory_of(pid: int, name: str, fields: tuple[str, ...]) -> int:
    """Return the sum of fields given in kB, in bytes."""
    lines = [line.split() for line in read_proc(pid, name).splitlines()]
    return sum(int(line[1]) * 1024 for line in lines if line and line[0] in fields)


def descendants() -> list[int]:
    """Return all processes below ours, zombies too."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (fields := stat_of(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_all() -> None:
    """Kill everything below us, and what it starts meanwhile, until nothing is left but zombies."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        alive = [pid for pid in descendants() if stat_of(pid)[:1] not in (["Z"], [])]
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.002)


def prepare(job: dict[str, Any]) -> None:
    """Make this process what the program shall inherit: stdin, limits, signals."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
    source = os.open("/dev/null", os.O_RDONLY) if job["stdin"] is None else text_file(job["stdin"])
    os.dup2(source, 0)
    os.close(source)
    limits = job["limits"]
    # The sum is watched; this is for a process that outlives the guard
    cpu = int(limits["cpu_seconds"]) + 30
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_DATA, max(limits["memory_mib"], _OWN_MIB) * MIB),
        (resource.RLIMIT_FSIZE, limits["file_mib"] * MIB),
        (resource.RLIMIT_NOFILE, 1024),
    ):
        lower(what, value)
    # Python ignores both, and programs expect neither
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def lower(what: int, value: int) -> None:
    """Set a limit for good, never above what it is."""
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def text_file(text: str) -> int:
    """Return an open file in memory with this text."""
    descriptor = os.memfd_create("stdin")
    with open(os.dup(descriptor), "wb") as file:  # noqa: PTH123
        file.write(text.encode("utf-8", "replace"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def watch(channel: socket.socket, limits: dict[str, Any], woken: int) -> str | None:
    """Wait for the end of the program. Return the limit that it went beyond, or "closed"."""
    deadline = time.monotonic() + limits["wall_seconds"]
    pause = 0.05
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "wall"
        watched: list[Any] = [channel, woken]
        ready = select.select(watched, [], [], min(left, pause))[0]
        if ready:
            return None if woken in ready else "closed"
        exceeded = Usage(descendants()).exceeds(limits)
        if exceeded:
            return exceeded
        pause = min(pause * 1.5, 0.2)


class Waiter(threading.Thread):
    """Waits for the program; `woken` can be read from once it has ended."""

    def __init__(self, program: Sandlock | Program) -> None:
        super().__init__(daemon=True)
        self._program = program
        self.code: int | None = None
        self.error: Exception | None = None
        self.woken, self._wake = os.pipe()

    def run(self) -> None:
        """Run the program."""
        try:
            self.code = self._program.run()
        except Exception as error:
            self.error = error
        finally:
            os.write(self._wake, b".")


def supervise(job: dict[str, Any], channel: socket.socket) -> dict[str, Any]:
    """Run the job to its end and return the verdict."""
    program = (Sandlock if job["kind"] == "sandlock" else Program)(job)
    prepare(job)
    start = time.monotonic()
    waiter = Waiter(program)
    waiter.start()
    try:
        exceeded = watch(channel, job["limits"], waiter.woken)
        seconds = time.monotonic() - start
    finally:
        end_all()
    waiter.join(_PATIENCE)
    if waiter.error is not None and exceeded is None:
        raise waiter.error
    code = waiter.code if exceeded is None else None
    return {"code": code, "exceeded": exceeded or _BY_SIGNAL.get(signal_of(code)), "seconds": seconds}


def signal_of(code: int | None) -> Any:
    """Return the number of the signal that ended a program, or, as a shell tells it, its last child."""
    if code is None:
        return None
    return -code if code < 0 else code - 128


def main() -> None:
    """Do one job."""
    channel = socket.socket(fileno=os.dup(0))
    with channel.makefile("rb") as lines:
        job = json.loads(lines.readline())
    try:
        verdict = supervise(job, channel)
    except Exception as error:
        verdict = {"error": f"{type(error).__name__}: {error}"}
    with suppress(OSError):
        channel.sendall(json.dumps(verdict).encode() + b"\n", socket.MSG_NOSIGNAL)
    # Threads of the sandbox's library may still wait for what is gone
    os._exit(0)


if __name__ == "__main__":
    main()
