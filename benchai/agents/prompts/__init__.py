"""System prompts of the roles, one Markdown file each."""

from __future__ import annotations

import functools
from importlib import resources


@functools.cache
def prompt(name: str) -> str:
    """The system prompt ``name`` (a file name without its ending)."""
    return resources.files(__package__).joinpath(f"{name}.md").read_text(encoding="utf-8").strip()
