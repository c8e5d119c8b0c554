"""The files of Chroma's HNSW graphs, looked at byte by byte: a wrong link in them ends the process that follows it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# of hnswlib as Chroma writes it: version, offset of level 0, room for and number of elements, bytes of an element,
# offsets of label and vector in it, highest level, where searches enter, links on levels above 0, on level 0, M,
# multiplier, breadth of construction
_HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
_VERSION = 1
_ROWS = 65_536


@dataclass(frozen=True)
class Header:
    """What the head of a graph says, as far as it is looked at; sizes and offsets in bytes."""

    room: int
    count: int
    element: int
    label: int
    vector: int
    highest: int
    enter: int
    links_above: int
    links: int


def damage(folder: Path) -> str | None:
    """What is wrong with the graphs in a folder of vectors, None if nothing is seen.

    A graph of another version of the format is left to Chroma itself.
    """
    # by any of its files: Chroma would begin a graph anew whose head is missing
    for graph in sorted({path.parent for path in folder.glob("*/*.bin")}):
        try:
            found = _graph(graph)
        except OSError as error:
            found = str(error)
        if found is not None:
            return f"{graph.name}: {found}"
    return None


def _graph(folder: Path) -> str | None:
    raw = (folder / "header.bin").read_bytes()
    if len(raw) < _HEADER.size:
        return f"header.bin has {len(raw)} of {_HEADER.size} bytes"
    version, _, room, count, element, label, vector, highest, enter, above, links, _, _, _ = _HEADER.unpack_from(raw)
    if version != _VERSION:
        return None
    header = Header(room, count, element, label, vector, highest, enter, above, links)
    return _head(header) or _level_0(folder, header) or _levels_above(folder, header)


def _head(header: Header) -> str | None:
    # an element: number of links and the links, vector, label
    sizes = header.vector == 4 + 4 * header.links and header.label < header.element == header.label + 8
    inside = header.count <= header.room and (header.count == 0 or header.enter < header.count)
    return (
        None if sizes and inside and header.links <= 4096 and header.highest < 64 else "header.bin contradicts itself"
    )


def _level_0(folder: Path, header: Header) -> str | None:
    import numpy as np

    path = folder / "data_level0.bin"
    if path.stat().st_size < header.count * header.element:
        return f"data_level0.bin ends before its {header.count} elements do"
    if not header.count:
        return None
    rows = np.memmap(path, np.uint8, "r", shape=(header.count, header.element))
    for start in range(0, header.count, _ROWS):
        found = _elements(np.asarray(rows[start : start + _ROWS]), header)
        if found is not None:
            return f"data_level0.bin: {found}"
    return None


def _elements(rows: NDArray[np.uint8], header: Header) -> str | None:
    import numpy as np

    # the upper half of the word holds flags
    numbers = np.ascontiguousarray(rows[:, :2]).view("<u2").ravel()
    links = np.ascontiguousarray(rows[:, 4 : header.vector]).view("<u4")
    used = np.arange(links.shape[1]) < numbers[:, None]
    if (numbers > header.links).any() or (links[used] >= header.count).any():
        return "a link leads nowhere"
    vectors = np.ascontiguousarray(rows[:, header.vector : header.label]).view("<f4")
    if not np.isfinite(vectors).all():
        return "a vector is not finite"
    # room for vectors that are normalised in 32 bits, and for those of the index itself, which are kept as unit
    lengths = np.linalg.norm(vectors, axis=1)
    return None if ((lengths > 0.9) & (lengths < 1.1)).all() else "a vector is not of unit length"


def _levels_above(folder: Path, header: Header) -> str | None:
    raw = (folder / "link_lists.bin").read_bytes()
    step, starts, at = 4 + 4 * header.links_above, list[int](), 0
    for _ in range(header.count):
        if at + 4 > len(raw):
            return "link_lists.bin ends too early"
        starts.append(at + 4)
        at += 4 + _size(raw, at)
    levels = [_size(raw, start - 4) // step for start in starts]
    if at > len(raw) or any(_size(raw, start - 4) % step for start in starts):
        return "link_lists.bin contradicts itself"
    if header.count and not levels[header.enter] == header.highest == max(levels):
        return "link_lists.bin and header.bin have other levels"
    well = all(_leads(raw, start, levels, own, header) for start, own in zip(starts, levels, strict=True) if own)
    return None if well else "link_lists.bin: a link leads nowhere"


def _size(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], "little")


def _leads(raw: bytes, start: int, levels: list[int], own: int, header: Header) -> bool:
    """Whether the links of an element lead to elements that have the level of the link, too."""
    for level in range(1, own + 1):
        at = start + (level - 1) * (4 + 4 * header.links_above)
        number, _, *links = struct.unpack_from(f"<HH{header.links_above}I", raw, at)
        if number > header.links_above:
            return False
        if any(link >= header.count or levels[link] < level for link in links[:number]):
            return False
    return True
