"""YAML with the place of every key, so that an error can name line and column."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from benchai.errors import ConfigError

Loc = tuple[str | int, ...]
MAX_KEYS = 20_000
PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


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
        ConfigError: the text is no YAML mapping, has a key twice, or expands to too much.
    """
    try:
        return _Builder(text, name).source()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(
            f"{_yaml_mark(name, error)}: invalid YAML: {_yaml_problem(error)}", hint=_yaml_hint(error)
        ) from error
    except ReaderError as error:
        before = text[: error.position].split("\n")
        where = Mark(name, len(before), len(before[-1]) + 1)
        raise ConfigError(f"{where}: invalid YAML: {error.reason}", hint="remove that character") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: invalid YAML: nested too deeply") from error


class _Builder:
    """Builds plain data and marks from YAML nodes; what an alias names is built anew at each use."""

    def __init__(self, text: str, name: str) -> None:
        self._loader = yaml.SafeLoader(text)
        self._name = name
        self._marks: dict[Loc, Mark] = {}
        self._open: set[int] = set()

    def source(self) -> Source:
        node = self._loader.get_single_node()
        data = self._value(node, ()) if node is not None else None
        if data is None:
            hint = "at least models: is needed; see 'benchai config schema'"
            raise ConfigError(f"{self._name}: the file is empty", hint=hint)
        if not isinstance(data, dict):
            found = type(data).__name__
            raise ConfigError(f"{self._name}:1:1: a mapping with models: is expected, found {found}")
        return Source(self._name, data, self._marks)

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise ConfigError(f"{self._mark(node)}: an alias stands within what it names")
        if node.tag not in PLAIN_TAGS:
            raise ConfigError(f"{self._mark(node)}: the tag {node.tag!r} is not taken", hint="remove it")
        self._open.add(id(node))
        value = self._mapping(node, loc) if isinstance(node, yaml.MappingNode) else self._sequence(node, loc)
        self._open.discard(id(node))
        return value

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            raise ConfigError(f"{self._mark(node)}: invalid YAML: {error}", hint="quote the value") from error

    def _sequence(self, node: yaml.Node, loc: Loc) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self._note((*loc, index), item)
            items.append(self._value(item, (*loc, index)))
        return items

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        self._refuse_twins(node, loc)
        self._loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, loc)
            self._note((*loc, key), key_node)
            data[key] = self._value(value_node, (*loc, key))
        return data

    def _key(self, node: yaml.Node, loc: Loc) -> str:
        key = self._scalar(node) if isinstance(node, yaml.ScalarNode) else node.value
        if not isinstance(key, str):
            where = ".".join(map(str, (*loc, node.value if isinstance(node, yaml.ScalarNode) else "?")))
            raise ConfigError(f"{self._mark(node)}: {where}: a key must be a string", hint="put it into quotes")
        return key

    def _refuse_twins(self, node: yaml.MappingNode, loc: Loc) -> None:
        seen: dict[str, Mark] = {}
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen and key_node.tag != "tag:yaml.org,2002:merge":
                where = ".".join(map(str, (*loc, key)))
                raise ConfigError(f"{self._mark(key_node)}: {where!r} stands twice, first in line {seen[key].line}")
            seen[key] = self._mark(key_node)

    def _note(self, loc: Loc, node: yaml.Node) -> None:
        self._marks[loc] = self._mark(node)
        if len(self._marks) > MAX_KEYS:
            raise ConfigError(f"{self._mark(node)}: the file expands to more than {MAX_KEYS:,} keys")

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self._name, node.start_mark.line + 1, node.start_mark.column + 1)


def _yaml_mark(name: str, error: yaml.MarkedYAMLError) -> Mark:
    mark = error.problem_mark or error.context_mark
    return Mark(name, mark.line + 1, mark.column + 1) if mark else Mark(name)


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


def _yaml_hint(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in (error.problem or ""):
        return "indent with blanks, YAML takes no tabs"
    return "check the indentation and the colons around that line"
