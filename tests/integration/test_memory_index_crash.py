"""A crash at any moment loses no acknowledged row and leaves no stale passage, with vectors and all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

#: 3 by default; ``MEMORY_CRASH_ROUNDS=200`` for the long run.
ROUNDS = int(os.environ.get("MEMORY_CRASH_ROUNDS", "3"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")


def run(folder: Path, rounds: int, seed: int, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.integration.memory_index_crash", str(folder), str(rounds), str(seed)]
    return subprocess.run(argv, cwd=REPO, env=os.environ | more, capture_output=True, text=True, check=False)


@pytest.mark.timeout(30 + 5 * ROUNDS)
def test_a_memory_that_is_killed_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    done = run(tmp_path, ROUNDS, int.from_bytes(os.urandom(3)))
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["rounds"] == ROUNDS


def test_a_drop_that_was_not_done_is_found_out(tmp_path: Path) -> None:
    done = run(tmp_path, 12, 3, MEMORY_CRASH_LIES="1")
    assert done.returncode == 1
    assert "was under way; kept:" in done.stderr
