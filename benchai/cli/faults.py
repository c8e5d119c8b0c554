"""Faults of the user's own code, told without the trace of what lies around it."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from benchai.errors import BenchAIError


def fault_of(error: Exception) -> BenchAIError | None:
    """What went wrong in the user's own code, with the line of it; None where it was not there."""
    package = str(Path(__file__).parent.parent)
    others = (package, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(others)]
    own = [frame for frame in frames if Path(frame.filename).is_file()]
    if not own:
        return None
    last = own[-1]
    hint = f"{last.filename}, line {last.lineno}, in {last.name}: {last.line}"
    return BenchAIError(f"the workflow failed: {type(error).__name__}: {error}", hint=hint)
