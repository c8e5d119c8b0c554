"""The names of workflows, without importing them."""

from __future__ import annotations

from pathlib import Path

from benchai.config import LoadedConfig

BUILTIN = (
    "react",
    "orchestrator-worker",
    "reflection",
    "evaluator-optimizer",
    "planner-coder-reviewer",
    "vision",
    "rag",
    "router",
)


def workflow_names(loaded: LoadedConfig) -> set[str]:
    """Names that ``benchai run`` knows: of the package, the program, installed packages and the configuration.

    No code of a user runs. A name that a file computes is missing here; it has no blanks, so that it is no task.
    """
    from benchai.graphs.declared import declared_by_the_program
    from benchai.graphs.targets import entry_points

    declared = {one.name for one in declared_by_the_program()}
    return {*BUILTIN, *declared, *(point.name for point in entry_points()), *_configured(loaded)}


def _configured(loaded: LoadedConfig) -> set[str]:
    from benchai.graphs.targets import Target, declared_names, targets_of

    found = set(loaded.config.workflows)
    for target in targets_of(loaded):
        if not isinstance(target, Target):
            found.add(target[0])
        elif target.attribute is None and isinstance(target.where, Path):
            found |= declared_names(target.where)
        else:
            found.add(target.key)
    return found
