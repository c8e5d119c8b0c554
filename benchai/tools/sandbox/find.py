"""Finding the sandbox of this machine."""

from __future__ import annotations

import functools
import shutil
import sys

from benchai.errors import ToolError
from benchai.tools.sandbox import bwrap, landlock
from benchai.tools.sandbox.base import Sandbox

__all__ = ["find_sandbox"]

_MEND = "install bubblewrap (the program bwrap) and allow users to make namespaces, or use Linux 6.12 or later"


@functools.cache
def find_sandbox() -> Sandbox:
    """Return the sandbox of this machine: Landlock, else bwrap. What is found is kept.

    Some 0.1 s the first time: call it in a thread.

    Raises:
        ToolError: When there is none; nothing is ever run without one.
    """
    if sys.platform != "linux":
        raise _none({"sandbox": f"there is none for {sys.platform!r}"}, "use Linux")
    reasons = {"landlock": landlock.why_not()}
    if reasons["landlock"] is None:
        return landlock.LandlockSandbox()
    reasons["bwrap"] = bwrap.why_not()
    if reasons["bwrap"] is None:
        return bwrap.BwrapSandbox(shutil.which("bwrap") or "bwrap")
    raise _none(reasons, _MEND)


def _none(reasons: dict[str, str | None], hint: str) -> ToolError:
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return ToolError(f"programs can't be run here, as no sandbox works: {told}", hint=hint)
