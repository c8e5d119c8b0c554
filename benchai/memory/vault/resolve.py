"""Where a link of a note leads, and which notes are near each other by links; pure, over the vault's paths.

A path is relative to the vault, with forward slashes. The order in which a link's target is looked for:

1. ``/a/b`` from the vault's root; ``./b`` and ``../b`` from the linking note's folder.
2. The whole path from the root.
3. The path from the linking note's folder.
4. A file anywhere whose path ends in the target; of several the nearest to the linking note.
5. A note with that alias, of several the nearest.

Case does not count, and ``.md`` may be left out. Obsidian itself does not follow a bare alias; people write them.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchai.memory.types import Link, Piece

_ENDINGS = ("", ".md")
_LEFT_OUT = re.compile(r"[#|^:%\[\]\\\s]+")


class Unresolved(NamedTuple):
    """A link that leads nowhere."""

    note: str
    link: Link


class Names:
    """The files of a vault by the names that links use.

    Args:
        paths: Of all files, notes and attachments.
        aliases: Other names of notes, by path.
    """

    def __init__(self, paths: Iterable[str], aliases: Mapping[str, Sequence[str]] | None = None) -> None:
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_alias: dict[str, list[str]] = defaultdict(list)
        for path in sorted(paths):
            self._by_path.setdefault(folded(path), path)
            self._by_name[folded(posixpath.basename(path))].append(path)
        for path in sorted(aliases or {}):
            for alias in (aliases or {})[path]:
                self._by_alias[folded(alias)].append(path)

    def resolve(self, target: str, note: str) -> str | None:
        """The path that a link's target means in a note; None where there is no such file."""
        wanted = folded(target.replace("\\", "/").strip())
        if not wanted:
            return self._by_path.get(folded(note))
        folder = folded(posixpath.dirname(note))
        if wanted.startswith("/"):
            return self._exact(wanted.lstrip("/"))
        if wanted.startswith(("./", "../")):
            return self._exact(_joined(folder, wanted))
        found = self._exact(_joined("", wanted)) or self._exact(_joined(folder, wanted))
        return found or self._anywhere(wanted, note) or _nearest(self._by_alias.get(wanted, []), note)

    def _exact(self, path: str | None) -> str | None:
        if path is None:
            return None
        found = (self._by_path.get(path + ending) for ending in _ENDINGS)
        return next((one for one in found if one is not None), None)

    def _anywhere(self, wanted: str, note: str) -> str | None:
        for ending in _ENDINGS:
            named = self._by_name.get(posixpath.basename(wanted) + ending, [])
            found = _nearest([path for path in named if f"/{folded(path)}".endswith(f"/{wanted}{ending}")], note)
            if found is not None:
                return found
        return None


class Graph:
    """Which notes link which.

    Args:
        names: Where links lead.
        links: Of each note, by its path.

    Attributes:
        unresolved: Links that lead nowhere, by note and in order.
    """

    def __init__(self, names: Names, links: Mapping[str, Sequence[Link]]) -> None:
        self._out: dict[str, dict[str, None]] = {}
        self._back: dict[str, dict[str, None]] = defaultdict(dict)
        self.unresolved: list[Unresolved] = []
        for note in sorted(links):
            self._add(names, note, links[note])

    def linked(self, note: str) -> list[str]:
        """What a note links or embeds, in order; never the note itself."""
        return list(self._out.get(note, {}))

    def linking(self, note: str) -> list[str]:
        """The notes that link or embed a file, by path."""
        return list(self._back.get(note, {}))

    def neighbours(self, note: str) -> list[str]:
        """What a note links, then what links it; each once."""
        return list(dict.fromkeys([*self.linked(note), *self.linking(note)]))

    def _add(self, names: Names, note: str, links: Sequence[Link]) -> None:
        out = self._out.setdefault(note, {})
        for link in links:
            found = names.resolve(link.target, note)
            if found is None:
                self.unresolved.append(Unresolved(note, link))
            elif found != note:
                out[found] = None
                self._back[found][note] = None


def folded(name: str) -> str:
    """A name as it is compared: without case, and composed, as file systems store it in two ways."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def piece_of(pieces: Sequence[Piece], part: str) -> Piece | None:
    """The piece that the part of a link behind ``#`` means: under a heading, or with a block's id."""
    if part.startswith("^"):
        ending = re.compile(rf"(?:^|[ \t>])\^{re.escape(part[1:])}[ \t]*$", re.MULTILINE | re.IGNORECASE)
        return next((piece for piece in pieces if ending.search(piece.text)), None)
    # the last of nested headings stands nearest
    wanted = heading_key(part.rsplit("#", 1)[-1])
    return next(
        (piece for piece in pieces if wanted and heading_key(piece.heading.rsplit(" > ", 1)[-1]) == wanted), None
    )


def heading_key(text: str) -> str:
    """A heading as links to it are compared."""
    # links can't hold these, so Obsidian leaves them out of links to headings
    return folded(_LEFT_OUT.sub(" ", text).strip())


def _joined(folder: str, path: str) -> str | None:
    """A path from a folder without ``.`` and ``..``; None where it leads out of the vault."""
    joined = posixpath.normpath(posixpath.join(folder, path))
    return None if joined.startswith("..") and joined[2:3] in ("", "/") else joined


def _nearest(paths: Sequence[str], note: str) -> str | None:
    """The path with the fewest steps between its folder and the note's; then the shortest, then the first."""
    return min(paths, key=lambda path: (_steps(path, note), path.count("/"), len(path), path), default=None)


def _steps(path: str, note: str) -> int:
    one, other = (folded(posixpath.dirname(each)).split("/") for each in (path, note))
    one, other = ([part for part in parts if part] for parts in (one, other))
    common = 0
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    return len(one) + len(other) - 2 * common
