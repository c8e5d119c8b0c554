"""The benchmarks of the router run, and a short soak holds: nothing lost, doubled or left while models are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.integration.helpers import LIMIT

pytestmark = pytest.mark.timeout(30)


def script(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark; one that takes too long is asked to end, so that its servers end with it."""
    argv = [sys.executable, str(REPO / "benchmarks" / name), *args]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.terminate()
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def test_a_short_soak_holds() -> None:
    done = script("soak.py", "--minutes", "0.06", "--clients", "4", "--kill-every", "1.5", "--limit", "15")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all of it holds" in done.stdout
    assert "- models killed: 0" not in done.stdout


def test_the_benchmark_of_the_router_runs(tmp_path: Path) -> None:
    done = script("router.py", "--quick", "--engine", "native", "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "requests failed" not in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert [part["name"].split(",")[0].split()[0] for part in found["parts"]] == [
        "latency",
        "first",
        "throughput",
        "hits",
        "memory",
    ]
    assert any("exact cache, hit" in one for part in found["parts"] for one in part["notes"])
