"""Change a model's settings in benchai.yaml and keep comments, order and form; the old value stays as a comment.

threads: 4 # was 8 (benchai tune, 2026-11-23)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchai.config import paths
from benchai.config.environment import overrides_model
from benchai.config.load import FILE_NAME, LoadedConfig, load_config, validate
from benchai.config.models import ModelConfig
from benchai.config.source import parse_yaml
from benchai.config.yaml_edit import HINT, edited
from benchai.errors import ConfigError

NOTHING: Mapping[str, Any] = {}


def set_model_keys(path: Path, model: str, changes: Mapping[str, Any], note: str) -> str:
    """The text of a benchai.yaml with other settings for one model; nothing is written.

    Args:
        path: The file.
        model: The model's name under ``models:``.
        changes: Value by key. A dot leads inwards (``"draft.max_tokens"``), None takes the key away (its line
            becomes a comment), a mapping is written as one.
        note: Who changes it, and when: "benchai tune, 2026-11-23".

    Raises:
        ConfigError: the file cannot be read, the change would not load, or cannot be made surely (the model is
            an alias, a value goes over several lines within braces, ...).
    """
    return _edited(path, _read(path), model, changes, note)


def write_edit(loaded: LoadedConfig, model: str, changes: Mapping[str, Any], note: str) -> Path:
    """Make the change of ``set_model_keys`` in the file that a configuration came from; returns its path.

    The file is replaced as a whole, with its mode and owner; a link to it stays one.

    Raises:
        ConfigError: as ``set_model_keys``; or there is no file (the built-in configuration), it may not be written,
            the model's settings in it are no longer those of ``loaded``, or the environment overrides them.
    """
    path = _file_of(loaded, model)
    real = path.resolve()
    _refuse_read_only(path, real)
    before = _read(path)
    _refuse_other(loaded, path, model)
    after = _edited(path, before, model, changes, note)
    if after == before:
        return path
    if _read(path) != before:
        raise ConfigError(f"{path}: was changed by somebody else meanwhile", hint="try again")
    try:
        paths.replace_file(real, after)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}", hint=HINT) from error
    return path


def refuse_unwritable(loaded: LoadedConfig, model: str, changes: Mapping[str, Any] = NOTHING) -> None:
    """Tell before long work that ``write_edit`` could not keep its result; ``changes`` are such as may come.

    Raises:
        ConfigError: there is no file, it may not be written, the environment overrides the model, or such a change
            could not be made surely.
    """
    path = _file_of(loaded, model)
    _refuse_read_only(path, path.resolve())
    _edited(path, _read(path), model, changes, "")


def _edited(path: Path, text: str, model: str, changes: Mapping[str, Any], note: str) -> str:
    after = edited(text, str(path), ("models", model), changes, note)
    validate(parse_yaml(after, str(path)))
    return after


def _read(path: Path) -> str:
    try:
        # no translation: line ends stay as they are
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}", hint="save the file as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint="check its permissions") from error


def _file_of(loaded: LoadedConfig, model: str) -> Path:
    if loaded.path is None:
        file = paths.config_dir() / FILE_NAME
        hint = f"write {file} with your models ('benchai init' does), then try again"
        raise ConfigError("the built-in configuration has no file that could be changed", hint=hint)
    above = [name for name in loaded.overrides if overrides_model(name, model)]
    if above:
        told = f"{', '.join(above)} in the environment stands above models.{model} of {loaded.path}"
        raise ConfigError(f"{told}: a change would not count", hint="unset it and try again")
    return loaded.path


def _refuse_read_only(path: Path, real: Path) -> None:
    # root may write what is marked read-only, but somebody meant that mark
    try:
        writable = os.access(real, os.W_OK) and real.stat().st_mode & 0o222
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint="check its permissions") from error
    if not writable:
        raise ConfigError(f"{path}: the file is read-only", hint=f"chmod u+w {path}, or {HINT}")
    if not os.access(real.parent, os.W_OK):
        raise ConfigError(f"{path}: its folder is read-only", hint=f"chmod u+w {real.parent}, or {HINT}")


def _refuse_other(loaded: LoadedConfig, path: Path, model: str) -> None:
    now: ModelConfig | None = load_config(path).config.models.get(model)
    if now != loaded.config.models[model]:
        what = "is no longer there" if now is None else "has other settings now"
        raise ConfigError(f"{path}: models.{model} {what} than those that were measured", hint="measure again")
