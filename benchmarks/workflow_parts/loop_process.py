"""The processes of ``loops.py`` and of ``instant_server.py``, from the side of who measures."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.workflow_parts.loops import PEERS

FOLDER = Path(__file__).parent
OFFLINE = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGSMITH_TRACING": "false", "HF_HUB_OFFLINE": "1"}


class LoopProcess:
    """A framework in a process of its own, with the interpreter that has it; ``missing`` says why it is not there."""

    def __init__(self, framework: str, url: str, peers_python: Path | None = None) -> None:
        self.framework = framework
        python = str(peers_python) if peers_python and framework in PEERS else sys.executable
        argv = [python, str(FOLDER / "loops.py"), framework, url]
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | OFFLINE,
        )
        found = self._read()
        self.missing: str | None = None if "ready" in found else str(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, most_seconds: float | None = None, **request: Any) -> dict[str, Any]:
        """What a request found: seconds and answers, or an error; nothing when it took too long and was ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        if most_seconds is not None and not select.select([self.process.stdout], [], [], most_seconds)[0]:
            self.process.kill()
            return {}
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"missing": "the process ended"}
        return found


@contextmanager
def instant_server() -> Iterator[str]:
    """The base URL of a server that answers at once, in a process of its own."""
    argv = [sys.executable, str(FOLDER / "instant_server.py")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()
