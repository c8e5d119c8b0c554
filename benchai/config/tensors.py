"""Where single tensors of a model go: the entries of ``override_tensors``."""

from __future__ import annotations

import re

_BUFFER = re.compile(r"[A-Za-z][\w:]*")


def tensor_place(text: str) -> str:
    """Check an entry ``pattern=buffer``: a regular expression over tensor names, and a buffer as CPU or CUDA0.

    Raises:
        ValueError: it has not this form, or the engine could not read it.
    """
    pattern, sign, buffer = text.rpartition("=")
    if not sign or not pattern:
        raise ValueError("PATTERN=BUFFER is expected, for example ffn_up_exps=CPU")
    if "," in text:
        # the engine takes it for the start of the next entry
        raise ValueError("a comma separates entries for the engine: write one list item for each pattern")
    if not _BUFFER.fullmatch(buffer):
        raise ValueError(f"{buffer!r} is no buffer: CPU, or a device as the engine calls it, for example CUDA0")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return text


def in_ram(entry: str) -> re.Pattern[str] | None:
    """The pattern of an entry that keeps tensors in RAM (CPU, CUDA_Host); None where it names a GPU."""
    pattern, _, buffer = entry.rpartition("=")
    return re.compile(pattern) if buffer.startswith("CPU") or buffer.endswith("_Host") else None
