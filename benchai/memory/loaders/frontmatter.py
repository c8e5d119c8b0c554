"""The YAML in front of a Markdown file."""

from __future__ import annotations

import re

from benchai.memory.loaders.properties import read_yaml
from benchai.memory.sections import clean_meta
from benchai.memory.types import Meta

_BLOCK = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_LONGEST = 1 << 16  # characters


def frontmatter(text: str) -> tuple[Meta, int]:
    """What stands in it, and where the text behind it begins; no meta data and 0 where there is none.

    Of YAML that can't be read nothing is taken, and it stays a part of the text.
    """
    found = _BLOCK.match(text, 0, _LONGEST)
    if found is None:
        return {}, 0
    try:
        values = read_yaml(found[1])
    except ValueError:
        return {}, 0
    return (clean_meta(values), found.end()) if isinstance(values, dict) else ({}, 0)
