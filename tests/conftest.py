"""Shared by all tests: an own user folder for each, and a check that the session leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# as in every program, before langgraph is: it makes langgraph strict, which then copies checkpointers
import benchai  # noqa: F401

REPO = Path(__file__).parent.parent
TINY = REPO / "benchai" / "models" / "tiny.gguf"
# every process that a test starts inherits this, so that one that got away can be found
MARK = "TEST_SESSION_MARK"

# others than the last time, each time
settings.register_profile("benchai", database=None, deadline=None, max_examples=60)
settings.load_profile("benchai")


def marked_processes(mark: str) -> list[psutil.Process]:
    """The processes that carry the mark in their environment, ourselves left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def repo_files() -> set[Path]:
    """The files of the working tree that a test must not touch."""
    skipped = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    found: set[Path] = set()
    for folder, folders, names in os.walk(REPO):
        folders[:] = [name for name in folders if name not in skipped]
        found |= {Path(folder, name) for name in names}
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the session when a process or a file outlives its test."""
    temp = tmp_path_factory.mktemp("tempdir")
    mark = uuid.uuid4().hex
    files = repo_files()
    patch = pytest.MonkeyPatch()
    patch.setenv(MARK, mark)
    patch.setenv("TMPDIR", str(temp))
    patch.setattr(tempfile, "tempdir", None)
    patch.setenv("HOME", str(tmp_path_factory.mktemp("user")))
    yield
    patch.undo()
    left = marked_processes(mark)
    lines = [f"{process.pid}: {process.cmdline()}" for process in left]
    for process in left:
        process.kill()
    assert not lines, f"processes left behind: {lines}"
    assert not list(temp.iterdir()), f"temporary files left behind: {list(temp.iterdir())}"
    assert not (repo_files() - files), f"files left in the working tree: {repo_files() - files}"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own user folder for each test; the configuration of whoever runs the tests is out of sight."""
    home = tmp_path / "benchai-home"
    for name in [name for name in os.environ if name.startswith(("BENCHAI_", "LLAMA_ARG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BENCHAI_HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")
    return home


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as BenchAI does."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The bundled model."""
    return TINY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    from benchai.runtime.placement.gpu import list_gpus

    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not list_gpus():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))
