"""The further programs of llama.cpp, which its archives and packages put beside the engine."""

from __future__ import annotations

import shutil
from pathlib import Path


def find_program(name: str, engine: Path | None) -> Path | None:
    """A program beside the engine, else on PATH; None where neither has it.

    Args:
        name: The program's.
        engine: That of the engine, which a package may have linked from elsewhere; None for the embedded one.
    """
    beside = [str(one.with_name(name)) for one in (engine, engine.resolve())] if engine else []
    # what has a folder in it is looked for there alone
    found = next(filter(None, map(shutil.which, [*beside, name])), None)
    return Path(found).absolute() if found else None
