"""Model files that are there already, in the folders of models and in the hub's cache: their sizes are exact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchai.config import paths
from benchai.config.hub import cached_ggufs
from benchai.errors import BenchAIError
from benchai.runtime.advise.catalogue import Entry
from benchai.runtime.advise.fit import File
from benchai.runtime.advise.sizes import QUANTISATIONS
from benchai.runtime.placement.model_info import read_model_info

_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}$")
_FIRST_PART = re.compile(r"-00001-of-\d{5}$")


def files_at_hand(entries: Sequence[Entry], folders: Iterable[Path]) -> dict[str, File]:
    """The files of catalogue entries that are there, by the name that the catalogue gives them.

    A publisher's own spelling counts (``Qwen2.5-7B-Instruct-Q5_K_M.gguf``). The first folder that has a file wins. A
    file that cannot be read, or is truncated, is not there.
    """
    wanted = {_plain(entry.file(kind)): entry.file(kind) for entry in entries for kind in QUANTISATIONS}
    wanted |= {name: entry.projector_file for entry in entries if entry.projector for name in _projectors(entry)}
    found: dict[str, File] = {}
    for path in _ggufs(entries, folders):
        name = wanted.get(_plain(path.name))
        if name is not None and name not in found:
            try:
                found[name] = File(path, read_model_info(path))
            except (BenchAIError, OSError):
                continue
    return found


def _plain(name: str) -> str:
    """A file name without what publishers spell differently."""
    return re.sub(r"[^a-z0-9]", "", _FIRST_PART.sub("", name.lower().removesuffix(".gguf")))


def _projectors(entry: Entry) -> list[str]:
    return [_plain(entry.projector_file), _plain(f"mmproj-{entry.name}-f16")]


def _ggufs(entries: Sequence[Entry], folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from _in_folder(folder)
    for entry in entries:
        yield from cached_ggufs(entry.repo)


def _in_folder(folder: Path) -> list[Path]:
    try:
        names = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf")
    except OSError:
        return []
    return [path for path in names if not _LATER_PART.search(path.stem) and paths.is_file(path)]
