"""A look at a GGUF's first bytes, before an engine is started on it."""

from __future__ import annotations

import struct
from pathlib import Path

from benchai.config import paths
from benchai.errors import ModelFileError

MAGIC = b"GGUF"
HEADER = struct.Struct("<4sIQQ")  # magic, version, tensors, metadata pairs


def check_gguf(path: Path, key: str) -> None:
    """Check that a file begins as a GGUF does; the engine itself finds later damage.

    Raises:
        ModelFileError: the file is missing, cannot be read, is no GGUF, or ends within the header.
    """
    if paths.is_dir(path):
        raise ModelFileError(f"{key}: {str(path)!r} is a folder", hint="name the .gguf file in it")
    try:
        with path.open("rb") as file:
            head = file.read(HEADER.size)
    except FileNotFoundError as error:
        hint = "check the path, or models_dir: in benchai.yaml"
        raise ModelFileError(f"{key}: the model file {str(path)!r} is missing", hint=hint) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"{key}: {str(path)!r} cannot be read: {reason}", hint="check its permissions") from error
    if head[:4] != MAGIC:
        found = f"it begins with {head[:4]!r}, not {MAGIC!r}" if head else "it is empty"
        raise ModelFileError(
            f"{key}: {str(path)!r} is no GGUF: {found}", hint="download the file again, or name a .gguf file"
        )
    if len(head) < HEADER.size:
        raise ModelFileError(
            f"{key}: {str(path)!r} is truncated: {len(head)} bytes in all", hint="download the file again"
        )
