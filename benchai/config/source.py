"""YAML with the place of every key, so that an error can name line and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchai.errors import ConfigError

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Mark:
    """A place in a source: line and column count from 1; 0 where a source has no lines."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass
class Source:
    """Plain data and the mark of each key in it, by location (``("models", "code", "threads")``)."""

    name: str
    data: dict[str, Any]
    marks: dict[Loc, Mark] = field(default_factory=dict)

    def mark(self, loc: Loc) -> Mark:
        """The mark of a location, or of the nearest one around it."""
        for end in range(len(loc), 0, -1):
            if loc[:end] in self.marks:
                return self.marks[loc[:end]]
        return Mark(self.name)


def read_yaml(path: Path) -> Source:
    """Read a benchai.yaml.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, is no YAML mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}", hint="save the file as UTF-8") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", hint="check the path and its permissions"
        ) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Source:
    """Parse YAML text; ``name`` stands for it in errors.

    Raises:
        ConfigError: the text is no YAML mapping, or has a key twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(
            f"{_yaml_mark(name, error)}: invalid YAML: {_yaml_problem(error)}", hint=_yaml_hint(error)
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: invalid YAML: {error}") from error
    if data is None:
        raise ConfigError(f"{name}: the file is empty", hint="at least models: is needed; see 'benchai config schema'")
    if not isinstance(data, dict) or not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{name}:1:1: a mapping with models: is expected, found {type(data).__name__}")
    return Source(name, data, dict(_marks(node, (), name)))


def _yaml_mark(name: str, error: yaml.MarkedYAMLError) -> Mark:
    mark = error.problem_mark or error.context_mark
    return Mark(name, mark.line + 1, mark.column + 1) if mark else Mark(name)


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


def _yaml_hint(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in (error.problem or ""):
        return "indent with blanks, YAML takes no tabs"
    return "check the indentation and the colons around that line"


def _marks(node: yaml.Node, loc: Loc, name: str) -> Iterator[tuple[Loc, Mark]]:
    if isinstance(node, yaml.MappingNode):
        yield from _mapping_marks(node, loc, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*loc, index), Mark(name, item.start_mark.line + 1, item.start_mark.column + 1)
            yield from _marks(item, (*loc, index), name)


def _mapping_marks(node: yaml.MappingNode, loc: Loc, name: str) -> Iterator[tuple[Loc, Mark]]:
    seen: dict[str, Mark] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        mark = Mark(name, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key in seen and key != "<<":
            raise ConfigError(
                f"{mark}: {'.'.join(map(str, (*loc, key)))!r} stands twice, first in line {seen[key].line}"
            )
        seen[key] = mark
        yield (*loc, key), mark
        yield from _marks(value_node, (*loc, key), name)
