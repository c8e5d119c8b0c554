"""Which engine serves the GGUF files of this machine, its version and the flags it takes."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchai.config import paths
from benchai.config.models import EngineConfig, ModelConfig
from benchai.errors import EngineError, EngineNotFound
from benchai.runtime.engine.argv import unknown_flags

HERE = Path(__file__).parent
LAUNCHER = HERE / "launch.py"
NATIVE_SERVER = "benchai.runtime.engine.native_server"
PROBE_SECONDS = 20
_INSTALL = "pip install xllamacpp, put llama-server on PATH, or set engine.path in benchai.yaml"


@dataclass(frozen=True)
class Engine:
    """An engine that is there: the llama-server program, or the embedded one in a child process."""

    kind: Literal["llama-server", "native"]
    program: Path

    def command(self, flags: Sequence[str]) -> list[str]:
        """The exact argument vector that serves a model with these flags."""
        if self.kind == "native":
            return [sys.executable, "-P", "-m", NATIVE_SERVER, *flags]
        # the launcher ties the server's life to ours, then becomes it: same pid
        return [sys.executable, "-I", "-S", str(LAUNCHER), str(self.program), *flags]

    def lacks(self, argv: Sequence[str]) -> list[str]:
        """The flags of an argument vector that this engine does not take.

        Raises:
            EngineError: the program cannot be run.
        """
        return unknown_flags(argv[len(self.command([])) :], self.flags())

    def knows(self, flag: str) -> bool:
        """Whether it takes a flag; one that is not there, or cannot be run, takes none."""
        if not paths.is_file(self.program):
            return False
        try:
            return flag in self.flags()
        except EngineError:
            return False

    def uses_gpus(self) -> bool:
        """Whether it can place a model on a GPU; a program that does not tell is taken to."""
        if self.kind == "native":
            return False
        try:
            return "(none)" not in _probe(self.program, "--list-devices")
        except EngineError:
            return True

    def version(self) -> str:
        """The version that the engine tells of itself.

        Raises:
            EngineError: the program cannot be run.
        """
        if self.kind == "native":
            return f"xllamacpp {importlib.metadata.version('xllamacpp')}"
        text = _probe(self.program, "--version")
        found = re.search(r"version:\s*(.+)", text)
        return f"llama-server {found.group(1).strip()}" if found else text.strip().splitlines()[0]

    def flags(self) -> frozenset[str]:
        """Every flag that the engine's ``--help`` names.

        Raises:
            EngineError: the program cannot be run.
        """
        if self.kind == "native":
            from benchai.runtime.engine.native_flags import known_flags

            return known_flags()
        return parse_help(_probe(self.program, "--help"))


def flag_hint(flag: str, model: ModelConfig) -> str:
    """The mend for a flag that an engine lacks: not all flags come from the user."""
    if flag in model.extra_args:
        return "remove it from extra_args, or use a newer engine"
    return "use a newer llama-server, or set engine.kind: native for the embedded engine"


def parse_help(text: str) -> frozenset[str]:
    """The flags in the left column of a ``--help`` text."""
    columns = [line for line in text.splitlines() if line.startswith("-")]
    return frozenset(flag for line in columns for flag in re.findall(r"(?:^|,\s*)(--?[A-Za-z][\w.-]*)", line))


@functools.cache
def _probe(program: Path, flag: str) -> str:
    command = [str(program), flag]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the engine {str(program)!r} cannot be run: {error}", hint="check engine.path") from error
    text = done.stdout + done.stderr
    if done.returncode != 0 or not text.strip():
        last = text.strip().splitlines()[-1:] or ["no output"]
        raise EngineError(f"the engine {str(program)!r} fails at {flag} with exit code {done.returncode}: {last[0]}")
    return text


def find_engine(config: EngineConfig, folder: Path | None = None) -> Engine:
    """The engine that the configuration means: ``engine.path``, llama-server on PATH, the embedded one.

    Args:
        config: The section ``engine:``.
        folder: What a relative ``engine.path`` is relative to; default: the current folder.

    Raises:
        EngineNotFound: none of them is there.
    """
    if config.kind != "native":
        program = _program(config, folder or Path.cwd())
        if program is not None:
            return Engine("llama-server", program)
    if config.kind != "llama-server" and importlib.util.find_spec("xllamacpp") is not None:
        return Engine("native", Path(sys.executable))
    raise EngineNotFound(f"no engine found (engine.kind = {config.kind!r})", hint=_INSTALL)


def _program(config: EngineConfig, folder: Path) -> Path | None:
    if config.path is None:
        found = shutil.which("llama-server")
        return Path(found) if found else None
    # as in a shell: a name alone is looked up on PATH, a path is a place
    is_name = os.sep not in config.path
    found = shutil.which(config.path) if is_name else _executable(folder / paths.expand(config.path))
    if found is None:
        raise EngineNotFound(f"engine.path = {config.path!r} is no program that can be run", hint=_INSTALL)
    return Path(found).absolute()


def _executable(path: Path) -> str | None:
    return str(path) if paths.is_file(path) and os.access(path, os.X_OK) else None
