"""``workflows:`` of benchai.yaml and the graphs of a langgraph.json, as places: nothing is imported here."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchai.config import LoadedConfig, paths
from benchai.errors import ConfigError

GROUP = "benchai.workflows"
FORM = "./file.py:attribute"


@dataclass(frozen=True)
class Target:
    """One place that workflows come from.

    Attributes:
        key: The workflow's name; what the place is called where it brings several of their own names.
        label: How messages call it.
        where: The Python file, or the dotted name of a module.
        attribute: What is meant there; None for all that is decorated with ``@workflow``.
        folders: What is put on the path while it is loaded.
        description: One line, where the place itself gives one.
    """

    key: str
    label: str
    where: Path | str
    attribute: str | None = None
    folders: tuple[Path, ...] = ()
    description: str | None = None


def targets_of(loaded: LoadedConfig) -> Iterator[Target | tuple[str, ConfigError]]:
    """The places that ``workflows:`` names; one that cannot be read as its name and the error."""
    for key, value in loaded.config.workflows.items():
        label = f"workflows: {value!r}" if key == value else f"workflows.{key} = {value!r}"
        try:
            if value.endswith(".json"):
                yield from read_langgraph_json(loaded.folder / paths.expand(value), label)
            else:
                yield _target(key, label, value, loaded.folder)
        except ConfigError as error:
            yield key, error


def _target(key: str, label: str, value: str, folder: Path, **extra: Any) -> Target:
    head, _, attribute = value.rpartition(":")
    if not head or not attribute.isidentifier():
        head, attribute = value, ""
    is_file = head.endswith(".py") or (attribute and ("/" in head or "\\" in head))
    if is_file:
        return Target(key, label, (folder / paths.expand(head)).resolve(), attribute or None, **extra)
    if not attribute or not all(part.isidentifier() for part in head.split(".")):
        hint = "name the file and what in it is the graph; ./file.py alone takes all functions with @workflow"
        raise ConfigError(f"{label} is not of the form {FORM}", hint=hint)
    return Target(key, label, head, attribute, **({"folders": (folder,)} | extra))


def read_langgraph_json(path: Path, label: str) -> Iterator[Target | tuple[str, ConfigError]]:
    """The graphs of a LangGraph application; of ``dependencies`` only folders count, ``env`` is not read.

    Source: the schema of langgraph-cli (``graphs``: name -> "path:attribute", or an object with ``path`` and
    ``description``; ``dependencies``: packages, or folders that begin with a dot).

    Raises:
        ConfigError: the file is missing or is no such file.
    """
    data = _json_object(path, label)
    graphs = data.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        raise ConfigError(
            f"{label}: {path.name} has no graphs", hint='it needs {"graphs": {"name": "./file.py:graph"}}'
        )
    folders = tuple(_folders(path.parent, data.get("dependencies")))
    for name, value in graphs.items():
        where = f"{label}: graphs.{name}"
        try:
            yield _graph_of_json(name, value, where, path.parent, folders)
        except ConfigError as error:
            yield name, error


def _json_object(path: Path, label: str) -> dict[str, Any]:
    if not paths.is_file(path):
        raise ConfigError(f"{label}: the file {str(path)!r} is missing")
    try:
        data = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ConfigError(f"{label}: {path.name}, line {error.lineno}: no JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{label}: {path.name} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{label}: {path.name} is no JSON object")
    return data


def _graph_of_json(name: str, value: Any, label: str, folder: Path, folders: tuple[Path, ...]) -> Target:
    about = value if isinstance(value, dict) else {"path": value}
    target, description = about.get("path"), about.get("description")
    if not isinstance(target, str):
        raise ConfigError(f"{label} = {value!r} has no path", hint=f'write "{FORM}", or an object with "path"')
    if target.rpartition(":")[0].endswith((".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".tsx", ".jsx")):
        raise ConfigError(f"{label} = {target!r} is no Python file", hint="only Python graphs can be run")
    return _target(
        name,
        f"{label} = {target!r}",
        target,
        folder,
        folders=(folder, *folders),
        description=description.strip().partition("\n")[0] if isinstance(description, str) else None,
    )


def _folders(folder: Path, dependencies: Any) -> Iterator[Path]:
    """The folders of ``dependencies``, and those that they are imported from."""
    for one in dependencies if isinstance(dependencies, list) else ():
        if isinstance(one, str) and one.startswith("."):
            found = (folder / one).resolve()
            yield found
            if (found / "__init__.py").is_file():
                yield found.parent
            if (found / "src").is_dir():
                yield found / "src"


def entry_points() -> list[metadata.EntryPoint]:
    """What installed packages offer in the group ``benchai.workflows``."""
    return sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name)


def declared_names(path: Path) -> set[str]:
    """The names that ``@workflow("...")`` gives in a file, read without running it; none of a file with a mistake."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return set()
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found = (_declared_name(decorator) for function in functions for decorator in function.decorator_list)
    return {name for name in found if name is not None}


def _declared_name(decorator: ast.expr) -> str | None:
    if not isinstance(decorator, ast.Call):
        return None
    called = decorator.func.attr if isinstance(decorator.func, ast.Attribute) else getattr(decorator.func, "id", None)
    named = [keyword.value for keyword in decorator.keywords if keyword.arg == "name"]
    [*_, first] = [None, *named, *decorator.args[:1]]
    value = first.value if isinstance(first, ast.Constant) else None
    return value if called == "workflow" and isinstance(value, str) else None
