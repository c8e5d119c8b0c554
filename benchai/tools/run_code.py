"""The shell and python tools: programs that a model writes, run in a sandbox with the workspace as their folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import anyio.to_thread
from pydantic import Field

from benchai.tools.sandbox import Limits, Ran, find_sandbox
from benchai.tools.tool import Tool, ToolArgs, ToolContext

__all__ = ["PYTHON", "SHELL", "report"]

MAX_CHARS = 20_000  # of output that a model is shown
DEFAULT_SECONDS = 60
MAX_SECONDS = 600

# Escape sequences of terminals; then control and format characters but tab and newline
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")


class ShellArgs(ToolArgs):
    """Arguments of shell."""

    command: str
    timeout: int | None = Field(default=None, ge=1, le=MAX_SECONDS, description="Seconds. Default 60")


class PythonArgs(ToolArgs):
    """Arguments of python."""

    code: str
    timeout: int | None = Field(default=None, ge=1, le=MAX_SECONDS, description="Seconds. Default 60")


def report(ran: Ran, limits: Limits) -> str:
    """Return how a run went as a model is told: stdout, stderr, and a last line unless the exit was clean."""
    parts = [text.rstrip("\n") for text in (_plain(ran.stdout), _plain(ran.stderr)) if text.strip()]
    output = _cut("\n".join(parts)) or "(no output)"
    last = _last_line(ran, limits)
    return f"{output}\n{last}" if last else output


def _last_line(ran: Ran, limits: Limits) -> str | None:
    reasons = {
        "signal": "ended by a signal",
        "wall": f"ended after {limits.wall_seconds:g} s (limit)",
        "cpu": f"ended after {limits.cpu_seconds:g} s of CPU time (limit)",
        "memory": f"ended with more than {limits.memory_mib} MiB of memory (limit)",
        "processes": f"ended with more than {limits.processes} processes (limit)",
        "files": f"ended with a file of more than {limits.file_mib} MiB (limit)",
        "output": "ended after too much output (limit)",
    }
    return reasons.get(ran.ended_by) or (f"exit code {ran.exit_code}" if ran.exit_code else None)


def _plain(text: str) -> str:
    """Drop what only a terminal understands; of a line that overwrites itself the last state stays."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n")
    return _CONTROLS.sub("", _OVERWRITTEN.sub("", text))


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARS:
        return text
    half = MAX_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


async def _run(argv: Sequence[str], timeout: int | None, ctx: ToolContext, stdin: str | None = None) -> str:
    seconds = timeout or DEFAULT_SECONDS
    limits = Limits(wall_seconds=seconds, cpu_seconds=seconds)
    sandbox = await anyio.to_thread.run_sync(find_sandbox)
    return report(await sandbox.run(argv, workspace=ctx.workspace, limits=limits, stdin=stdin), limits)


async def _shell(args: ShellArgs, ctx: ToolContext) -> str:
    return await _run(["/bin/sh", "-c", args.command], args.timeout, ctx)


async def _python(args: PythonArgs, ctx: ToolContext) -> str:
    # By stdin, as an argument can't be longer than 128 KiB
    return await _run([sys.executable, "-s", "-"], args.timeout, ctx, stdin=args.code)


SHELL = Tool("shell", "Run a shell command in the workspace. No network.", ShellArgs, _shell, "execute")
PYTHON = Tool("python", "Run Python code in the workspace; print results. No network.", PythonArgs, _python, "execute")
