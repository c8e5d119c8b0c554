"""Find, read, override and validate benchai.yaml.

Search order: an explicit path, ``BENCHAI_CONFIG``, ``./benchai.yaml``, the user's config folder, the
built-in default. ``BENCHAI_SECTION__KEY=value`` in the environment overrides single keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from benchai.config import paths
from benchai.config.models import ROLES, TINY, Config, ModelConfig, default_config
from benchai.config.problems import problems_of
from benchai.config.source import Loc, Mark, Source, read_yaml
from benchai.errors import ConfigError, ModelFileError, did_you_mean

FILE_NAME = "benchai.yaml"
# variables of the same prefix that override no key
RESERVED = {"BENCHAI_CONFIG", "BENCHAI_HOME", "BENCHAI_PARENT_PID", "BENCHAI_WATCH_STDIN"}


@dataclass(frozen=True)
class LoadedConfig:
    """A validated configuration and where it came from (``path`` is None for the built-in one)."""

    config: Config
    path: Path | None = None
    overrides: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def folder(self) -> Path:
        """What relative paths in the configuration are relative to."""
        return self.path.parent if self.path else Path.cwd()

    @property
    def name(self) -> str:
        """The file's path, or words for the built-in configuration."""
        return str(self.path) if self.path else "the built-in configuration"

    def resolve(self, file: str) -> Path:
        """A path of the configuration; ``builtin:tiny`` is the bundled model.

        A relative path is looked for in the folder of benchai.yaml, then in ``models_dir``, then in the
        user's models folder. The first of these stands when it is in none of them.
        """
        if file == TINY:
            return Path(__file__).parent.parent / "models" / "tiny.gguf"
        path = Path(file).expanduser()
        folders = [self.folder, paths.models_dir()]
        if self.config.models_dir:
            folders.insert(1, self.folder / Path(self.config.models_dir).expanduser())
        candidates = [folder / path for folder in folders]
        return next((found for found in candidates if found.exists()), candidates[0]).absolute()

    def model_file(self, name: str) -> Path | None:
        """The GGUF of a model, there or not; None for a remote endpoint, or a hub file that is not cached."""
        model = self.config.models[name]
        if model.file is not None:
            return self.resolve(model.file)
        if model.hf is not None:
            from benchai.config.hub import cached_file

            return cached_file(model.hf)
        return None

    def model_for(self, role: str) -> tuple[str, ModelConfig]:
        """Name and settings of the model that serves a role.

        Raises:
            ConfigError: no model serves the role.
        """
        roles = self.config.role_map()
        if role not in roles:
            hint = (
                f"add {role}: MODEL under roles: in {self.name}, or --role {role}=MODEL ({did_you_mean(role, roles)})"
            )
            raise ConfigError(f"no model serves the role {role!r}", hint=hint)
        return roles[role], self.config.models[roles[role]]

    def with_roles(self, overrides: Mapping[str, str]) -> LoadedConfig:
        """The same configuration with other models for some roles (``--role``).

        Raises:
            ConfigError: a model of that name does not exist.
        """
        for role, model in overrides.items():
            if model not in self.config.models:
                hint = did_you_mean(model, self.config.models)
                raise ConfigError(f"--role {role}={model}: there is no model {model!r} in {self.name}", hint=hint)
        roles = self.config.role_map() | dict(overrides)
        return LoadedConfig(self.config.model_copy(update={"roles": roles}), self.path, self.overrides, self.warnings)


def find_config(explicit: Path | None = None, env: Mapping[str, str] | None = None) -> Path | None:
    """The configuration file that applies, or None for the built-in default.

    Raises:
        ConfigError: a file that was named (by argument or BENCHAI_CONFIG) is not there.
    """
    env = os.environ if env is None else env
    named = explicit or (Path(env["BENCHAI_CONFIG"]) if env.get("BENCHAI_CONFIG") else None)
    if named is not None:
        named = named.expanduser().absolute()
        if not named.is_file():
            by = "--config" if explicit else "BENCHAI_CONFIG"
            state = "is a folder" if named.is_dir() else "is not there"
            raise ConfigError(f"{named}: the configuration that {by} names {state}", hint=_config_hint(named))
        return named
    for candidate in (Path.cwd() / FILE_NAME, paths.config_dir() / FILE_NAME):
        if candidate.is_file():
            return candidate
    return None


