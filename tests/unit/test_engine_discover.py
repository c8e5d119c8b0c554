"""Which engine is found, its argument vector, and the flags in a help text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchai.config.models import EngineConfig
from benchai.errors import EngineNotFound
from benchai.runtime.engine.discover import Engine, find_engine, parse_help

# lines of `llama-server --help`, build b11434
HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        (env: LLAMA_ARG_THREADS)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
                                        (env: LLAMA_ARG_FLASH_ATTN)
--poll <0...100>                        use polling level to wait for work (0 - no polling, default: 50)
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
--spec-draft-override-tensor, -otd, --override-tensor-draft <tensor name pattern>=<buffer type>,...
                                        override tensor buffer type for draft model
-fitt, --fit-target MiB0,MiB1,MiB2,...
                                        target margin per device for --fit, comma-separated list of values
--fim-qwen-1.5b-default                 use default Qwen 2.5 Coder 1.5B (note: can download weights from the
                                        internet)


----- sampling params -----

--temp N                                temperature (default: 0.80)
-s,    --seed SEED                      RNG seed (default: -1, use random seed for -1)
"""


def program(file: Path, mode: int = 0o755) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\necho 'version: 1 (abc)'\n")
    file.chmod(mode)
    return file


@pytest.fixture
def bin_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH; the working folder is another."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


def test_flags_of_a_help_text() -> None:
    assert parse_help(HELP) >= {
        *("-h", "--help", "--usage", "--version", "-t", "--threads", "-fa", "--flash-attn", "--poll"),
        *("-kvo", "--kv-offload", "-nkvo", "--no-kv-offload", "-otd", "--override-tensor-draft"),
        *("--spec-draft-override-tensor", "-fitt", "--fit-target", "--temp", "-s", "--seed"),
    }


def test_a_flag_with_a_dot_in_its_name() -> None:
    assert "--fim-qwen-1.5b-default" in parse_help(HELP)
    assert "--fim-qwen-1" not in parse_help(HELP)


@pytest.mark.parametrize("text", ["", "no flags here\n", "----- common params -----\n", "  -x, --indented\n"])
def test_a_help_text_without_flags(text: str) -> None:
    assert parse_help(text) == frozenset()


def test_llama_server_on_the_path_comes_first(bin_: Path) -> None:
    found = program(bin_ / "llama-server")
    assert find_engine(EngineConfig()) == Engine("llama-server", found)
    assert find_engine(EngineConfig(kind="llama-server")) == Engine("llama-server", found)


def test_the_embedded_engine_is_the_fallback(bin_: Path) -> None:
    assert find_engine(EngineConfig()) == Engine("native", Path(sys.executable))


def test_native_is_chosen_before_a_program(bin_: Path) -> None:
    program(bin_ / "llama-server")
    assert find_engine(EngineConfig(kind="native")).kind == "native"


def test_a_file_that_cannot_be_run_is_not_found_on_the_path(bin_: Path) -> None:
    program(bin_ / "llama-server", mode=0o644)
    assert find_engine(EngineConfig()).kind == "native"


def test_a_kind_without_its_program(bin_: Path) -> None:
    with pytest.raises(EngineNotFound, match=r"no engine found .*'llama-server'") as raised:
        find_engine(EngineConfig(kind="llama-server"))
    assert raised.value.exit_code == 2
    assert "llama-server on PATH" in str(raised.value.hint)


def test_a_path_to_a_program(bin_: Path, tmp_path: Path) -> None:
    file = program(tmp_path / "engines" / "my-server")
    assert find_engine(EngineConfig(path=str(file))) == Engine("llama-server", file)


def test_a_path_in_the_users_home(bin_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = program(tmp_path / "engines" / "my-server")
    assert find_engine(EngineConfig(path="~/engines/my-server")) == Engine("llama-server", file)


def test_a_bare_name_is_looked_for_on_the_path(bin_: Path) -> None:
    file = program(bin_ / "my-server")
    assert find_engine(EngineConfig(path="my-server")) == Engine("llama-server", file)


def test_a_relative_path_in_a_folder(bin_: Path, tmp_path: Path) -> None:
    file = program(tmp_path / "work" / "sub" / "my-server")
    assert find_engine(EngineConfig(path="sub/my-server")).program.samefile(file)


def test_a_dot_slash_means_the_file_and_not_the_path(bin_: Path, tmp_path: Path) -> None:
    program(bin_ / "llama-server")
    file = program(tmp_path / "work" / "llama-server")
    assert find_engine(EngineConfig(path="./llama-server")).program.samefile(file)


@pytest.mark.parametrize("kind", ["auto", "llama-server"])
@pytest.mark.parametrize("state", ["missing", "not executable", "a folder", "no such user"])
def test_a_path_to_nothing_that_runs_is_no_reason_to_fall_back(
    bin_: Path, tmp_path: Path, kind: str, state: str
) -> None:
    program(bin_ / "llama-server")
    path = tmp_path / "engine"
    if state == "not executable":
        program(path, mode=0o644)
    elif state == "a folder":
        path.mkdir()
    text = "~no-such-user-here/engine" if state == "no such user" else str(path)
    with pytest.raises(EngineNotFound, match="is no program that can be run") as raised:
        find_engine(EngineConfig.model_validate({"path": text, "kind": kind}))
    assert repr(text) in raised.value.message
    assert raised.value.hint


def test_argument_vectors() -> None:
    native = Engine("native", Path(sys.executable)).command(["--port", "0"])
    assert native[0] == sys.executable
    assert native[-3:] == ["benchai.runtime.engine.native_server", "--port", "0"]
    server = Engine("llama-server", Path("/opt/llama-server")).command(["--port", "0"])
    assert Path(server[-4]).name == "launch.py"
    assert server[-3:] == ["/opt/llama-server", "--port", "0"]


def test_the_embedded_engine_tells_version_and_flags() -> None:
    engine = Engine("native", Path(sys.executable))
    assert engine.version().startswith("xllamacpp 20")
    assert {"--model", "--flash-attn", "--slot-save-path"} <= engine.flags()
