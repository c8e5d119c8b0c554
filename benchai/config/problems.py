"""pydantic's complaints about benchai.yaml as lines a person can act on."""

from __future__ import annotations

import re
import reprlib
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from benchai.config.models import Config
from benchai.config.source import Loc, Mark, Source
from benchai.errors import ConfigError, did_you_mean

SECRET = re.compile("key|token|secret|password", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the configuration."""

    mark: Mark
    key: str
    value: str | None
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value is not None else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.mark}: {self.key or 'the file'}{value}: {self.message}{hint}"


def error_of(problems: list[Problem]) -> ConfigError:
    """The error that tells all problems, one a line."""
    return ConfigError("\n".join(str(problem) for problem in problems), hint=problems[0].hint)


def problems_of(error: ValidationError, source: Source) -> list[Problem]:
    """One problem for each wrong key: a union's complaints about the same value are joined."""
    by_loc: dict[Loc, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_loc.setdefault(_data_loc(details["loc"], source.data, details["type"]), []).append(details)
    found = [_problem(loc, details, source) for loc, details in by_loc.items()]
    return sorted(found, key=lambda problem: (problem.mark.line, problem.mark.column))


def _data_loc(loc: Loc, data: Any, kind: str) -> Loc:
    """The part of pydantic's location that is a path in the data: it also names branches of unions."""
    path: list[str | int] = []
    for part in loc:
        try:
            data = data[part]
        except (LookupError, TypeError):
            if kind != "missing" or part != loc[-1]:
                break
        path.append(part)
    return tuple(path)


def _problem(loc: Loc, details: list[ErrorDetails], source: Source) -> Problem:
    first = details[0]
    key = ".".join(map(str, loc))
    mark = source.mark(loc)
    if first["type"] == "extra_forbidden":
        return Problem(
            mark, key, _shown(loc, first["input"]), "unknown key", did_you_mean(str(loc[-1]), _keys_at(loc[:-1]))
        )
    if first["type"] == "missing":
        return Problem(mark, key, None, "is needed and not there")
    message = " or ".join(dict.fromkeys(_message(one) for one in details))
    shown = None if isinstance(first["input"], dict | BaseModel) else _shown(loc, first["input"])
    return Problem(mark, key, shown, message)


def _shown(loc: Loc, value: Any) -> str:
    # a secret under a wrong key is not repeated on the terminal
    secret = isinstance(value, str) and SECRET.search(str(loc[-1]))
    return "..." if secret else _short(value)


def _message(details: ErrorDetails) -> str:
    return details["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removesuffix("]")


class _Short(reprlib.Repr):
    """Short forms of values, without the passwords of addresses."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(_PASSWORD.sub(r"\1...@", x), level)


_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s]*@")


def _short(value: Any) -> str:
    short = _Short()
    short.maxstring = short.maxother = 60
    return short.repr(value)


def _keys_at(loc: Loc) -> Iterable[str]:
    """The valid keys of the section at a location."""
    section: Any = Config
    for part in loc:
        section = _inside(section, part)
    return section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else []


def _inside(section: Any, part: str | int) -> Any:
    if isinstance(section, type) and issubclass(section, BaseModel):
        info = section.model_fields.get(str(part))
        return _section_type(info.annotation) if info else None
    args = typing.get_args(section)
    return _section_type(args[-1]) if args else None


def _section_type(annotation: Any) -> Any:
    """``X | None`` -> ``X``; a dict stays a dict."""
    if typing.get_origin(annotation) in (dict, list) or isinstance(annotation, type):
        return annotation
    return next((arg for arg in typing.get_args(annotation) if arg is not type(None)), None)
