"""``benchai models advise``, and what ``benchai init`` refuses at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from benchai.cli.app import app
from benchai.cli.init import _check_room
from benchai.config import load_config
from benchai.config.hub_fetch import HubFile
from benchai.errors import BenchAIError, ModelFileError
from benchai.runtime.advise.downloads import Download
from tests.shapes import SHAPES, write_shape

SEED = ("--gpu-mib", "12288", "--ram-mib", "47104")
runner = CliRunner()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: str) -> Result:
    """A command in this process; what it refuses is its exception."""
    return runner.invoke(app, args)


def advise(*args: str) -> Result:
    return call("models", "advise", *args)


def refused(done: Result, *parts: str) -> None:
    assert isinstance(done.exception, BenchAIError), done.exception
    assert done.exception.exit_code == 2
    assert done.stdout == ""
    text = f"{done.exception.message} {done.exception.hint}"
    assert all(part in text for part in parts), text


def test_stdout_is_a_configuration_and_stderr_a_table(tmp_path: Path) -> None:
    done = advise(*SEED)
    assert done.exit_code == 0
    data = yaml.safe_load(done.stdout)
    assert data["roles"] == {
        "general": "phi-3",
        "planner": "qwen2.5",
        "code": "deepseek-coder",
        "research": "qwen2.5",
        "vision": "qwen2-vl",
    }
    assert "GPU 0: 12288 MiB, 10288 for models" in done.stderr
    rows = [line.split() for line in done.stderr.splitlines()]
    [code] = [row for row in rows if row[:1] == ["code"]]
    assert code == ["code", "DeepSeek", "Coder", "6.7B", "Q5_K_M", "8192", "f16", "GPU", "0", "8935", "estimated"]
    (tmp_path / "benchai.yaml").write_text(done.stdout)
    assert len(load_config(tmp_path / "benchai.yaml", {}).warnings) == 5


def test_json_has_each_role_with_its_sizes_and_the_same_yaml(tmp_path: Path) -> None:
    done = advise(*SEED, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    data: dict[str, Any] = json.loads(done.stdout)
    assert data["budget"] == {
        "gpus_mib": [12288],
        "gpus_usable_mib": [10288],
        "ram_mib": 47104,
        "ram_usable_mib": 23552,
    }
    code = data["roles"]["code"]
    assert code["total_mib"] == sum(code[f"{part}_mib"] for part in ("weights", "kv", "compute", "overhead"))
    assert (code["place"], code["gpus"], code["sizes"], code["at_hand"]) == ("gpu", [0], "estimated", False)
    assert code["reasons"]
    assert data["roles"]["vision"]["on_demand"] is True
    assert data["yaml"] == advise(*SEED).stdout


def test_files_that_are_there_give_exact_sizes(tmp_path: Path) -> None:
    small = SHAPES["Qwen2.5-0.5B"].smaller(2, 1024)
    write_shape(tmp_path / "deepseek-coder-6.7b-instruct.Q5_K_M.gguf", small)
    data = json.loads(advise(*SEED, "--models-dir", ".", "--json").stdout)
    code, general = data["roles"]["code"], data["roles"]["general"]
    assert (code["sizes"], code["at_hand"], general["sizes"]) == ("exact", True, "estimated")
    assert code["weights_mib"] < 100


def test_the_folder_of_the_configuration_is_the_folder_of_the_models(tmp_path: Path) -> None:
    (tmp_path / "benchai.yaml").write_text("models_dir: mine\nmodels: {m: {file: builtin:tiny}}\n")
    assert yaml.safe_load(advise(*SEED).stdout)["models_dir"] == str(tmp_path / "mine")
    assert yaml.safe_load(advise(*SEED, "--models-dir", "other").stdout)["models_dir"] == str(tmp_path / "other")
    (tmp_path / "benchai.yaml").write_text("models: 3\n")
    assert advise(*SEED).exit_code == 0


def test_out_writes_a_file_once(tmp_path: Path) -> None:
    done = advise("--gpu-mib", "0", "--ram-mib", "16384", "--out", "new/benchai.yaml")
    assert (done.exit_code, done.stdout) == (0, "")
    written = tmp_path / "new" / "benchai.yaml"
    assert load_config(written, {}).config.role_map()["code"] == "qwen2.5"
    before = written.read_text()
    refused(advise(*SEED, "--out", "new/benchai.yaml"), "is there already", "--force")
    assert written.read_text() == before
    assert advise(*SEED, "--out", "new/benchai.yaml", "--force").exit_code == 0
    assert load_config(written, {}).config.role_map()["code"] == "deepseek-coder"


def test_this_machine(tmp_path: Path) -> None:
    """Whatever it has: what is advised loads."""
    done = advise("--role", "general")
    assert done.exit_code == 0
    (tmp_path / "benchai.yaml").write_text(done.stdout)
    assert "general" in load_config(tmp_path / "benchai.yaml", {}).config.role_map()


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("--gpu-mib", "0", "--ram-mib", "200"), ("no model fits", "100 MiB", "benchai init --tiny")),
        (("--role", "coder"), ("--role 'coder'", "did you mean 'code'?")),
        ((*SEED, "--role", "general", "--context", "9000000"), ("no model for general",)),
        ((*SEED, "--out", "."), ("'.' is a folder",)),
        ((*SEED, "--out", "file/benchai.yaml"), ("cannot be written",)),
        ((*SEED, "--out", "/proc/benchai.yaml"), ("cannot be written",)),
    ],
)
def test_what_cannot_be(args: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(advise(*args), *parts)


@pytest.mark.parametrize("args", [("--gpu-mib", "-1"), ("--ram-mib", "0"), ("--context", "x"), ("--gpu-mib", "1e4")])
def test_no_numbers(args: tuple[str, ...], tmp_path: Path) -> None:
    assert advise(*args).exit_code == 2


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("--ram-mib", "100", "--gpu-mib", "0"), ("no model fits", "--tiny")),
        (("--out", "/proc/benchai.yaml"), ("cannot be written", "--out")),
        (("--role", "nobody"), ("--role 'nobody'",)),
        (("--tiny", "--out", "new.yaml"), ("this would write", "--yes")),
    ],
)
def test_what_init_refuses(args: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path) -> None:
    refused(call("init", "--out", "benchai.yaml", *args), *parts)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    huge = Download(HubFile("owner/name", "m.gguf", 2**60, "0" * 64), tmp_path / "new" / "m.gguf")
    with pytest.raises(ModelFileError, match=r"the models need 1073741824\.00 GiB"):
        _check_room([huge], tmp_path / "new")


@pytest.mark.parametrize("folder", ["/proc/models", "file/models"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_asked(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    small = Download(HubFile("owner/name", "m.gguf", 1, "0" * 64), tmp_path / folder / "m.gguf")
    with pytest.raises(ModelFileError, match="cannot be written"):
        _check_room([small], tmp_path / folder)
