"""The script of calls: the files of ``calls/``, read and checked; each is a scene, and scenes do not touch each other.

A step is one call (``call: POST /threads/<thread>/runs``) with ``body``, ``query``, ``headers``. What of its answer
later steps need stands in ``keep`` (name: path in the answer), and they write it as ``<name>``.

``begin: NAME`` starts the call and goes on; ``end: NAME`` waits for its answer. ``events: N`` closes a stream after N
events. ``until: {path: value}`` asks again until the answer is so. ``silent: true`` leaves the answer out of the
comparison, and ``ignore: [PATH]`` parts of it (``*`` stands for anything), for what depends on chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "calls"


@dataclass(frozen=True)
class Step:
    """One step; ``name`` begins with the name of its file."""

    name: str
    call: str = ""
    body: Any = None
    raw: str | None = None
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    keep: dict[str, str] = field(default_factory=dict)
    until: dict[str, Any] = field(default_factory=dict)
    events: int | None = None
    begin: str | None = None
    end: str | None = None
    silent: bool = False
    ignore: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.end is None) == (not self.call):
            raise ValueError(f"the step {self.name!r} has no call, or one beside end")


def read_scenes(folder: Path = FOLDER, only: str | None = None) -> list[list[Step]]:
    """The steps of each scene, in the order in which they are played.

    Args:
        folder: Where the files are.
        only: The name of one file, without its ending.

    Raises:
        ValueError: a step has no name, a name that is there already, or an unknown field.
    """
    return [_of(path) for path in sorted(folder.glob("*.yaml")) if only in (None, path.stem)]


def _of(path: Path) -> list[Step]:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        steps = [Step(**{**one, "name": f"{path.stem}: {one['name']}"}) for one in data]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    names = [step.name for step in steps]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"steps are there twice: {', '.join(sorted(twice))}")
    return steps
