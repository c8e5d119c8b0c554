"""Start-up is lazy: a command imports what it needs when it runs, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# what takes long to import, or is not installed everywhere
HEAVY = {
    *("langgraph", "langchain_core", "langchain_openai", "openai", "chromadb", "torch", "transformers"),
    *("huggingface_hub", "xllamacpp", "numpy", "gguf", "aiosqlite", "httpx", "fastapi", "uvicorn"),
}
DRIVER = """
import json, sys
sys.argv = ["benchai", *sys.argv[1:]]
code = 0
try:
    from benchai.cli.app import main
    main()
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *args],
        cwd=cwd,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def modules_after(cwd: Path, *args: str) -> set[str]:
    done = run("-c", DRIVER, *args, cwd=cwd)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code in (0, None), done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["run", "--help"], ["config", "check"], ["config", "schema"], ["config", "path"]],
)
def test_light_commands(tmp_path: Path, args: list[str]) -> None:
    assert modules_after(tmp_path, *args) & HEAVY == set()


def test_help_reads_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "benchai.yaml").write_text("no: [yaml")
    assert modules_after(tmp_path, "--help") & {*HEAVY, "pydantic", "yaml"} == set()


def test_the_plan_of_a_fleet_loads_no_graph(tmp_path: Path) -> None:
    assert modules_after(tmp_path, "fleet", "plan") & {"langgraph", "langchain_core", "openai", "chromadb"} == set()


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import benchai; print(sorted(set(sys.modules) - before))"
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0
    assert not any(name in done.stdout for name in ("pydantic", "langgraph", "yaml", "typer"))


@pytest.mark.parametrize("module", ["benchai", "benchai.cli"])
def test_the_package_runs_as_a_module(tmp_path: Path, module: str) -> None:
    done = run("-m", module, "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(".") == 2


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """``benchai config schema | head``: the pipe is closed before all is written."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchai", "config", "schema"],
            cwd=tmp_path,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=25,
            check=False,
        )
    finally:
        os.close(write)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode in (0, 1)
