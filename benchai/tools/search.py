"""The search_files tool: lines of the workspace's text files that match a regular expression.

A model's pattern is never given to `re` to match, only to `benchai.tools.pattern`.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio.to_thread
from pydantic import Field

from benchai.errors import ToolError
from benchai.tools import confine
from benchai.tools.pattern import MAX_PATTERN, Pattern
from benchai.tools.tool import Tool, ToolArgs, ToolContext, shorten

__all__ = ["SEARCH_FILES", "Pattern", "search"]

MAX_MATCHES = 100
SHOWN_WIDTH = 200
MAX_FILE = 1_000_000  # bytes
MAX_TOTAL = 64_000_000  # bytes
MAX_ENTRIES = 50_000  # files and folders that are looked at
SECONDS = 10.0
SNIFF_BYTES = 8 * 1024
DEPENDENCIES = frozenset({".venv", "venv", "node_modules"})
SKIPPED = DEPENDENCIES | {".git", ".hg", ".svn", "__pycache__"}


class SearchArgs(ToolArgs):
    """Arguments of search_files."""

    pattern: str = Field(description="Regular expression")
    path: str | None = Field(default=None, description="Folder or file. Default .")
    glob: str | None = Field(default=None, description="Which files, such as *.py")


class _OutOfTime(Exception):
    """The search has used up its time, or nobody waits for it."""


@dataclass
class _Budget:
    """What a search may use; `stop` is set when nobody waits for it any more."""

    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)
    stop: threading.Event = field(default_factory=threading.Event)
    entries: int = MAX_ENTRIES
    total: int = MAX_TOTAL
    large: int = 0
    skipped: set[str] = field(default_factory=set)

    @property
    def spent(self) -> bool:
        return self.entries < 0 or self.total < 0

    def check(self) -> None:
        if self.stop.is_set() or time.monotonic() > self.deadline:
            raise _OutOfTime


def search(
    workspace: Path, pattern: str, path: str = ".", glob: str | None = None, stop: threading.Event | None = None
) -> str:
    """Return the lines that match below `path` in the resolved `workspace`, as `path:line: text`, sorted by path.

    `.git`, folders of dependencies, links, binary files, databases in use and files over 1 MB are left out. Last
    lines in brackets tell so, and which limits were hit: 100 lines, 64 MB, 50,000 files and folders, 10 s. A pattern
    that does not compile is searched as it stands. Raises ToolError when the path is missing or outside, and for what
    `Pattern` refuses.
    """
    budget = _Budget(stop=stop or threading.Event())
    finder, notes = _finder(pattern, budget.check)
    resolved = confine.resolve_inside(workspace, path)
    files = _files(workspace, resolved, path, _globs(glob), budget)
    found: list[str] = []
    try:
        for line in itertools.chain.from_iterable(_lines(workspace, file, finder, budget) for file in files):
            if len(found) == MAX_MATCHES:
                notes.append(f"the first {MAX_MATCHES} lines; narrow the search for others")
                break
            found.append(line)
    except _OutOfTime:
        notes.append(f"stopped after {SECONDS:g} s; name a folder or a glob")
    notes += _limits(budget)
    return "\n".join([*(found or ["[no line matches]"]), *(f"[{note}]" for note in notes)])


def _limits(budget: _Budget) -> Iterator[str]:
    if budget.spent:
        what = f"{MAX_ENTRIES} files and folders" if budget.entries < 0 else f"{MAX_TOTAL // 1_000_000} MB"
        yield f"stopped after {what}; name a folder or a glob"
    if budget.skipped:
        yield f"folders left out: {', '.join(sorted(budget.skipped))}; path names one"
    if budget.large:
        yield f"files over {MAX_FILE // 1_000_000} MB left out: {budget.large}"


@dataclass(frozen=True)
class _Finder:
    """Finds a pattern in lines. A line without the text `needed` has no match; that is quick to tell."""

    needed: str
    pattern: Pattern | None = None

    def find(self, line: str) -> int:
        """Return an end of a match, or -1."""
        at = line.find(self.needed)
        if at < 0:
            return -1
        return at + len(self.needed) if self.pattern is None else self.pattern.find(line)


def _finder(pattern: str, check: Callable[[], None]) -> tuple[_Finder, list[str]]:
    """Return what finds a pattern, and what to say about it."""
    if not pattern or "\n" in pattern:
        raise ToolError(f"pattern {shorten(pattern)} must be one line, and not empty")
    if not set(pattern) & set(r".^$*+?{}[]\|()"):
        return _Finder(pattern), []
    try:
        compiled = Pattern(pattern, check)
    except re.error as error:
        return _Finder(pattern), [f"no regular expression ({error.msg}), so searched as plain text"]
    return _Finder(compiled.needed, compiled), []


def _globs(glob: str | None) -> list[re.Pattern[str]]:
    """Expressions, of which `fnmatch` makes such that do not backtrack, for whole paths."""
    if not glob:
        return []
    if len(glob) > MAX_PATTERN:
        raise ToolError(f"glob {shorten(glob)} is too long")
    start, brace, rest = glob.removeprefix("./").partition("{")
    options, closed, end = rest.partition("}")
    names = [f"{start}{option}{end}" for option in options.split(",")] if brace and closed else [glob]
    # A glob without a folder is for names in any folder, and **/ may stand for none
    names = [name if "/" in name else f"**/{name}" for name in names]
    names = [other for name in names for other in dict.fromkeys([name, name.replace("**/", "")])]
    return [re.compile(fnmatch.translate(name)) for name in names]


def _files(workspace: Path, resolved: Path, path: str, globs: list[re.Pattern[str]], budget: _Budget) -> Iterator[Path]:
    """The files at and below a path, sorted, without following links."""
    if not resolved.is_dir():
        yield resolved
        return
    root, pending = resolved, [(resolved, True)]
    while pending and not budget.spent:
        budget.check()
        current, is_folder = pending.pop()
        if is_folder:
            with suppress(*([] if current == root else [ToolError])):
                pending += _entries(workspace, current, path, budget)
        elif not globs or any(glob.match(current.relative_to(root).as_posix()) for glob in globs):
            yield current


def _entries(workspace: Path, folder: Path, path: str, budget: _Budget) -> list[tuple[Path, bool]]:
    """What a folder holds, last name first; each with whether it is a folder."""
    with confine.open_folder(workspace, folder, path) as entries:
        taken = list(itertools.islice(entries, budget.entries + 1))
        budget.entries -= len(taken)
        kept = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in taken if _is_searched(entry, budget)]
    return [(folder / name, is_folder) for name, is_folder in sorted(kept, reverse=True)]


def _is_searched(entry: os.DirEntry[str], budget: _Budget) -> bool:
    if entry.is_dir(follow_symlinks=False):
        budget.skipped |= {entry.name} & DEPENDENCIES
        return entry.name not in SKIPPED
    return entry.is_file(follow_symlinks=False)


def _lines(workspace: Path, file: Path, finder: _Finder, budget: _Budget) -> Iterator[str]:
    """The lines of a file that match; a file that went away, or may not be read, has none."""
    shown = confine.shown_path(workspace, file)
    data = _read(workspace, file, shown)
    budget.total -= len(data)
    budget.large += len(data) > MAX_FILE
    if len(data) > MAX_FILE or budget.spent:
        return
    text = data.decode("utf-8-sig", "replace")
    for number, line in enumerate(text.split("\n") if finder.needed in text else (), 1):
        if number % 100 == 0:
            budget.check()
        plain = line.removesuffix("\r")
        end = finder.find(plain)
        if end >= 0:
            yield f"{shown}:{number}: {_shown(plain, end)}"


def _read(workspace: Path, file: Path, shown: str) -> bytes:
    """Return the bytes of a text file, one more than a file may have at most; none of a binary one."""
    with suppress(ToolError, OSError), confine.open_file(workspace, file, shown) as opened:
        start = opened.read(SNIFF_BYTES)
        return b"" if b"\0" in start else start + opened.read(MAX_FILE + 1 - len(start))
    return b""


def _shown(line: str, end: int) -> str:
    """A line, of which a long one is cut to what stands about `end`."""
    if len(line) <= SHOWN_WIDTH:
        return line
    start = max(min(end - SHOWN_WIDTH // 2, len(line) - SHOWN_WIDTH), 0)
    cut = line[start : start + SHOWN_WIDTH]
    return f"{'...' if start else ''}{cut}{'...' if start + SHOWN_WIDTH < len(line) else ''}"


async def _search(args: SearchArgs, ctx: ToolContext) -> str:
    stop = threading.Event()
    call = partial(search, ctx.workspace, args.pattern, args.path or ".", args.glob, stop)
    try:
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    finally:
        stop.set()


SEARCH_FILES = Tool("search_files", "Find lines in the text files of the workspace.", SearchArgs, _search)
