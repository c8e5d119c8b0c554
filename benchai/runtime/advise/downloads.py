"""Which files of the hub an advice needs, and where they go."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchai.config import paths
from benchai.config.hub import chosen_files
from benchai.config.hub_fetch import HubFile, missing_bytes
from benchai.errors import ModelFileError
from benchai.runtime.advise.advise import Advice
from benchai.runtime.advise.fit import Choice, File

_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)", re.IGNORECASE)
#: Tells the files of a repository.
Listing = Callable[[str], list[HubFile]]


@dataclass(frozen=True)
class Download:
    """One file to fetch."""

    file: HubFile
    target: Path

    @property
    def missing(self) -> int:
        """Bytes that are not there yet."""
        return missing_bytes(self.file, self.target)


def downloads(advice: Advice, folder: Path, there: Mapping[str, File], listing: Listing) -> list[Download]:
    """What has to be fetched for an advice.

    Args:
        advice: What is to be served.
        folder: Where the files go, under the names that benchai.yaml has.
        there: The files that need not be fetched.
        listing: Asks the hub.

    Raises:
        ModelFileError: a repository lacks a file, the hub cannot be reached, or a file of that name is there already
            and cannot be read.
    """
    found = []
    for choice in advice.choices:
        needed = _of(choice, there)
        files = {file.name: file for file in listing(choice.entry.repo)} if needed else {}
        for what, name in needed:
            chosen = _projector(files) if what is None else chosen_files(choice.entry.repo, list(files), what)
            found += [Download(files[one], _free(folder / _named(name, one))) for one in chosen]
    return found


def _of(choice: Choice, there: Mapping[str, File]) -> list[tuple[str | None, str]]:
    """Quantisation (None: the projector) and our name of each file that is missing."""
    wanted: list[tuple[str | None, str]] = [(choice.quantisation, choice.file)]
    if choice.entry.projector is not None:
        wanted.append((None, choice.entry.projector_file))
    return [(what, name) for what, name in wanted if name not in there]


def _projector(files: Mapping[str, HubFile]) -> list[str]:
    """The projector of a repository, in 16 bits where it has that."""
    named = sorted(name for name in files if "mmproj" in name.lower() and name.lower().endswith(".gguf"))
    halves = [name for name in named if re.search(r"(?<!b)f16", name.lower())]
    if not named:
        repo = next(iter(files.values())).repo if files else "the repository"
        raise ModelFileError(f"hf: {repo} has no projector (mmproj)", hint="leave vision out: name the other --role")
    return (halves or named)[:1]


def _named(name: str, of_hub: str) -> str:
    """Our name for a file; the parts of a split one keep their numbers."""
    part = _PART.search(of_hub)
    return f"{name.removesuffix('.gguf')}{part[0]}.gguf" if part else name


def _free(target: Path) -> Path:
    if paths.is_file(target):
        hint = "move it away, then call again: it is fetched anew"
        raise ModelFileError(f"{str(target)!r} is there, but is damaged or not whole", hint=hint)
    return target
