"""Why an engine ended before it was ready: from exit code and log lines to a plain reason."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from benchai.errors import EngineStartError, OutOfMemory

OUT_OF_MEMORY = "out of memory"
# What the log may say, reason, mend; the first row that is found stands. Lines as llama-server b11434 and
# xllamacpp 2026.10 write them.
_REASONS = (
    (
        ("couldn't bind", "address already in use", "bind HTTP server socket"),
        "its port is taken",
        "set another port, or 0 for a free one",
    ),
    (
        (r"argument (\S+ is not supported by the embedded engine: .*)",),
        "the flag {0}",
        "remove it, or put a llama-server on PATH",
    ),
    ((r"invalid argument: (\S+)",), "it does not know the flag {0}", "check extra_args against this engine's --help"),
    (
        (r'error while handling argument "?([^":\s]+)',),
        "it refused the value of {0}",
        "check that key of the model, and extra_args",
    ),
    (
        ("invalid magic", "bad magic", "failed to read magic", "not a GGUF", "invalid GGUF"),
        "the model file is no GGUF",
        "download the file again, or name a .gguf file",
    ),
    (
        (
            "corrupted or incomplete",
            "not within the file bounds",
            "truncated",
            "reached end of file",
            "exceeds remaining file size",
            "failed to read (?:key|tensor)",
        ),
        "the model file is truncated or damaged",
        "download the file again",
    ),
    (("quantized V cache requires flash_attn",), "a quantised V cache needs flash attention", "set flash_attn: true"),
    (
        (r"cannot (?:read|execute) .*: (Permission denied|Is a directory|Exec format error)",),
        "a file cannot be used: {0}",
        "see the log lines",
    ),
    (("No such file or directory",), "a file it needs is not there", "see the log lines for its name"),
    (
        (
            "out of memory",
            "insufficient memory",
            "unable to allocate",
            "failed to allocate",
            "bad_alloc",
            "cudaMalloc failed",
            "ErrorOutOfDeviceMemory",
        ),
        OUT_OF_MEMORY,
        "lower context or gpu_layers, or choose a smaller quantisation",
    ),
    (
        (r"unknown model architecture: '?([\w.-]+)",),
        "it does not know the architecture {0}",
        "use a newer engine",
    ),
    (("failed to load model",), "the model cannot be loaded", "see the log lines"),
)
_SIGNALS = {
    signal.SIGKILL: (
        "killed (SIGKILL), probably for lack of memory",
        "free memory, or choose a smaller model or context",
    ),
    signal.SIGSEGV: ("crashed (SIGSEGV)", "try another engine build, or flash_attn: false"),
    signal.SIGABRT: ("aborted (SIGABRT)", "see the log lines"),
    signal.SIGILL: ("illegal instruction (SIGILL)", "the engine was built for another CPU"),
}
LOG_LINES = 12


def explain_exit(name: str, exit_code: int, lines: Sequence[str]) -> EngineStartError:
    """The error for an engine of model ``name`` that ended before it was ready."""
    reason, hint = _from_log(lines) or _from_code(exit_code)
    kind = OutOfMemory if reason == OUT_OF_MEMORY or exit_code == -signal.SIGKILL else EngineStartError
    return kind(
        f"model {name!r} did not start: {reason} (exit code {exit_code})",
        log=lines[-LOG_LINES:],
        exit_code_of_process=exit_code,
        hint=hint,
    )


def explain_end(exit_code: int | None) -> str:
    """Words for the end of an engine that had been ready."""
    if exit_code is None:
        return "it ended"
    return f"{_from_code(exit_code)[0]} (exit code {exit_code})"


def _from_log(lines: Sequence[str]) -> tuple[str, str] | None:
    # names of files say nothing of what went wrong, whatever words are in them
    text = re.sub(r"'[^']*[/\\][^']*'", "''", "\n".join(lines))
    for patterns, reason, hint in _REASONS:
        found = re.search("|".join(patterns), text, re.IGNORECASE)
        if found:
            return reason.format(*found.groups()), hint
    return None


def _from_code(exit_code: int) -> tuple[str, str]:
    if exit_code < 0:
        number = -exit_code
        known = _SIGNALS.get(signal.Signals(number)) if number in set(signal.Signals) else None
        return known or (f"ended by signal {number}", "see the log lines")
    if exit_code == 127:
        return "the engine cannot be run", "check engine.path"
    return "the engine ended", "see the log lines"
