"""Draft models for the bundled model: the bundled one, with other facts in its header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter

from tests.conftest import REPO

DRAFT = REPO / "benchai" / "models" / "tiny-draft.gguf"
TOKENIZER = "tokenizer.ggml."
OMITTED = ("GGUF.", "general.architecture")


def altered_draft(path: Path, **changes: Any) -> Path:
    """Write the bundled draft with other values for some keys below ``tokenizer.ggml.``; None leaves one out.

    A function as a value makes it from the one that is there.
    """
    reader = GGUFReader(DRAFT)
    writer = GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith(OMITTED):
            continue
        kind, inner = field.types[0], field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        value = _changed(field.contents(), changes.pop(name.removeprefix(TOKENIZER), ...))
        if value is not None:
            writer.add_key_value(name, value, kind, sub_type=inner)
    for name, value in changes.items():
        kind = GGUFValueType.BOOL if isinstance(value, bool) else GGUFValueType.UINT32
        writer.add_key_value(f"{TOKENIZER}{name}", value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _changed(value: Any, change: Any) -> Any:
    if change is ...:
        return value
    return change(value) if callable(change) else change
