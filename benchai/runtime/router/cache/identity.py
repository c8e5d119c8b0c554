"""What must be the same for a model to give the same reply: its files, its engine and its settings."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from benchai.config.models import ModelConfig
from benchai.runtime.fleet.slots import fingerprint

#: Settings of a model that its replies do not depend on.
_INDIFFERENT = {"host", "port", "keep", "ttl", "metrics", "slot_save_path", "cache_ram", "api_key_env"}
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
# what a chat template calls to write the date into the prompt
_CLOCK = "strftime_now"


class FileMark(NamedTuple):
    """A file as it was: ``changed`` is its time stamp in ns, ``content`` a checksum of samples of it."""

    path: str
    size: int
    changed: int
    content: str

    @property
    def current(self) -> bool:
        """Whether the file is still this one."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - on the path of every request
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.changed)


def mark(path: Path) -> FileMark:
    """The mark of a file; milliseconds, it reads 1 MiB of it.

    Raises:
        OSError: it can't be read.
    """
    found = path.stat()
    return FileMark(str(path), found.st_size, found.st_mtime_ns, fingerprint(path))


@dataclass(frozen=True)
class Identity:
    """A model as it answers now. Taken *before* its engine reads the files, and kept for as long as that runs.

    Attributes:
        source: Path of the model's file, or URL and name of a remote one.
        files: Marks of all files that the engine reads, the model's first; none for a remote model.
        engine: The engine and its version; "" for a remote model.
        settings: Launch settings, sampling defaults, and whatever else replies depend on.
        template: Text of the chat template, where it is known; one that writes the date makes replies last a day.
    """

    source: str
    files: tuple[FileMark, ...] = ()
    engine: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""

    @property
    def current(self) -> bool:
        """Whether all files are still those that were marked; else replies may come from either."""
        return all(file.current for file in self.files)

    @cached_property
    def version(self) -> bytes:
        """A checksum of the model's files: rows of the same source with another one are out of date."""
        return _checksum(self.files)

    @cached_property
    def _digest(self) -> bytes:
        return _checksum([self.source, self.files, self.engine, self.settings, self.template])

    def digest(self) -> bytes:
        """What goes into the keys of replies, 32 bytes, with the date where the template writes it."""
        if _CLOCK not in self.template:
            return self._digest
        return hashlib.sha256(self._digest + time.strftime("%Y-%m-%d").encode()).digest()


def _checksum(data: Any) -> bytes:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).digest()


def identify(model: ModelConfig, files: Sequence[Path] = (), *, engine: str = "", template: str = "") -> Identity:
    """The identity of a configured model.

    Args:
        model: Its settings.
        files: Every file that its engine reads (model, projector, draft, adapters, template), the model's first.
        engine: The engine and its version.
        template: Text of its chat template, where it is known.

    Raises:
        OSError: a file can't be read.
    """
    settings = model.model_dump(mode="json", exclude=_INDIFFERENT)
    if model.remote:
        return Identity(f"{model.endpoint} {model.model}", settings=settings)
    marks = tuple(mark(part) for file in files for part in _parts(file))
    source = str(files[0]) if files else str(model.file or model.hf)
    return Identity(source, marks, engine, settings, template)


def _parts(file: Path) -> list[Path]:
    """All parts of a model that is split into several files, or the one file."""
    found = _PART.search(file.name)
    if not found:
        return [file]
    return sorted(file.parent.glob(f"{_escaped(file.name[: found.start()])}-?????-of-{found[1]}.gguf"))


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
