"""A stand-in for llama-quantize, which not every machine has: it really quantises, to the types that ``gguf`` writes.

``STAND_IN`` in the environment makes it fail: ``half`` writes half a file and goes on for ever, ``full`` says that the
disk is full, ``matrix`` asks for an importance matrix, ``garbage`` writes no GGUF and calls it a success.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

TYPES = {"Q4_0": 2, "Q8_0": 7, "F16": 1}
HELP = "usage: llama-quantize ...\n" + "".join(
    f"  {number:2}  or  {name:<7} : a type\n" for name, number in TYPES.items()
)


def install(folder: Path) -> Path:
    """The stand-in as a program of that name in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "llama-quantize"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {__file__} "$@"\n')
    program.chmod(0o755)
    return program


def fail(how: str, target: Path) -> None:
    if how == "garbage":
        target.write_bytes(b"no model")
        sys.exit(0)
    target.write_bytes(b"GGUF" + bytes(1000))
    sys.stderr.write("[   1/   2] a.weight - [ 1 ], type = f16, converting to q8_0 .. ")
    if how == "half":
        sys.stderr.flush()
        threading.Event().wait()
    words = {
        "full": "llama_model_quantize: failed to quantize: No space left on device",
        "matrix": "llama_model_quantize: failed to quantize: Missing importance matrix for tensor a.weight",
        "other": "llama_model_quantize: failed to quantize: something else\nllama_quantize: failed to quantize model",
    }
    sys.stderr.write(words[how] + "\n")
    sys.exit(1)


def quantise(source: str, target: str, name: str) -> None:
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub)
    writer.add_file_type(TYPES[name])
    kind = gguf.GGMLQuantizationType[name]
    for number, tensor in enumerate(reader.tensors, 1):
        sys.stderr.write(f"[{number:4}/{len(reader.tensors):4}] {tensor.name}\n")
        if tensor.data.ndim == 2 and name != "F16":
            data = gguf.quants.quantize(np.asarray(tensor.data, dtype=np.float32), kind)
            writer.add_tensor(tensor.name, data, raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, np.asarray(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(args: list[str]) -> None:
    if args == ["--help"]:
        sys.stdout.write(HELP)
        sys.exit(1)
    source, target, name = [one for one in args if not one.startswith("--")]
    if how := os.environ.get("STAND_IN"):
        fail(how, Path(target))
    quantise(source, target, name)


if __name__ == "__main__":
    main(sys.argv[1:])
