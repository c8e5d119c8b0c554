"""Why an engine ended: log lines and exit codes to reasons; and the first bytes of a model file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import ModelFileError
from benchai.runtime.engine.failures import LOG_LINES, explain_exit
from benchai.runtime.engine.gguf_file import check_gguf


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("error: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8093", "its port is taken"),
        ("bind: Address already in use", "its port is taken"),
        ("error: invalid argument: --mlock", "does not know the flag --mlock"),
        ('error while handling argument "--ctx-size": stoi', "refused the value of --ctx-size"),
        (
            "error while handling argument \"-fa\": error: unknown value for --flash-attn: '--x'",
            "refused the value of -fa",
        ),
        (
            "error: argument --rpc is not supported by the embedded engine: xllamacpp has no such setting",
            "--rpc",
        ),
        ("gguf_init_from_file_impl: invalid magic characters: 'abcd', expected 'GGUF'", "the model file is no GGUF"),
        ("error: model file '/m/a' is not a GGUF file: it begins with b'PK'", "the model file is no GGUF"),
        (
            "llama_model_load: error loading model: tensor 'blk.3' data is not within the file bounds, model is "
            "corrupted or incomplete",
            "the model file is truncated or damaged",
        ),
        ("gguf_init_from_file_impl: failed to read tensor info", "the model file is truncated or damaged"),
        (
            "gguf_init_from_file: failed to open GGUF file '/m/a.gguf' (No such file or directory)",
            "a file it needs is not there",
        ),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8000.00 MiB on device 0: cudaMalloc failed: out of "
            "memory",
            "out of memory",
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out of memory"),
        (
            "llama_model_load: error loading model: unknown model architecture: 'newarch-2'",
            "it does not know the architecture newarch-2",
        ),
        ("srv load_model: failed to load model, '/m/a.gguf'", "the model cannot be loaded"),
        ("error: cannot read model file '/m/a.gguf': Permission denied", "Permission denied"),
        ("error: cannot execute '/opt/llama-server': Permission denied", "Permission denied"),
        ("error: cannot execute '/opt/llama-server': Exec format error", "Exec format error"),
        ("llama_init_from_model: quantized V cache requires flash_attn", "needs flash attention"),
    ],
)
def test_a_reason_from_the_log(line: str, reason: str) -> None:
    error = explain_exit("code", 1, ["main: starting", line, "main: exiting"])
    assert "model 'code' did not start: " in error.message
    assert reason in error.message
    assert error.message.endswith("(exit code 1)")
    assert error.hint
    assert (error.exit_code_of_process, error.exit_code, error.status) == (1, 2, 503)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-9, "killed (SIGKILL), probably for lack of memory"),
        (-11, "crashed (SIGSEGV)"),
        (-6, "aborted (SIGABRT)"),
        (-4, "illegal instruction (SIGILL)"),
        (-15, "ended by signal 15"),
        (-35, "ended by signal 35"),
        (-500, "ended by signal 500"),
        (0, "the engine ended"),
        (1, "the engine ended"),
        (42, "the engine ended"),
        (127, "the engine cannot be run"),
        (125, "the engine ended"),
    ],
)
def test_a_reason_from_the_exit_code(code: int, reason: str) -> None:
    error = explain_exit("code", code, ["main: loading"])
    assert error.message == f"model 'code' did not start: {reason} (exit code {code})"
    assert error.exit_code_of_process == code
    assert error.hint


@pytest.mark.parametrize("name", ["truncated.gguf", "not a GGUF/a.gguf"])
def test_the_name_of_a_file_is_no_reason(name: str) -> None:
    line = f"server is starting on http://127.0.0.1:4, loading '/m/{name}'"
    assert "killed (SIGKILL)" in explain_exit("code", -9, [line]).message


def test_the_log_tells_more_than_the_exit_code() -> None:
    assert "out of memory" in explain_exit("code", -6, ["ggml_aligned_malloc: failed to allocate 9.9 GB"]).message


def test_the_last_lines_are_kept_and_all_are_read() -> None:
    lines = ["invalid argument: --x"] + [f"line {number}" for number in range(50)]
    error = explain_exit("code", 1, lines)
    assert error.log == tuple(lines[-LOG_LINES:])
    assert "--x" in error.message


def test_an_engine_that_wrote_nothing() -> None:
    assert explain_exit("code", 1, []).log == ()


@given(st.integers(-600, 600), st.lists(st.text(max_size=30), max_size=4))
def test_every_end_is_explained(code: int, lines: list[str]) -> None:
    error = explain_exit("code", code, lines)
    assert f"(exit code {code})" in error.message
    assert error.hint


HEADER = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1)


def test_a_file_that_begins_as_a_gguf_does(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(HEADER)
    check_gguf(file, "models.code")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "it is empty"),
        (b"GG", "it begins with b'GG'"),
        (b"PK\x03\x04" + bytes(40), "it begins with b'PK\\x03\\x04'"),
        (HEADER[:-1], "is truncated: 23 bytes in all"),
        (b"GGUF", "is truncated: 4 bytes in all"),
    ],
)
def test_a_file_that_is_no_gguf(tmp_path: Path, data: bytes, part: str) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(data)
    with pytest.raises(ModelFileError) as raised:
        check_gguf(file, "models.code")
    assert raised.value.message.startswith("models.code: ")
    assert part in raised.value.message
    assert raised.value.hint


def test_a_missing_model_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is missing"):
        check_gguf(tmp_path / "no.gguf", "models.code")
    with pytest.raises(ModelFileError, match="is a folder"):
        check_gguf(tmp_path, "models.code")


def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.gguf", tmp_path / ("x" * 300), Path("a\0b")):
        with pytest.raises(ModelFileError):
            check_gguf(path, "models.code")
