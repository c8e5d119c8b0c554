"""The format of numbers that training multiplies: bfloat16 where the processor has instructions for it, else float32.

Without them bfloat16 takes ten times as long as float32; with them half of it or less.
"""

from __future__ import annotations

import time
from functools import cache

import torch

# as a batch's feed-forward
_ROWS, _INSIDE, _COLUMNS = 1_024, 128, 384
_ROUNDS = 5


@cache
def fastest() -> torch.dtype:
    """The format in which this processor multiplies faster, by trial; some milliseconds, once a process."""
    return min((torch.bfloat16, torch.float32), key=_seconds)


def products() -> torch.autocast:
    """A context in which matrices are multiplied in the fastest format."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fastest() is torch.bfloat16)


def _seconds(kind: torch.dtype) -> float:
    left, right = torch.ones(_ROWS, _INSIDE, dtype=kind), torch.ones(_INSIDE, _COLUMNS, dtype=kind)
    took = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        left @ right
        took.append(time.perf_counter() - began)
    return min(took)
