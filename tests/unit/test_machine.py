"""The processor, as far as a process may use it."""

from __future__ import annotations

import os

import pytest

from benchai.runtime.measure.machine import usable_cores, usable_threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to threads")
def test_a_process_that_is_bound_counts_what_it_may_use() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_threads() == 1
        # not every system tells of cores
        assert usable_cores() in (1, None)
    finally:
        os.sched_setaffinity(0, before)
    assert usable_threads() == len(before)
