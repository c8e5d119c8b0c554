"""What Landlock leaves open, decided call by call: sockets, the metadata of files, settings of other processes.

Landlock guards no chmod, chown or touch, no socket but plain TCP, and no limits or priorities of other
processes of the same user. Each of these calls is answered here, in the guard. A decision rests on
registers, or on a file that is held open, so a second thread can't change what was decided upon.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["denied", "handlers"]

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_TIMES = 32  # bytes of two struct timespec
_MODE = 0o1777  # without set-user-ID and set-group-ID

_XATTR = ("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr")
_DENIED = ("sched_setattr", "sched_setparam", "sched_setscheduler", "ioprio_set")
# The C library no longer makes these
_DENIED_OLD = ("utime", "utimes", "futimesat")

Decide = Callable[[Any], int | None]


def denied(machine: str) -> list[str]:
    """Return the calls that are refused without a look; the old ones exist on x86-64 alone."""
    return [*_DENIED, *(_DENIED_OLD if machine == "x86_64" else ())]


def handlers(sandlock: Any, writable: Sequence[str]) -> list[tuple[str | int, Any]]:
    """Return (call, handler) pairs for `Sandbox.run_with_handlers`; metadata may change below `writable`."""
    files = Files([os.path.realpath(path) for path in writable])
    table: dict[str, Decide] = {
        "socket": lambda ctx: errno.EPERM,
        "prlimit64": lambda ctx: own(ctx, ctx.args[0]),
        "sched_setaffinity": lambda ctx: own(ctx, ctx.args[0]),
        "setpriority": lambda ctx: own(ctx, ctx.args[1]) if number(ctx.args[0]) == 0 else errno.EPERM,
        "fchmodat": lambda ctx: files.chmod(ctx, ctx.args[0], ctx.args[1], ctx.args[2], 0),
        "fchmodat2": lambda ctx: files.chmod(ctx, ctx.args[0], ctx.args[1], ctx.args[2], ctx.args[3]),
        "fchmod": lambda ctx: files.chmod(ctx, ctx.args[0], 0, ctx.args[1], _AT_EMPTY_PATH),
        "fchownat": lambda ctx: files.chown(ctx, *ctx.args[:5]),
        "fchown": lambda ctx: files.chown(ctx, ctx.args[0], 0, ctx.args[1], ctx.args[2], _AT_EMPTY_PATH),
        "utimensat": lambda ctx: files.utime(ctx, *ctx.args[:4]),
    }
    # As a file system without them answers, so that cp -p goes on
    table |= dict.fromkeys(_XATTR, lambda ctx: errno.ENOTSUP)
    if os.uname().machine == "x86_64":
        table["chmod"] = lambda ctx: files.chmod(ctx, _AT_FDCWD, ctx.args[0], ctx.args[1], 0)
        table["chown"] = lambda ctx: files.chown(ctx, _AT_FDCWD, ctx.args[0], ctx.args[1], ctx.args[2], 0)
        table["lchown"] = lambda ctx: files.chown(
            ctx, _AT_FDCWD, ctx.args[0], ctx.args[1], ctx.args[2], _AT_SYMLINK_NOFOLLOW
        )
    return [(name, handler_of(sandlock, decide)) for name, decide in table.items()]


def handler_of(sandlock: Any, decide: Decide) -> Any:
    """Return a handler that lets the call through on None, and else answers with 0 or an errno."""

    class Handler(sandlock.Handler):  # type: ignore[misc]
        on_exception = sandlock.ExceptionPolicy.DENY_EPERM

        def handle(self, ctx: Any) -> Any:
            try:
                answer = decide(ctx)
            except OSError as error:
                answer = error.errno or errno.EPERM
            action = sandlock.NotifAction
            if answer is None:
                return action.continue_()
            return action.errno(answer) if answer else action.returns(0)

    return Handler()


def own(ctx: Any, who: int) -> int | None:
    """Let a call through that names the caller itself, by 0, or one of its threads."""
    pid = number(who)
    return None if pid == 0 or os.path.exists(f"/proc/{ctx.pid}/task/{pid}") else errno.EPERM  # noqa: PTH110


def number(register: int) -> int:
    """Return the C int in a register."""
    return int(ctypes.c_int(register & 0xFFFFFFFF).value)


class Files:
    """Changes of metadata, made here on behalf of the program, to files in `folders` alone."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = tuple(folders)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def chmod(self, ctx: Any, folder: int, path: int, mode: int, flags: int) -> int:
        """Change the permissions."""
        with self._pinned(ctx, folder, path, flags) as pinned:
            os.chmod(pinned, mode & _MODE)  # noqa: PTH101
        return 0

    def chown(self, ctx: Any, folder: int, path: int, user: int, group: int, flags: int) -> int:
        """Change user and group."""
        with self._pinned(ctx, folder, path, flags) as pinned:
            os.chown(pinned, number(user), number(group))
        return 0

    def utime(self, ctx: Any, folder: int, path: int, times: int, flags: int) -> int:
        """Change the times."""
        given = ctx.read(times, _TIMES) if times else None
        if times and given is None:
            return errno.EFAULT
        with self._pinned(ctx, folder, path, flags if path else _AT_EMPTY_PATH) as pinned:
            failed = self._libc.utimensat(_AT_FDCWD, os.fsencode(pinned), given, 0)
            return ctypes.get_errno() if failed else 0

    @contextmanager
    def _pinned(self, ctx: Any, folder: int, path: int, flags: int) -> Iterator[str]:
        """Hold the file that is meant; raises PermissionError for one outside."""
        descriptor = os.open(self._meant(ctx, number(folder), path, flags), self._how(flags))
        try:
            held = f"/proc/self/fd/{descriptor}"
            real = os.readlink(held)  # noqa: PTH115
            if not any(real == folder or real.startswith(folder + "/") for folder in self._folders):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            yield held
        finally:
            os.close(descriptor)

    @staticmethod
    def _meant(ctx: Any, folder: int, path: int, flags: int) -> str:
        name = ctx.read_cstr(path, 4096) if path else ""
        if name is None:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        base = f"/proc/{ctx.pid}/cwd" if folder == _AT_FDCWD else f"/proc/{ctx.pid}/fd/{folder}"
        if not name:
            if not flags & _AT_EMPTY_PATH:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return base
        return os.path.join(base, name)  # noqa: PTH118

    @staticmethod
    def _how(flags: int) -> int:
        nofollow = bool(flags & _AT_SYMLINK_NOFOLLOW) and not flags & _AT_EMPTY_PATH
        return os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if nofollow else 0)
