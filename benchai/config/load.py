"""Find, read, override and validate benchai.yaml.

Search order: an explicit path, ``BENCHAI_CONFIG``, ``./benchai.yaml``, the user's config folder, the
built-in default. ``BENCHAI_SECTION__KEY=value`` in the environment overrides single keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from benchai.config import paths
from benchai.config.environment import apply_env
from benchai.config.models import BUILTIN, ROLES, Config, ModelConfig, RouterConfig, default_config
from benchai.config.problems import Problem, error_of, problems_of
from benchai.config.source import Loc, Source, read_yaml
from benchai.errors import ConfigError, ModelFileError, did_you_mean

FILE_NAME = "benchai.yaml"


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
        """A path of the configuration; ``builtin:NAME`` is a file of the bundled models.

        A relative path is looked for in the folder of benchai.yaml, then in ``models_dir``, then in the
        user's models folder. The first of these stands when it is in none of them.
        """
        if file.startswith(BUILTIN):
            return Path(__file__).parent.parent / "models" / f"{Path(file.removeprefix(BUILTIN)).name}.gguf"
        candidates = self.places(file)
        return next((found for found in candidates if paths.is_file(found)), candidates[0])

    def places(self, file: str) -> list[Path]:
        """Where a path of the configuration is looked for, in that order; an absolute one stands alone."""
        path = paths.expand(file)
        folders = [self.folder, paths.models_dir()]
        if self.config.models_dir:
            folders.insert(1, self.folder / paths.expand(self.config.models_dir))
        return list(dict.fromkeys((folder / path).absolute() for folder in folders))

    def model_file(self, name: str) -> Path | None:
        """The GGUF of a model, there or not; None for a remote endpoint, or a hub file that is not cached."""
        model = self.config.models[name]
        if model.file is not None:
            return self.resolve(model.file)
        if model.hf is not None:
            from benchai.config.hub import cached_file

            return cached_file(model.hf)
        return None

    def is_bundled(self, role: str) -> bool:
        """Whether the bundled demonstration model serves a role."""
        name = self.config.role_map().get(role)
        file = self.config.models[name].file if name is not None else None
        return file is not None and file.startswith(BUILTIN)

    @property
    def memory_folder(self) -> Path:
        """Where the memory lies."""
        path = self.config.memory.path
        return self.resolve(path) if path else paths.data_dir() / "memory"

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
            ConfigError: a role or a model of that name does not exist.
        """
        known = {*ROLES, *self.config.role_map()}
        for role, model in overrides.items():
            if role not in known:
                raise ConfigError(f"--role {role}={model}: there is no role {role!r}", hint=did_you_mean(role, known))
            if model not in self.config.models:
                hint = did_you_mean(model, self.config.models)
                raise ConfigError(f"--role {role}={model}: there is no model {model!r} in {self.name}", hint=hint)
        roles = self.config.role_map() | dict(overrides)
        return LoadedConfig(self.config.model_copy(update={"roles": roles}), self.path, self.overrides, self.warnings)

    def with_tools(self, names: str | None) -> LoadedConfig:
        """The same configuration with other tools enabled (``--tools``): names with commas, or "all"."""
        if names is None:
            return self
        enabled = [name.strip() for name in names.split(",") if name.strip()]
        tools = self.config.tools.model_copy(update={"enabled": enabled})
        return LoadedConfig(self.config.model_copy(update={"tools": tools}), self.path, self.overrides, self.warnings)

    def with_router(self, host: str | None, port: int | None) -> LoadedConfig:
        """The same configuration with another address of the router.

        Raises:
            ConfigError: it is no address.
        """
        changed = {key: value for key, value in {"host": host, "port": port}.items() if value is not None}
        router = self.config.router.model_copy(update=changed)
        try:
            RouterConfig.model_validate(router.model_dump())
        except ValidationError as error:
            hint = "a host is a name or an address without spaces, a port 0 to 65535"
            raise ConfigError(f"the server cannot listen on host {host!r}, port {port!r}", hint=hint) from error
        config = self.config.model_copy(update={"router": router})
        return LoadedConfig(config, self.path, self.overrides, self.warnings)


