"""Jupyter notebooks: the cells in order, and the beginning of the text that each one wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from benchai.errors import SourceError
from benchai.memory.loaders.base import Raw
from benchai.memory.loaders.decode import text_of
from benchai.memory.loaders.markdown import Heading, headings
from benchai.memory.sections import Loaded, Section, clean_meta

_OUTPUT = 600  # characters of all that one cell wrote
_TERMINAL = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


def load(raw: Raw) -> Loaded:
    """Read a notebook.

    Raises:
        SourceError: it is no notebook.
    """
    text, notice = text_of(raw.data, raw.source)
    try:
        book = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not(raw) from error
    cells = _cells(book)
    if cells is None:
        raise _not(raw)
    loaded = _joined(cells)
    language = _at(book, "metadata", "kernelspec", "language") or _at(book, "metadata", "language_info", "name")
    loaded.meta = clean_meta({"language": language, "notice": notice})
    return loaded


def _not(raw: Raw) -> SourceError:
    return SourceError(f"{raw.source!r} is no notebook", hint="save it anew in Jupyter, or rename it to .json")


def _cells(book: Any) -> list[Any] | None:
    cells = book.get("cells") if isinstance(book, dict) else None
    if cells is None:  # before version 4
        sheets = _at(book, "worksheets")
        cells = _at(sheets[0], "cells") if isinstance(sheets, list) and sheets else None
    return cells if isinstance(cells, list) else None


def _joined(cells: list[Any]) -> Loaded:
    parts: list[str] = []
    sections: list[Section] = []
    path: list[Heading] = []
    start, title = 0, ""
    for number, cell in enumerate(cells, 1):
        said, prose = _said(cell)
        if prose:
            for one in headings(said):
                title = title or one.text
                path = [*(above for above in path if above.level < one.level), one]
        heading = " > ".join([*(above.text for above in path), f"cell {number}"])
        parts.append(said)
        sections.append(Section(start, start + len(said), heading, prose))
        start += len(said) + 2
    return Loaded("\n\n".join(parts), "notebook", sections, title, lined=False)


def _said(cell: Any) -> tuple[str, bool]:
    """What a cell holds and wrote, and whether it is prose."""
    prose = _at(cell, "cell_type") in ("markdown", "heading", "raw")
    said = _text(_at(cell, "source") or _at(cell, "input"))
    outputs = _at(cell, "outputs")
    wrote = "\n".join(_written(outputs)) if isinstance(outputs, list) else ""
    if len(wrote) > _OUTPUT:
        wrote = f"{wrote[:_OUTPUT]} [...]"
    return (f"{said}\n\n{wrote}" if wrote else said), prose


def _written(outputs: list[Any]) -> Iterator[str]:
    left = _OUTPUT + 1
    for output in outputs:
        plain = _at(output, "data", "text/plain")
        said = _text(_at(output, "text") or plain) or " ".join(filter(None, (_error(output),)))
        said = _TERMINAL.sub("", said[: 4 * _OUTPUT]).strip()
        if said and left > 0:
            left -= len(said)
            yield said


def _error(output: Any) -> str:
    name, value = _at(output, "ename"), _at(output, "evalue")
    return f"{name}: {value}" if isinstance(name, str) else ""


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
