"""YAML at the head of a text, as people write it: YAML 1.2, and nothing that takes long to read."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import yaml

# the parser in C does not guard its stack against deep nesting
_CHARS_FOR_C = 1_024
_DEEP = re.compile(r"(?:[\[{]\s*|[-?:][ \t]+){64}")


def read_yaml(text: str) -> Any:
    """What a block of YAML says: dates, times and ``yes`` are texts, as written; ``<<`` is a key like others.

    Raises:
        ValueError: it can't be read, with the reason.
    """
    if _DEEP.search(text):
        raise ValueError("it is nested too deeply")
    try:
        return yaml.load(text, Loader=_loader(len(text) <= _CHARS_FOR_C))  # noqa: S506 - a SafeLoader
    # dates such as 2024-13-45 are ValueErrors, unhashable keys TypeErrors
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """What is wrong with YAML, in one line."""
    problem = getattr(error, "problem", None)
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 2}" if mark is not None else ""
    return f"{problem or type(error).__name__}{where}"


@cache
def _loader(fast: bool) -> Any:
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader) if fast else yaml.SafeLoader
    # without the merge key: chained, it makes a file of 1 KB a value of millions of parts
    loader: Any = type("PropertiesLoader", (base,), {"yaml_implicit_resolvers": {}})
    tag = "tag:yaml.org,2002:"
    loader.add_implicit_resolver(f"{tag}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    loader.add_implicit_resolver(f"{tag}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    number = list("-+0123456789.")
    loader.add_implicit_resolver(f"{tag}int", re.compile(r"^(?:[-+]?(?:0|[1-9][0-9]{0,4000})|0x[0-9a-fA-F]+)$"), number)
    digits = r"(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
    real = rf"^(?:[-+]?(?:{digits}|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$"
    loader.add_implicit_resolver(f"{tag}float", re.compile(real), number)
    return loader
