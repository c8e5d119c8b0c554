"""Run a user's Python files: each on its own, with its line when it fails."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from benchai.config import paths
from benchai.errors import ConfigError

FRAMES = 5
PREFIX = "benchai_workflow_"
# modules beside a user's file that it imported: another file may mean another one by the same name
_beside: set[str] = set()


def import_file(path: Path, folders: Sequence[Path], label: str) -> ModuleType:
    """The module of a file, run anew; it may import what lies beside it, and, in a package, relatively.

    Raises:
        ConfigError: the file is missing or fails; names the file and the line.
    """
    if not paths.is_file(path):
        raise ConfigError(f"{label}: the file {str(path)!r} is missing")
    root = _package(path)
    inside = path.parent if root is None else root.parent
    with _failures(label, path), _importing([inside, *folders]):
        return _run_alone(path) if root is None else _run_in_package(path, root)


def import_named(name: str, folders: Sequence[Path], label: str) -> ModuleType:
    """An installed module, or one that lies in one of the folders.

    Raises:
        ConfigError: it is missing or fails; names the file and the line.
    """
    with _failures(label, None), _importing(folders):
        return importlib.import_module(name)


def _package(path: Path) -> Path | None:
    """The folder of the outermost package that a file lies in."""
    root, folder = None, path.parent
    while paths.is_file(folder / "__init__.py") and "." not in folder.name:
        root, folder = folder, folder.parent
    return root


def _unique(path: Path) -> str:
    # the same in every process: a checkpoint names the types of a state by their module
    return f"{PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _run_alone(path: Path) -> ModuleType:
    return _run(_unique(path), path)


def _run_in_package(path: Path, root: Path) -> ModuleType:
    unique = _unique(root)
    for name in [name for name in sys.modules if name.partition(".")[0] == unique]:
        del sys.modules[name]
    _run(unique, root / "__init__.py", [str(root)])
    parts = path.relative_to(root).with_suffix("").parts
    return importlib.import_module(".".join((unique, *(part for part in parts if part != "__init__"))))


def _run(name: str, path: Path, search: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise ImportError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextmanager
def _importing(folders: Sequence[Path]) -> Iterator[None]:
    """Let modules be imported from the folders; what an earlier file found beside it is not taken for them."""
    stashed = {name: sys.modules.pop(name) for name in sorted(_beside) if name in sys.modules}
    known = {name.partition(".")[0] for name in sys.modules}
    added = [str(folder) for folder in folders]
    sys.path[:0] = added
    importlib.invalidate_caches()
    linecache.checkcache()
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)
        found = [name for name in sys.modules if name.partition(".")[0] not in known]
        _beside.update(name for name in found if _lies_in(sys.modules[name], name, added))
        for name, module in stashed.items():
            sys.modules.setdefault(name, module)


def _lies_in(module: ModuleType, name: str, folders: Sequence[str]) -> bool:
    top = name.partition(".")[0]
    file = getattr(module, "__file__", None) or ""
    starts = [str(Path(folder, top)) for folder in folders]
    # not all that is below: a folder may hold the environment with its packages
    return not top.startswith(PREFIX) and any(file.startswith((f"{start}.", f"{start}/")) for start in starts)


@contextmanager
def _failures(label: str, path: Path | None) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        raise failure(label, path, error) from error


def failure(label: str, path: Path | None, error: BaseException) -> ConfigError:
    """What a user's code raised, with the innermost line of the file, and the way there."""
    frames = _frames(path, error)
    said = f"{type(error).__name__}: {_text(error)}"
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return ConfigError(f"{label}: {Path(error.filename).name}, line {error.lineno}: {said}")
    if not frames:
        return ConfigError(f"{label}: {path.name}: {said}" if path else f"{label}: {said}")
    file = [frame for frame in frames if path and Path(frame.filename) == path] or frames
    where = f"{label}: {Path(file[-1].filename).name}, line {file[-1].lineno}: {said}"
    way = [f"  {Path(one.filename).name}, line {one.lineno}, in {one.name}: {one.line}" for one in frames[-FRAMES:]]
    return ConfigError("\n".join([where, *way]))


def _text(error: BaseException) -> str:
    try:
        return str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # an exception of the user's may have a broken __str__
        return "(no text)"


def _frames(path: Path | None, error: BaseException) -> list[traceback.FrameSummary]:
    """The steps to an error that are in the user's own files."""
    steps = list(traceback.extract_tb(error.__traceback__))
    if path is not None:
        return [step for step in steps if _is_users(Path(step.filename), path.parent)]
    ours = {str(Path(__file__)), importlib.__file__}
    return [step for step in steps if step.filename not in ours and not step.filename.startswith("<")]


def _is_users(file: Path, folder: Path) -> bool:
    return file.is_relative_to(folder) and "site-packages" not in file.relative_to(folder).parts


def line_of(path: Path, attribute: str) -> int | None:
    """The line on which a file defines a name; None where that can't be seen."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    return next((node.lineno for node in reversed(body) if attribute in _defined(node)), None)


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
