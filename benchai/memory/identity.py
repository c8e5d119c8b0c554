"""What a sentence-transformers model is: a hash of a folder's files, or the revision that was taken from the hub.

Reading the files of a model takes a second and opening it many: what was found is kept, by the files' sizes and dates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from benchai.config import paths
from benchai.errors import EmbedderError

#: A folder or a hub repository without it holds no sentence-transformers model. The library would open it all the
#: same, as a model that was never trained to embed.
MODULES = "modules.json"
_KEPT = 64
_NO_PART = frozenset({".git", ".cache", "onnx", "openvino"})


@dataclass(frozen=True)
class Identity:
    """A model's name, a hash of what it consists of, and its dimension where that is known."""

    name: str
    hash: str
    dimension: int | None = None

    def fingerprint(self, dimension: int) -> str:
        """What the vectors of this model are known by."""
        return f"{self.name}@{self.hash}:{dimension}:unit"


def is_folder(model: str) -> bool:
    """Whether a model is named by its folder; a name with one slash, where no folder is, is one of the hub."""
    folder = paths.expand(model)
    return paths.is_dir(folder) or folder.is_absolute() or model.count("/") != 1 or model.startswith(".")


def of_folder(folder: Path, cache: Path) -> Identity:
    """The identity of the model in a folder, by the content of its files; wherever the folder lies.

    Raises:
        EmbedderError: there is no sentence-transformers model.
    """
    if not (folder / MODULES).is_file():
        raise EmbedderError(
            f"{str(folder)!r} is no sentence-transformers model: it has no {MODULES}",
            hint="name a folder that SentenceTransformer.save wrote, or a model of the hub as OWNER/NAME",
        )
    try:
        files = _files(folder)
        stamp = _stamp(folder, files)
        known = recall(cache, stamp)
        return known or remember(cache, stamp, Identity(folder.resolve().name, _hash(folder, files)))
    except OSError as error:
        raise EmbedderError(f"the model {str(folder)!r} can't be read: {error}") from error


def of_hub(name: str) -> Identity | None:
    """The identity of a model of the hub that was downloaded before, by its revision; None if it was not."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, MODULES)
    except HFValidationError:
        raise EmbedderError(
            f"{name!r} is no model of the hub, and no folder", hint="write OWNER/NAME, or the path of a folder"
        ) from None
    # .../snapshots/REVISION/modules.json
    return Identity(name, Path(found).parent.name) if isinstance(found, str) else None


def remember(cache: Path, stamp: str, identity: Identity) -> Identity:
    """Keep what was found out; returns it."""
    kept = {key: value for key, value in _cached(cache).items() if key != stamp}
    newest = dict([*kept.items(), (stamp, asdict(identity))][-_KEPT:])
    # without it the files are read again next time
    with contextlib.suppress(OSError):
        paths.replace_file(cache, json.dumps(newest))
    return identity


def recall(cache: Path, stamp: str) -> Identity | None:
    """What was found out before."""
    try:
        found = _cached(cache)[stamp]
        dimension = found["dimension"]
        return Identity(str(found["name"]), str(found["hash"]), None if dimension is None else int(dimension))
    except (KeyError, TypeError, ValueError):
        return None


def stamp_of(folder: Path) -> str:
    """What changes when a file of the model changes: names, sizes, dates."""
    return _stamp(folder, _files(folder))


def _cached(cache: Path) -> dict[str, dict[str, str | int | None]]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NO_PART]
        found += [Path(at, name) for name in names if not name.startswith((".", "README"))]
    return sorted(found)


def _stamp(folder: Path, files: list[Path]) -> str:
    looks = [(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns)
             for path in files for status in (path.stat(),)]  # fmt: skip
    return hashlib.sha256(json.dumps([str(folder.resolve()), looks]).encode()).hexdigest()[:32]


def _hash(folder: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return total.hexdigest()[:16]
