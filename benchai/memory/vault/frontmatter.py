"""The properties at the head of a note: YAML between two lines ``---``, made flat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import yaml

from benchai.errors import UsageError
from benchai.memory.loaders.properties import read_yaml, reason_of
from benchai.memory.sections import clean_meta, line_of
from benchai.memory.types import Meta

#: Characters of frontmatter that are read; more is taken for text.
MAX_CHARS = 65_536
_MAX_VALUES = 1_000
_MAX_DEPTH = 8
_BLOCK = re.compile(r"---[ \t]*\r?\n(.*?)(?:(?<=\n)---[ \t]*(?:\r?\n|\Z))", re.DOTALL)
_MANY = (list, tuple, set)
_TAG_LISTS = ("tags", "tag")
_ALIAS_LISTS = ("aliases", "alias")
# what the note itself says stands under these
RESERVED = frozenset({*_TAG_LISTS, *_ALIAS_LISTS, "blocks", "notice", "vault"})


class Front(NamedTuple):
    """The properties of a note.

    Attributes:
        meta: Flat: ``{"a": {"b": 1}}`` is ``a.b``; without those that ``tags`` and ``aliases`` hold.
        end: Where the note's text begins.
        tags, aliases: As written, without ``#``.
        texts: All texts of all properties, for the links in them.
        notice: What is wrong with the frontmatter, which then counts as text; "" where it can be read.
    """

    meta: Meta
    end: int = 0
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    notice: str = ""


def read_front(text: str) -> Front:
    """The properties of a note; never raises."""
    block = _BLOCK.match(text)
    if block is None:
        return Front({})
    if len(block[1]) > MAX_CHARS:
        return Front({}, notice=f"frontmatter of {len(block[1])} characters is taken for text, it has over {MAX_CHARS}")
    try:
        values = read_yaml(block[1])
    except ValueError as error:
        return Front({}, notice=f"frontmatter is taken for text: {error}")
    if values is None:
        return Front({}, end=block.end())
    if not isinstance(values, dict):
        return Front({}, notice=f"frontmatter is taken for text: it is no mapping but a {type(values).__name__}")
    return _front(values, block.end())


def _front(values: dict[Any, Any], end: int) -> Front:
    own = {_text(key): value for key, value in islice(values.items(), _MAX_VALUES)}
    lower = {key.lower(): value for key, value in own.items()}
    tags = (part for name in _TAG_LISTS for text in _texts(lower.get(name)) for part in re.split(r"[,\s]+", text))
    aliases = tuple(alias for name in _ALIAS_LISTS for alias in _aliases(lower.get(name)))
    meta = clean_meta(_flat({key: value for key, value in own.items() if key.lower() not in RESERVED}))
    stripped = (tag.strip("#/") for tag in tags)
    return Front(meta, end, tuple(tag for tag in stripped if tag), aliases, tuple(_texts(values)))


def _aliases(value: Any) -> Iterator[str]:
    parts: Iterable[str] = re.split(r"[,\n]", value) if isinstance(value, str) else _texts(value)
    return (alias for part in parts if (alias := line_of(part)))


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """One level; a value that anchors make huge, or part of itself, is cut off."""
    flat: dict[str, Any] = {}
    pending = [("", values)]
    for _ in range(_MAX_VALUES):
        if not pending:
            break
        prefix, level = pending.pop()
        for key, value in islice(level.items(), _MAX_VALUES):
            name = f"{prefix}{_text(key)}"
            if isinstance(value, dict):
                pending += [(f"{name}.", value)] if prefix.count(".") < _MAX_DEPTH else []
            else:
                flat[name] = list(_texts(value)) if isinstance(value, _MANY) else value
    return flat


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, however deep, of its first thousand members."""
    pending = [value]
    for _ in range(_MAX_VALUES):
        if not pending:
            return
        one = pending.pop()
        if isinstance(one, dict):
            one = list(one.values())
        if isinstance(one, _MANY):
            pending += reversed(list(islice(one, _MAX_VALUES)))
        elif one is not None:
            yield _text(one)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 2**63 else hex(value)
    # \ud800 in quotes is a half of a character, which no file can hold
    return str(value).encode("utf-8", "replace").decode()


def begins_with_front(text: str) -> bool:
    """Whether a note's text begins with a block that is read as its properties, or is meant so."""
    return _BLOCK.match(text.removeprefix("\ufeff")) is not None


def written_front(properties: Mapping[str, Any]) -> str:
    """Properties as the head of a note.

    Raises:
        UsageError: a value is none that a property can have.
    """
    try:
        written = yaml.safe_dump(dict(properties), allow_unicode=True, sort_keys=False, width=1_000)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            f"the properties can't be written: {reason_of(error)}", hint="give texts, numbers, truth values and lists"
        ) from error
    return f"---\n{written}---\n"
