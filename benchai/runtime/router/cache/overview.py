"""What is kept, for people: read from the file without a running server."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchai.config import paths
from benchai.errors import BenchAIError
from benchai.runtime.router.cache.database import WRITE_SECONDS, connect
from benchai.runtime.router.cache.shadow import COUNTED, Estimate

_SOURCES = """SELECT source, count(*), sum(length(reply)), sum(hits), min(created), max(created) FROM replies
    GROUP BY source ORDER BY 2 DESC"""
_RUNS = """SELECT settings, count(*), sum(1 - agreed), max(time) FROM
    (SELECT *, row_number() OVER (PARTITION BY settings ORDER BY id DESC) AS place FROM shadows) WHERE place <= ?
    GROUP BY settings ORDER BY 4 DESC"""


def file() -> Path:
    """Where the replies of this user are kept."""
    return paths.cache_dir() / "replies.sqlite"


@dataclass(frozen=True)
class Source:
    """The replies of one model: ``size`` in bytes; ``oldest`` and ``newest`` in seconds since the epoch."""

    source: str
    replies: int
    size: int
    hits: int
    oldest: float
    newest: float


@dataclass(frozen=True)
class Status:
    """What is kept. ``hits`` and ``misses`` count since the cache was last cleared, ``disk`` is the file in bytes."""

    file: str
    disk: int
    hits: int
    misses: int
    similar: int
    sources: list[Source]


def status(path: Path) -> Status:
    """What the file holds; one that is not there holds nothing.

    Raises:
        BenchAIError: it is damaged, or can't be read.
    """
    facts = dict(_rows(path, "SELECT name, value FROM facts"))
    [(similar,)] = _rows(path, "SELECT count(*) FROM similar") or [(0,)]
    sources = [Source(*row) for row in _rows(path, _SOURCES)]
    disk = path.stat().st_size if path.exists() else 0
    return Status(str(path), disk, facts.get("hits", 0), facts.get("misses", 0), similar, sources)


def estimates(path: Path) -> list[Estimate]:
    """What the shadow runs tell, the settings used last first.

    Raises:
        BenchAIError: the file is damaged, or can't be read.
    """
    return [Estimate(settings, runs, false) for settings, runs, false, _ in _rows(path, _RUNS, COUNTED)]


def _rows(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    if not paths.is_file(path):
        return []
    try:
        with contextlib.closing(connect(path, WRITE_SECONDS)) as opened:
            return opened.execute(query, values).fetchall()
    except sqlite3.Error as error:
        hint = "benchai cache clear begins anew"
        raise BenchAIError(f"the cache in {str(path)!r} cannot be read: {error}", hint=hint) from error
