"""Start an engine so that it cannot outlive the process that started it.

Run as ``python -I -S launch.py PROGRAM ARG...``: it ties itself to its parent, cleans the environment
and becomes PROGRAM under the same process id. The standard library is all it needs.

Environment:
    BENCHAI_PARENT_PID: process id of the expected parent; without it nothing is checked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

PARENT_PID = "BENCHAI_PARENT_PID"
"""Variable that names the expected parent."""

EXIT_USAGE = 2
EXIT_ORPHAN = 125
EXIT_CANNOT_EXECUTE = 127

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
# LLAMA_ARG_* stands in for flags; AIP_* moves the port on Google's Vertex AI.
_LEAKS = ("LLAMA_ARG_", "AIP_")


def die_with_parent() -> None:
    """Have the kernel send SIGKILL to this process when its parent ends.

    Linux only (``prctl(2)``, PR_SET_PDEATHSIG); elsewhere it does nothing. The setting survives
    ``execv``. To the kernel the parent is the *thread* that forked, not its process.

    Raises:
        OSError: The kernel refused.
    """
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def orphaned(expected: str | None) -> bool:
    """Tell whether the parent is another process than ``expected`` (a process id, in digits).

    A parent that ends before ``die_with_parent`` is called sends no signal: this closes that gap.
    """
    return bool(expected) and str(os.getppid()) != expected


def clean_environment(env: MutableMapping[str, str]) -> None:
    """Remove the variables that would change an engine's settings behind its flags."""
    for name in [name for name in env if name.startswith(_LEAKS)]:
        del env[name]


def bind_to_parent() -> None:
    """Tie this process to its parent, or exit at once if that parent is gone already."""
    die_with_parent()
    if orphaned(os.environ.pop(PARENT_PID, None)):
        os._exit(EXIT_ORPHAN)


def main(argv: list[str]) -> int:
    """Become the program that ``argv`` names; return an exit status only if that fails."""
    if not argv:
        sys.stderr.write("usage: launch.py PROGRAM [ARG...]\n")
        return EXIT_USAGE
    bind_to_parent()
    clean_environment(os.environ)
    try:
        os.execv(argv[0], argv)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"error: cannot execute {argv[0]!r}: {error.strerror}\n")
        return EXIT_CANNOT_EXECUTE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
