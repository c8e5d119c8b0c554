"""Writers that are killed at random points lose nothing that they acknowledged, and leave nothing half done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

#: 6 by default; ``MEMORY_CRASH_ROUNDS=200`` for the long run.
ROUNDS = int(os.environ.get("MEMORY_CRASH_ROUNDS", "6"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked")


def run(folder: Path, rounds: int, seed: int, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.integration.memory_crash", str(folder), str(rounds), str(seed)]
    return subprocess.run(argv, cwd=REPO, env=os.environ | more, capture_output=True, text=True, check=False)


@pytest.mark.timeout(30 + 3 * ROUNDS)
def test_killed_writers_lose_nothing_that_they_acknowledged(tmp_path: Path) -> None:
    done = run(tmp_path, ROUNDS, int.from_bytes(os.urandom(3)))
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["rounds"] == ROUNDS
    assert told["acknowledged"] > ROUNDS
    assert told["passages"] > 0


@pytest.mark.timeout(90)
def test_a_writer_that_acknowledges_too_early_is_found_out(tmp_path: Path) -> None:
    # the kill must fall between a word and its deed: on a busy machine one series may miss it
    folders = [tmp_path / str(seed) for seed in range(1, 5)]
    for folder in folders:
        folder.mkdir()
    series = (run(folder, 40, int(folder.name), MEMORY_CRASH_LIES="1") for folder in folders)
    done = next((one for one in series if one.returncode), None)
    assert done is not None
    assert done.returncode == 1
    assert "turns are lost" in done.stderr
