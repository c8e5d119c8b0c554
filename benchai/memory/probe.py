"""A look at a folder of vectors before this process opens it: a damaged file of Chroma can end the process that does.

The look is a process of its own and costs the import of Chroma; a folder that was left in order (`marker`) needs none.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from benchai.memory import marker
from benchai.memory.chroma import DATABASE
from benchai.memory.room import has_no_room, is_read_only

#: Seconds that a look may take.
PROBE_SECONDS = 120.0


def probe(folder: Path, timeout: float = PROBE_SECONDS) -> str | None:
    """Whether the vectors in a folder can be used: None, or the reason why not.

    Blocks for the import of Chroma in a process of its own (1 to 3 seconds), unless the folder was left in order or
    is not there. Nobody may have the folder open meanwhile.

    Args:
        folder: Of the vectors.
        timeout: Seconds after which a look that hangs is ended, and the folder is called damaged.
    """
    if not (folder / DATABASE).exists():
        return _without_database(folder)
    if marker.holds(folder):
        return None
    at = folder.resolve()
    argv = [sys.executable, "-P", "-m", "benchai.memory.probe", str(at)]
    try:
        # Chroma reads the .env of the folder that it is started in
        done = subprocess.run(argv, capture_output=True, timeout=timeout, env=environment(), cwd=at, check=False)
    except subprocess.TimeoutExpired:
        return f"a look at it took more than {timeout:g} s"
    except OSError as error:
        return f"no process to look at it: {error}"
    return _verdict(done)


def _without_database(folder: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        if any(folder.iterdir()):
            return f"it has no {DATABASE}"
    return None


def _verdict(done: subprocess.CompletedProcess[bytes]) -> str | None:
    if done.returncode < 0:
        return f"reading it ended the process by signal {-done.returncode}"
    try:
        # the last line: a library may have written something of its own above
        found = json.loads(done.stdout.decode(errors="replace").strip().splitlines()[-1])["damage"]
        return None if found is None else str(found)
    except (ValueError, IndexError, KeyError, TypeError):
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        return f"reading it ended with status {done.returncode}: {said[0][:300]}"


def environment() -> dict[str, str]:
    """For a process that finds this package as this one does, where it is not installed too."""
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def _look(folder: Path) -> str | None:
    """What is wrong with the folder; Chroma comes last, since it may not return."""
    from benchai.memory import segments

    return _database(folder) or segments.damage(folder) or _through_chroma(folder)


def _database(folder: Path) -> str | None:
    """Whether SQLite finds its file whole, every page of it."""
    try:
        with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            # Chroma would begin anew in an empty file, as if nothing had been kept
            connection.execute("SELECT count(*) FROM collections")
    except sqlite3.DatabaseError as error:
        if has_no_room(folder) or is_read_only(folder, folder / DATABASE):
            return None
        return f"{DATABASE}: {error}"
    return None if found == ("ok",) else f"{DATABASE}: {found[0] if found else 'empty'}"


def _through_chroma(folder: Path) -> str | None:
    from benchai.errors import StoreDamaged, StoreError
    from benchai.memory import chroma

    try:
        link = chroma.open_folder(folder)
        for name in link.names():
            collection = link.collection(name)
            with link.told():
                _ask(collection)
        link.close()
    except StoreDamaged as error:
        return error.message
    except StoreError:
        pass  # a disk that is full or can't be written: what is there may be whole, and whoever opens it hears of it
    return None


def _ask(collection: object) -> None:
    first = collection.get(limit=1, include=["embeddings"])  # type: ignore[attr-defined]
    if len(first["ids"]):
        collection.query(query_embeddings=[first["embeddings"][0]], n_results=10, include=["distances"])  # type: ignore[attr-defined]


if __name__ == "__main__":
    print(json.dumps({"damage": _look(Path(sys.argv[1]))}))  # noqa: T201