def _config_hint(named: Path) -> str:
    if named.is_dir():
        return f"name the file, for example {named / FILE_NAME}"
    return "check the path, or leave it out to use the built-in configuration"


def load_config(explicit: Path | None = None, env: Mapping[str, str] | None = None) -> LoadedConfig:
    """Load the configuration that applies.

    Raises:
        ConfigError: with file, line, column, key, value and the nearest valid key of every problem.
    """
    env = os.environ if env is None else env
    path = find_config(explicit, env)
    source = read_yaml(path) if path else _default_source()
    overrides = apply_env(source, env)
    config = validate(source)
    loaded = LoadedConfig(config, path, tuple(overrides))
    return LoadedConfig(config, path, tuple(overrides), tuple(file_warnings(loaded, source)))


def _default_source() -> Source:
    return Source("built-in configuration", default_config().model_dump(exclude_defaults=True))


def validate(source: Source) -> Config:
    """Validate plain data.

    Raises:
        ConfigError: one line for every problem.
    """
    try:
        config = Config.model_validate(source.data)
    except ValidationError as error:
        problems = problems_of(error, source)
        raise ConfigError("\n".join(str(problem) for problem in problems), hint=problems[0].hint) from error
    _check_roles(config, source)
    return config


def _check_roles(config: Config, source: Source) -> None:
    for role, model in config.roles.items():
        if model not in config.models:
            where = source.mark(("roles", role))
            raise ConfigError(
                f"{where}: roles.{role} = {model!r}: there is no such model", hint=did_you_mean(model, config.models)
            )
    known = {*ROLES, *config.role_map()}
    for role in config.router.max_concurrent:
        if role not in known:
            where = source.mark(("router", "max_concurrent", role))
            raise ConfigError(
                f"{where}: router.max_concurrent.{role}: there is no such role", hint=did_you_mean(role, known)
            )


def apply_env(source: Source, env: Mapping[str, str]) -> list[str]:
    """Put ``BENCHAI_*`` overrides into the data; returns the names of the variables used.

    Raises:
        ConfigError: the value is no YAML, or the variable names no section.
    """
    used = []
    for variable in sorted(env):
        if not variable.startswith("BENCHAI_") or variable in RESERVED:
            continue
        keys = variable.removeprefix("BENCHAI_").lower().split("__")
        if keys[0] not in Config.model_fields:
            raise ConfigError(
                f"{variable}={env[variable]!r}: overrides no key: there is no section {keys[0]!r}",
                hint=did_you_mean(keys[0], Config.model_fields),
            )
        _set(source, keys, _env_value(variable, env[variable]), variable)
        used.append(variable)
    return used


def _env_value(variable: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{variable}={text!r}: invalid YAML", hint="quote the value") from error


def _set(source: Source, keys: list[str], value: Any, variable: str) -> None:
    node: dict[str, Any] = source.data
    loc: Loc = ()
    for key in keys[:-1]:
        name = _existing(node, key)
        loc = (*loc, name)
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{variable}: {'.'.join(map(str, loc))} is a value, not a section")
        node = child
    name = _existing(node, keys[-1])
    node[name] = value
    source.marks[(*loc, name)] = Mark(f"environment {variable}")


def _existing(node: Mapping[str, Any], key: str) -> str:
    """Environment names are upper case without hyphens: find the key that is meant."""
    return next((name for name in node if str(name).lower().replace("-", "_") == key), key)


def file_warnings(loaded: LoadedConfig, source: Source) -> list[str]:
    """A line for each model whose files are not there: no error until the model is needed."""
    found = []
    for name, model in loaded.config.models.items():
        files = {"file": model.file, "mmproj": model.mmproj, "draft": model.draft.file if model.draft else None}
        for key, file in files.items():
            if file is not None and not loaded.resolve(file).is_file():
                where = source.mark(("models", name, key))
                found.append(f"{where}: models.{name}.{key} = {file!r}: missing, looked for as {loaded.resolve(file)}")
    return found


def require_file(path: Path, key: str) -> Path:
    """A file that the configuration names and that is needed now.

    Raises:
        ModelFileError: it is not there, or is a folder.
    """
    if path.is_dir():
        raise ModelFileError(f"{key}: {str(path)!r} is a folder", hint="name the .gguf file in it")
    if not path.is_file():
        raise ModelFileError(
            f"{key}: the file {str(path)!r} is missing", hint="check the path, or models_dir: in benchai.yaml"
        )
    return path
