"""Looking for needles in the bytes of files, in a process of its own.

To open a file and close it drops all locks that a process holds on it. SQLite has such locks on the very files that are
looked through, here and wherever a server keeps them open: the next other process to close one would take away the log
that is being written.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchai.errors import StoreError
from benchai.memory.needles import Haystack, Needle
from benchai.memory.probe import environment


@dataclass
class Seen:
    """What a look through files found.

    Attributes:
        found: Of each text, word or vector, in each file, the first: the file's place in the list, bytes from its
            beginning, and the needle.
        size: Bytes that were looked through.
        unread: Files that could not be read, by their place in the list, with the reason.
    """

    found: list[tuple[int, int, Needle]] = field(default_factory=list)
    size: int = 0
    unread: dict[int, str] = field(default_factory=dict)


def scan(needles: Sequence[Needle], files: Sequence[Path]) -> Seen:
    """Look for all needles in all files; blocks.

    Raises:
        StoreError: the process that looks could not be started, or did not come to an end.
    """
    asked = [[base64.b64encode(one.data).decode(), one.what, one.encoding, one.origin] for one in needles]
    job = json.dumps({"needles": asked, "files": [str(file) for file in files]})
    argv = [sys.executable, "-P", "-m", "benchai.memory.file_scan"]
    try:
        done = subprocess.run(argv, input=job.encode(), capture_output=True, env=environment(), check=True)
        told: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode(errors="replace").strip().splitlines()[-1:]
        raise StoreError(f"the files can't be looked through: {(said or [str(error)])[0]}") from error
    found = [(file, offset, needles[number]) for file, offset, number in told["found"]]
    return Seen(found, told["size"], {int(file): reason for file, reason in told["unread"].items()})


def _look(job: dict[str, Any]) -> dict[str, Any]:
    needles = [Needle(base64.b64decode(data), *rest) for data, *rest in job["needles"]]
    numbers = {needle: number for number, needle in enumerate(needles)}
    haystack = Haystack(needles)
    found: list[tuple[int, int, int]] = []
    unread: dict[int, str] = {}
    size = 0
    for number, file in enumerate(map(Path, job["files"])):
        try:
            size += file.stat().st_size
            found += [(number, offset, numbers[needle]) for offset, needle in _first(haystack, file)]
        except OSError as error:
            unread[number] = error.strerror or type(error).__name__
    return {"found": found, "size": size, "unread": unread}


def _first(haystack: Haystack, file: Path) -> Iterator[tuple[int, Needle]]:
    seen: set[tuple[str, int]] = set()
    for offset, needle in haystack.in_file(file):
        key = ("text" if needle.what == "part" else needle.what, needle.origin)
        if key not in seen:
            seen.add(key)
            yield offset, needle


if __name__ == "__main__":
    print(json.dumps(_look(json.load(sys.stdin.buffer))))  # noqa: T201
