"""Custom workflows: ``@workflow`` in the program, ``workflows:`` of benchai.yaml, packages that offer some."""

from __future__ import annotations

import inspect
import threading
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from benchai.config import LoadedConfig
from benchai.errors import ConfigError
from benchai.graphs.building import Origin, workflow_from
from benchai.graphs.declared import Declaration, collecting, declaration_of, declared_by_the_program
from benchai.graphs.importing import failure, import_file, import_named
from benchai.graphs.registry import WorkflowRegistry, builtin_workflows
from benchai.graphs.targets import FORM, GROUP, Target, entry_points, targets_of

Code = tuple[str, int] | None
_Module = tuple[ModuleType, list[Declaration]]
RENAME = "rename one of them"
# files are run anew, with the path changed meanwhile: two threads would see each other's modules half loaded
_one_at_a_time = threading.Lock()


def load_workflows(loaded: LoadedConfig) -> WorkflowRegistry:
    """The built-in workflows, those of the program, of the configuration and of installed packages.

    What cannot be loaded is kept as broken, with the reason; everything else is there all the same. Functions that
    make graphs are not called before their workflow is needed.
    """
    with _one_at_a_time:
        return _loaded(loaded)


def _loaded(loaded: LoadedConfig) -> WorkflowRegistry:
    loading = _Loading(builtin_workflows())
    for declared in declared_by_the_program():
        loading.program(declared)
    for target in targets_of(loaded):
        if isinstance(target, Target):
            loading.target(target)
        else:
            loading.registry.add_broken(*target)
    for point in entry_points():
        loading.entry_point(point)
    return loading.registry


class _Loading:
    """A registry being filled."""

    def __init__(self, registry: WorkflowRegistry) -> None:
        self.registry = registry
        self._from: dict[str, tuple[str, Code]] = {one.name: ("a built-in workflow", None) for one in registry.all()}
        self._modules: dict[tuple[Path | str, tuple[Path, ...]], _Module] = {}

    def program(self, declared: Declaration) -> None:
        """Add what the running program declares."""
        self._add(declared.name, declared.function, Origin(f"@workflow({declared.name!r})"))

    def target(self, target: Target) -> None:
        """Add what a place of the configuration holds."""
        try:
            module, declared = self._module(target)
            path = Path(module.__file__) if module.__file__ else None
            if target.attribute is None:
                self._add_all(target, module, declared, path)
                return
            if not hasattr(module, target.attribute):
                raise ConfigError(f"{target.label}: {path.name if path else module} has no {target.attribute!r}")
        except ConfigError as error:
            self.registry.add_broken(target.key, error)
            return
        found = getattr(module, target.attribute)
        origin = Origin(target.label, path, target.attribute)
        self._add(target.key, found, origin, target.description or _about(found, module))

    def entry_point(self, point: metadata.EntryPoint) -> None:
        """Add what an installed package offers; a name that is taken already stays what it is."""
        label = f"{GROUP}: {point.name} = {point.value!r}"
        try:
            with collecting() as declared:
                found = _load(point, label)
        except ConfigError as error:
            self._broken(point.name, label, error)
            return
        module = found if isinstance(found, ModuleType) else None
        path = Path(module.__file__) if module and module.__file__ else None
        if module is None:
            self._add(point.name, found, Origin(label), weak=True)
            return
        for one in _all_of(module, declared):
            self._add(one.name, one.function, Origin(label, path), weak=True)

    def _module(self, target: Target) -> _Module:
        """The module of a place, run once however many workflows it has."""
        key = target.where, target.folders
        if key not in self._modules:
            self._modules[key] = _imported(target)
        return self._modules[key]

    def _add_all(self, target: Target, module: ModuleType, declared: list[Declaration], path: Path | None) -> None:
        found = _all_of(module, declared)
        if not found:
            hint = f'name the graph, {FORM}, or put @workflow("name") on the function that returns it'
            raise ConfigError(
                f"{target.label}: nothing in it has @workflow, and it is not of the form {FORM}", hint=hint
            )
        for one in found:
            self._add(one.name, one.function, Origin(f"{target.label}: {one.name}", path))

    def _add(self, name: str, found: Any, origin: Origin, about: str | None = None, *, weak: bool = False) -> None:
        code = _code(found)
        if name in self._from:
            label, known = self._from[name]
            # a program may be named under workflows:, too
            if known is None or known != code:
                error = ConfigError(
                    f"the workflow {name!r} is there twice: {label}, and {origin.at(found)}", hint=RENAME
                )
                self._broken(name, origin.label if weak else name, error)
            return
        self._from[name] = origin.at(found), code
        try:
            self.registry.add(workflow_from(name, found, origin, about))
        except ConfigError as error:
            self.registry.add_broken(name, error)

    def _broken(self, name: str, key: str, error: ConfigError) -> None:
        self.registry.add_broken(key if name in self._from else name, error)


def _imported(target: Target) -> _Module:
    with collecting() as declared:
        if isinstance(target.where, Path):
            return import_file(target.where, target.folders, target.label), declared
        return import_named(target.where, target.folders, target.label), declared


def _load(point: metadata.EntryPoint, label: str) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise failure(label, None, error) from error


def _all_of(module: ModuleType, declared: list[Declaration]) -> list[Declaration]:
    """What a module declares, and what of other modules it has by name."""
    own = [one for one in declared if one.function.__module__ == module.__name__]
    named = [one for one in map(declaration_of, vars(module).values()) if one is not None]
    return list({one.name: one for one in [*own, *named]}.values())


def _about(found: Any, module: ModuleType) -> str | None:
    """The first line of a module's docstring, for a graph that has none of its own."""
    return None if callable(found) and inspect.getdoc(found) else (module.__doc__ or "").strip().partition("\n")[0]


def _code(found: Any) -> Code:
    """The place of a function, the same however often its file is run."""
    code = getattr(found, "__code__", None)
    return (str(Path(code.co_filename).resolve()), code.co_firstlineno) if code else None
