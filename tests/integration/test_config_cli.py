"""Configuration through the installed command: the seed's own file, examples, the environment, hostile files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent.parent
CPU_SECONDS = 5
MEMORY_BYTES = 3 * 1024**3


def benchai(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchai", *args],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    text = (REPO / "tests" / "fixtures" / "seed.md").read_text(encoding="utf-8")
    block = text.split("### Configuration Checklist\n", 1)[1].split("```yaml\n", 1)[1].split("```\n", 1)[0]
    (tmp_path / "benchai.yaml").write_text(block, encoding="utf-8")
    return tmp_path


def test_the_seeds_configuration_is_valid_without_its_models(seed: Path) -> None:
    done = benchai("config", "check", cwd=seed)
    assert done.returncode == 0
    roles = "roles code=code, general=general, planner=planner"
    assert done.stdout == f"{seed / 'benchai.yaml'}: valid; models code, general, planner; {roles}\n"
    assert done.stderr.count("missing") == 3


def test_the_plan_of_the_seeds_fleet(seed: Path) -> None:
    done = benchai("fleet", "plan", "--json", cwd=seed, env={"BENCHAI_ENGINE__KIND": "native"})
    assert done.returncode == 0
    plans = {plan["model"]: plan for plan in json.loads(done.stdout)}
    assert list(plans) == ["code", "general", "planner"]
    argv = " ".join(plans["code"]["argv"])
    for flags in ("--gpu-layers 35", "--flash-attn on", "--batch-size 512", "--threads 8", "--ctx-size 8192"):
        assert flags in argv
    assert plans["general"]["placement"] == plans["planner"]["placement"] == "cpu"
    assert plans["code"]["missing"] == [str(seed / "deepseek-coder-6.7b-instruct.Q5_K_M.gguf")]


def test_the_environment_overrides_the_file(seed: Path) -> None:
    env = {"BENCHAI_ROUTER__TIMEOUTS__GPU": "60", "BENCHAI_MODELS__CODE__GPU_LAYERS": "0"}
    done = benchai("config", "show", "--json", cwd=seed, env=env)
    shown = json.loads(done.stdout)
    assert shown["router"]["timeouts"] == {"gpu": 60.0, "cpu": 300.0, "total": 3600}
    assert shown["models"]["code"]["gpu_layers"] == 0
    wrong = benchai("config", "check", cwd=seed, env={"BENCHAI_ROUTER__TIMEOUTS__GPU": "soon"})
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "BENCHAI_ROUTER__TIMEOUTS__GPU: router.timeouts.gpu = 'soon'" in wrong.stderr


@pytest.mark.parametrize("file", sorted((REPO / "examples").glob("*.yaml")), ids=lambda file: file.name)
def test_the_examples_are_valid(tmp_path: Path, file: Path) -> None:
    done = benchai("config", "check", "--config", str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_errors_go_to_stderr_without_colour_codes_or_a_trace(tmp_path: Path) -> None:
    (tmp_path / "benchai.yaml").write_text("models:\n  code:\n    file: a\n    threds: 1\n")
    done = benchai("config", "check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {tmp_path / 'benchai.yaml'}:4:5: models.code.threds = 1: unknown key (did you mean 'threads'?)\n"
    )


LAUGHS = "\n".join(
    ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
)
LAUGHING_MODELS = "models:\n" + "\n".join(f"  {line}" for line in LAUGHS.splitlines())
ENDLESS = "models: &m\n  code: *m\n"
DEEP = "models: " + "{a: " * 2000


@pytest.mark.parametrize(
    "text", [LAUGHS, LAUGHING_MODELS, ENDLESS, DEEP], ids=["laughs", "laughing models", "endless", "deep"]
)
def test_a_hostile_file_is_refused_in_seconds(tmp_path: Path, text: str) -> None:
    (tmp_path / "benchai.yaml").write_text(text, encoding="utf-8")
    code = (
        "import resource, sys; from benchai.cli.app import main; "
        f"resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS}, {CPU_SECONDS})); "
        f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES})); "
        "sys.argv = ['benchai', 'config', 'check']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 2, done.stderr[-500:]
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 10_000