def find_config(explicit: Path | None = None, env: Mapping[str, str] | None = None) -> Path | None:
    """The configuration file that applies, or None for the built-in default.

    Raises:
        ConfigError: a file that was named (by argument or BENCHAI_CONFIG) is not there.
    """
    env = os.environ if env is None else env
    named = explicit or (Path(env["BENCHAI_CONFIG"]) if env.get("BENCHAI_CONFIG") else None)
    if named is not None:
        named = paths.expand(named).absolute()
        if not paths.is_file(named):
            by = "--config" if explicit else "BENCHAI_CONFIG"
            state = "is a folder" if paths.is_dir(named) else "is not there"
            raise ConfigError(f"{named}: the configuration that {by} names {state}", hint=_config_hint(named))
        return named
    for candidate in (Path.cwd() / FILE_NAME, paths.config_dir() / FILE_NAME):
        if paths.is_file(candidate):
            return candidate
    return None


def _config_hint(named: Path) -> str:
    if paths.is_dir(named):
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
        raise error_of(problems_of(error, source)) from error
    _check_roles(config, source)
    return config


def _check_roles(config: Config, source: Source) -> None:
    problems = [
        _unknown(source, ("roles", role), repr(model), "there is no such model", did_you_mean(model, config.models))
        for role, model in config.roles.items()
        if model not in config.models
    ]
    known = {*ROLES, *config.role_map()}
    problems += [
        _unknown(source, ("router", "max_concurrent", role), None, "there is no such role", did_you_mean(role, known))
        for role in config.router.max_concurrent
        if role not in known
    ]
    problems += [
        _unknown(source, ("fleet", "core", place), repr(role), "there is no such role", did_you_mean(role, known))
        for place, role in enumerate(config.fleet.core)
        if role not in known
    ]
    named = [(("routing", "roles", intent), role) for intent, role in config.routing.roles.items()]
    others = config.routing.fallbacks
    named += [(("routing", "fallbacks", intent), role) for intent, roles in others.items() for role in roles]
    problems += [
        _unknown(source, loc, repr(role), "there is no such role", did_you_mean(role, known))
        for loc, role in named
        if role not in known
    ]
    listed = [("fallback", *one) for one in config.router.fallback.items()]
    listed += [("copies", *one) for one in config.router.copies.items()]
    for key, role, models in listed:
        loc = ("router", key, role)
        if role not in known:
            problems.append(_unknown(source, loc, None, "there is no such role", did_you_mean(role, known)))
        problems += [
            _unknown(source, (*loc, place), repr(model), "there is no such model", did_you_mean(model, config.models))
            for place, model in enumerate(models)
            if model not in config.models
        ]
    problems += _odd_copies(config, source)
    if problems:
        raise error_of(problems)


def _odd_copies(config: Config, source: Source) -> Iterator[Problem]:
    for role, models in config.router.copies.items():
        served = config.role_map().get(role, "")
        own = config.models.get(served)
        for place, name in enumerate(models):
            at, model = ("router", "copies", role, place), config.models.get(name)
            if own is None or model is None:
                continue
            found = "it is the role's own model" if name == served else None
            if (model.embedding, model.rerank) != (own.embedding, own.rerank) and not (own.remote or model.remote):
                found = "it serves something else than the role's own model (embedding, rerank)"
            if found is not None:
                yield Problem(source.mark(at), ".".join(map(str, at)), repr(name), found, "name a copy of it")


def _unknown(source: Source, loc: Loc, value: str | None, message: str, hint: str) -> Problem:
    return Problem(source.mark(loc), ".".join(map(str, loc)), value, message, hint)


def file_warnings(loaded: LoadedConfig, source: Source) -> list[str]:
    """A line for each model whose files are not there: no error until the model is needed."""
    found = []
    for name, model in loaded.config.models.items():
        for key, file in model.files():
            if not paths.is_file(loaded.resolve(file)):
                where = source.mark(("models", name, key.partition(".")[0]))
                looked = [loaded.resolve(file)] if file.startswith(BUILTIN) else loaded.places(file)
                places = " and ".join(map(str, looked))
                found.append(f"{where}: models.{name}.{key} = {file!r}: missing, looked for as {places}")
    return found


def require_file(path: Path, key: str) -> Path:
    """A file that the configuration names and that is needed now.

    Raises:
        ModelFileError: it is not there, or is a folder.
    """
    if paths.is_dir(path):
        raise ModelFileError(f"{key}: {str(path)!r} is a folder", hint="name the .gguf file in it")
    if not paths.is_file(path):
        raise ModelFileError(
            f"{key}: the file {str(path)!r} is missing", hint="check the path, or models_dir: in benchai.yaml"
        )
    return path
