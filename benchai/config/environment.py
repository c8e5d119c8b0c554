"""``BENCHAI_SECTION__KEY=value`` in the environment overrides single keys of benchai.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from benchai.config.models import Config
from benchai.config.source import Loc, Mark, Source
from benchai.errors import ConfigError, did_you_mean

# variables of the same prefix that override no key
RESERVED = {"BENCHAI_CONFIG", "BENCHAI_HOME", "BENCHAI_PARENT_PID", "BENCHAI_WATCH_STDIN"}


def apply_env(source: Source, env: Mapping[str, str]) -> list[str]:
    """Put ``BENCHAI_*`` overrides into the data; returns the names of the variables used.

    Raises:
        ConfigError: the value is no YAML, or the variable names no section.
    """
    used = [name for name in sorted(env) if _overrides(name)]
    for variable in used:
        keys = variable.removeprefix("BENCHAI_").lower().split("__")
        _check_keys(keys, variable)
        _set(source, keys, _value(variable, env[variable]), Mark(f"environment {variable}"))
    return used


def _overrides(variable: str) -> bool:
    """Whether a variable is meant for us: BENCHAI_API_KEY, or a BENCHAI_PORT of somebody else, is not."""
    if not variable.startswith("BENCHAI_") or variable in RESERVED:
        return False
    name = variable.removeprefix("BENCHAI_").lower()
    return "__" in name or name in Config.model_fields


def _check_keys(keys: list[str], variable: str) -> None:
    # the value is not told: it may be a secret
    wrong = f"{variable} overrides no key: "
    if keys[0] not in Config.model_fields:
        raise ConfigError(f"{wrong}there is no section {keys[0]!r}", hint=did_you_mean(keys[0], Config.model_fields))
    if not all(keys) or any(key.strip("_") != key for key in keys):
        raise ConfigError(f"{wrong}an empty part", hint="write BENCHAI_SECTION__KEY, two underscores between parts")


def _value(variable: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{variable}: its value is invalid YAML", hint="quote the value") from error


def _set(source: Source, keys: list[str], value: Any, mark: Mark) -> None:
    node: dict[str, Any] = source.data
    loc: Loc = ()
    for key in keys[:-1]:
        name = _existing(node, key)
        loc = (*loc, name)
        if node.get(name) is None:
            node[name] = {}
            source.marks[loc] = mark
        if not isinstance(node[name], dict):
            raise ConfigError(f"{mark}: {'.'.join(map(str, loc))} is a value, not a section")
        node = node[name]
    name = _existing(node, keys[-1])
    loc = (*loc, name)
    node[name] = value
    # what stood below in the file is gone, and so are its places
    source.marks = {at: old for at, old in source.marks.items() if at[: len(loc)] != loc} | {loc: mark}


def _existing(node: Mapping[str, Any], key: str) -> str:
    """The key that is meant: names in the environment are upper case, with underscores for anything odd."""
    return next((name for name in node if _as_variable(name) == key), key)


def _as_variable(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def overrides_model(variable: str, model: str) -> bool:
    """Whether a variable sets something of that entry of ``models:``."""
    section, _, rest = variable.removeprefix("BENCHAI_").lower().partition("__")
    return section == "models" and (not rest or rest.partition("__")[0] == _as_variable(model))
