"""The files that a coding run changes, laid over the workspace: nothing in it is touched until the run is done."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from benchai.config.paths import of_database
from benchai.errors import ToolError, UsageError
from benchai.tools import confine
from benchai.tools.blocks import WholeFile, parse
from benchai.tools.edits import Edit, apply

MOST_FILES = 3_000
MOST_BYTES = 64 * 1024**2
MOST_TEXT = 1024**2
#: Of a file that the task only mentions.
MOST_MENTIONED = 32 * 1024
MOST_PATH = 300
# what no test needs and every project has
LEFT_OUT = {
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".tox",
    "dist",
    "build",
}
_WORD = re.compile(r"[\w./-]*\.\w{1,8}\b")


def applied(
    reply: str, files: Mapping[str, str], workspace: Path, main: str, protected: Collection[str]
) -> dict[str, str]:
    """The changed files after what a model wrote, by path.

    Args:
        reply: Search/replace blocks, or whole files in fences; one without a path is the ``main`` file.
        files: What is changed so far.
        workspace: Where the other files lie; resolved.
        main: The file that a block without a path stands for.
        protected: Paths that may not be changed, as ``clean_path`` gives them.

    Raises:
        ToolError: in words for the model: no code, a block that does not match, a path outside, a protected file.
    """
    changed = dict(files)
    items = parse(reply)
    if not items:
        raise ToolError("the reply holds no code: answer with the whole file in one fenced block")
    frozen = {path.casefold() for path in protected}
    named = [item for item in items if item.path is not None]
    # prose may show further snippets beside files that are named; alone, the first fence is the file
    for item in named or items[:1]:
        path = place_of(item.path or main, workspace, changed)
        # some file systems take names in another case for the same file
        if path.casefold() in frozen:
            raise ToolError(f"{path} holds the tests, which may not be changed: change the code")
        changed[path] = _after(item, path, text_of_file(path, changed, workspace))
    return changed


def _after(item: Edit | WholeFile, path: str, old: str | None) -> str:
    if isinstance(item, Edit):
        new = apply(old or "", Edit(path, item.search, item.replace))
    else:
        new = item.text if item.text.endswith("\n") else item.text + "\n"
        if old is not None and old.count("\r\n") * 2 > old.count("\n"):
            new = new.replace("\n", "\r\n")
    if "\0" in new or len(new) > MOST_TEXT:
        raise ToolError(f"{path} would be no text file of at most {MOST_TEXT:,} characters")
    return new


def place_of(path: str, workspace: Path, files: Mapping[str, str]) -> str:
    """The path of the file that a path stands for: links are followed, so that a file has one name alone.

    Raises:
        ToolError: it leads outside, is a folder, or goes through a file.
    """
    real = _resolved(clean_path(path), workspace)
    place = clean_path(real.relative_to(workspace).as_posix())
    if real.is_dir() or any(one.startswith(f"{place}/") for one in files):
        raise ToolError(f"{place!r} is a folder; name a file")
    for parent in PurePosixPath(place).parents:
        if str(parent) in files or (workspace / parent).is_file():
            raise ToolError(f"{str(parent)!r} is a file, no folder")
    return place


def _resolved(path: str, workspace: Path) -> Path:
    try:
        real = (workspace / path).resolve()
        if real.is_symlink():
            raise OSError("a loop of links")
    except (OSError, RuntimeError, ValueError) as error:
        raise ToolError(f"{path!r} can't be a path: {error}") from error
    if not real.is_relative_to(workspace):
        raise ToolError(f"{path!r} leads outside the workspace")
    return real


def clean_path(path: str) -> str:
    """A path below the workspace, without detours.

    Raises:
        ToolError: it leads outside, or into the repository's own folder.
    """
    parts = PurePosixPath(path.strip().replace("\\", "/")).parts
    hidden = any(part.rstrip(". ").casefold() == ".git" for part in parts)
    if not parts or parts[0] == "/" or ".." in parts or hidden or re.match(r"[A-Za-z]:", path):
        raise ToolError(f"{path!r} is no path in the workspace; name it relative to the workspace")
    if len(path) > MOST_PATH or not path.isprintable():
        raise ToolError(f"{path[:80]!r} can't be the path of a file: at most {MOST_PATH} printable characters")
    return "/".join(parts)


def text_of_file(path: str, files: Mapping[str, str], workspace: Path) -> str | None:
    """A file as it is now, or None when it is not there.

    Raises:
        ToolError: it lies outside, is too large, is no text, or a database in use.
    """
    if path in files:
        return files[path]
    file = _resolved(path, workspace)
    confine.refuse_database(file, path)
    try:
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            data = opened.read(MOST_TEXT + 1)
        if len(data) > MOST_TEXT:
            raise ToolError(f"{path!r} is larger than {MOST_TEXT >> 20} MiB")
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"{path!r} can't be read as text") from error
    if "\0" in text:
        raise ToolError(f"{path!r} can't be read as text")
    return text


def mentioned(task: str, workspace: Path) -> list[str]:
    """Text files of the workspace that a task names and that are not large, in its order."""
    found: dict[str, None] = {}
    for word in _WORD.findall(task):
        try:
            path = place_of(word.rstrip("."), workspace, {})
            text = text_of_file(path, {}, workspace)
        except ToolError:
            continue
        if text is not None and len(text) <= MOST_MENTIONED:
            found[path] = None
    return list(found)


def check_size(workspace: Path) -> None:
    """Make sure that the workspace can be copied for each run of the tests.

    Raises:
        UsageError: it has more than 3,000 files or 64 MiB, left-out folders (.git, .venv, ...) not counted.
    """
    count = size = 0
    for source, _ in _files(workspace):
        count, size = count + 1, size + (0 if source.is_symlink() else source.stat().st_size)
        if count > MOST_FILES or size > MOST_BYTES:
            what = f"more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB"
            raise UsageError(f"the workspace {str(workspace)!r} holds {what}", hint="choose a folder below it")


def lay_out(workspace: Path, files: Mapping[str, str], folder: Path) -> None:
    """Copy the workspace into an empty folder, with the changed files over it.

    Raises:
        UsageError: it is too large to be copied for each run of the tests, or may not be read.
    """
    try:
        check_size(workspace)
        for source, path in _files(workspace):
            _copy(source, folder / path, workspace)
    except OSError as error:
        hint = "choose a workspace whose files you may read, and that no other program changes"
        raise UsageError(f"the workspace {str(workspace)!r} can't be copied: {error}", hint=hint) from error
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")


def _copy(source: Path, target: Path, workspace: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_symlink():
        shutil.copy2(source, target)
        return
    real = source.resolve()
    # a link that leads outside would lead there from the copy, too
    if real.is_relative_to(workspace):
        target.symlink_to(os.path.relpath(real, source.parent))


def _files(workspace: Path) -> Iterator[tuple[Path, Path]]:
    """Files and links, and their paths in the workspace; what is neither, as a pipe, and databases in use are left."""
    for root, folders, names in os.walk(workspace):
        links = [name for name in folders if Path(root, name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and name not in links)
        for name in sorted([*names, *(link for link in links if link not in LEFT_OUT)]):
            source = Path(root, name)
            if source.is_symlink() or (source.is_file() and not of_database(source)):
                yield source, source.relative_to(workspace)


def diff(workspace: Path, files: Mapping[str, str]) -> str:
    """The changes as a unified diff that ``git apply`` and ``patch -p1`` take."""
    return "".join(_file_diff(path, text_of_file(path, {}, workspace), files[path]) for path in sorted(files))


def _file_diff(path: str, old: str | None, new: str) -> str:
    if old == new:
        return ""
    before = "/dev/null" if old is None else f"a/{path}"
    # a name with blanks ends at a tab
    end = "\t" if " " in path else ""
    names = (before if old is None else before + end, f"b/{path}{end}")
    lines = difflib.unified_diff(_lines(old or ""), _lines(new), *names, n=3)
    head = f"diff --git a/{path} b/{path}\n" + ("new file mode 100644\n" if old is None else "")
    return head + "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    # splitlines would also part at form feeds, which no diff does
    return re.findall(r"[^\n]*\n|[^\n]+\Z", text)
