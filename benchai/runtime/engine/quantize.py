"""Quantise a GGUF with llama.cpp's ``llama-quantize``: which program, what may be asked of it, and one run of it."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchai.config import paths
from benchai.config.models import EngineConfig
from benchai.errors import EngineError, EngineNotFound, UsageError, did_you_mean
from benchai.runtime.background import in_background
from benchai.runtime.engine.discover import LAUNCHER, PROBE_SECONDS, find_engine
from benchai.runtime.engine.launch import PARENT_PID
from benchai.runtime.engine.programs import find_program
from benchai.runtime.placement.estimate import BITS_PER_WEIGHT, MIB
from benchai.runtime.placement.gguf_header import TENSOR_TYPES, read_header
from benchai.runtime.placement.model_info import ModelInfo, read_model_info

PROGRAM = "llama-quantize"
LAST_LINES = 12
# in the list of types, but none
_NO_TYPES = {"COPY"}
# tensors that llama-quantize never quantises again: it takes them for what they are
_WHOLE = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}
_INSTALL = "the archives and packages of llama.cpp hold it: put it beside llama-server, or on PATH"

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What is to be quantised: checked, so that it may begin."""

    program: Path
    source: ModelInfo
    target: Path
    type: str
    force: bool = False
    requantise: bool = False
    imatrix: Path | None = None


def find_quantizer(config: EngineConfig, folder: Path | None = None) -> Path:
    """``llama-quantize`` beside the engine, or on PATH.

    Raises:
        EngineNotFound: it is not there.
    """
    server = None
    with contextlib.suppress(EngineNotFound):
        engine = find_engine(config, folder)
        server = engine.program if engine.kind == "llama-server" else None
    found = find_program(PROGRAM, server)
    if found is None:
        raise EngineNotFound(f"{PROGRAM} is neither beside the engine nor on PATH", hint=_INSTALL)
    return found


def known_types(program: Path) -> tuple[str, ...]:
    """The types that a ``llama-quantize`` lists in its help.

    Raises:
        EngineError: it cannot be run, or lists none.
    """
    try:
        # it exits with 1 behind its help
        done = subprocess.run(
            [program, "--help"], capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{str(program)!r} cannot be run: {error}", hint=_INSTALL) from error
    types = parse_types(done.stdout + done.stderr)
    if not types:
        raise EngineError(f"{str(program)!r} lists no types: is it {PROGRAM}?", hint=_INSTALL)
    return types


def parse_types(text: str) -> tuple[str, ...]:
    """The names in the list of types of a help text: ``15  or  Q4_K_M  :  4.58G, ...``."""
    found = re.findall(r"^\s*\d+\s+or\s+([A-Z]\w*)\s*:", text, re.MULTILINE)
    return tuple(name for name in found if name not in _NO_TYPES)


def plan(
    program: Path,
    source: Path,
    target: Path,
    wanted: str,
    *,
    force: bool = False,
    requantise: bool = False,
    imatrix: Path | None = None,
) -> Job:
    """Check what is asked for before anything is written.

    Args:
        program: The ``llama-quantize`` to use.
        source: A GGUF; of a split one any part.
        target: Where the new file is to lie.
        wanted: Its type, in small letters or large.
        force: Whether a file that is there already may be replaced.
        requantise: Whether tensors that are quantised already may be quantised again.
        imatrix: An importance matrix, which very small types need.

    Raises:
        ModelFileError: the source is missing, no GGUF, or damaged.
        UsageError: the type, the target or a file beside is not as it must be, or the disk has too little room.
        EngineError: the program cannot be run.
    """
    info = read_model_info(source)
    type_ = wanted.upper()
    types = known_types(program)
    if type_ not in types:
        hint = did_you_mean(wanted, types)
        raise UsageError(f"--type {wanted!r}: {PROGRAM} knows no such type", hint=hint)
    if imatrix is not None and not paths.is_file(imatrix):
        raise UsageError(f"--imatrix {str(imatrix)!r} is no file", hint="llama-imatrix makes one")
    _check_target(info, target, force)
    if not requantise and (kind := _quantised(info)):
        hint = "begin with an F16, BF16 or F32 file; --requantize does it all the same, with a greater loss"
        raise UsageError(f"{str(source)!r} is quantised already ({kind})", hint=hint)
    needed, free = output_bytes(info, type_), shutil.disk_usage(target.parent).free
    if free < needed:
        hint = "free some space, or name a place on another disk"
        message = f"{str(target.parent)!r} has {free // MIB} MiB free, about {needed // MIB} MiB are needed"
        raise UsageError(message, hint=hint)
    return Job(program, info, target.absolute(), type_, force, requantise, imatrix)


def _check_target(info: ModelInfo, target: Path, force: bool) -> None:
    if paths.is_dir(target):
        raise UsageError(f"{str(target)!r} is a folder", hint="name the file that is to be written")
    if not paths.is_dir(target.parent):
        raise UsageError(f"the folder {str(target.parent)!r} is not there", hint="make it first")
    if not os.access(target.parent, os.W_OK):
        raise UsageError(f"the folder {str(target.parent)!r} cannot be written", hint="check its permissions")
    if not os.path.lexists(target):
        return
    if paths.is_file(target) and any(target.samefile(part) for part in _files(info)):
        raise UsageError(f"{str(target)!r} is the source itself", hint="name another file")
    if not force:
        raise UsageError(f"{str(target)!r} is there already", hint="name another file, or give --force")


def _files(info: ModelInfo) -> list[Path]:
    """All parts of a model, of which ``info`` names the first."""
    stem = info.path.name.removesuffix(f"-00001-of-{info.parts:05}.gguf")
    if info.parts == 1:
        return [info.path]
    return [info.path.with_name(f"{stem}-{number:05}-of-{info.parts:05}.gguf") for number in range(1, info.parts + 1)]


def _quantised(info: ModelInfo) -> str | None:
    """The type of a tensor that is quantised."""
    kinds = {tensor.type.name for part in _files(info) for tensor in read_header(part).tensors}
    return next(iter(sorted(kinds - _WHOLE)), None)


def output_bytes(info: ModelInfo, type_: str) -> int:
    """About how large a file of a type becomes, rather too small than too large.

    The bits of a weight are measured ones, else those of the tensor type that the mixture is named for.
    """
    sizes = {kind.name: 8 * kind.size / kind.block for kind in TENSOR_TYPES.values()}
    pure = [bits for name, bits in sizes.items() if type_ == name or type_.startswith(f"{name}_")]
    digits = re.search(r"\d+", type_)
    bits = BITS_PER_WEIGHT.get(type_) or max(pure, default=float(digits[0]) if digits else 1.0)
    return int(info.parameters * bits / 8)


async def quantise(job: Job, told: Told = lambda done, total: None) -> ModelInfo:
    """Write the quantised file; the target is there whole, or as it was before.

    Args:
        job: What ``plan`` has checked.
        told: Called with the number of the tensor that is at work, and of all tensors.

    Returns:
        What the new file holds.

    Raises:
        EngineError: the program failed, or the disk is full.
        ModelFileError: what it wrote is no whole GGUF.
    """
    _remove_stale(job.target)
    partial = job.target.with_name(f".{job.target.name}.{os.getpid()}.partial")
    try:
        code, lines = await _run(_command(job, partial), told)
        if code != 0:
            raise _failure(job, code, lines)
        made = await in_background(read_model_info, partial)
        _put(partial, job.target, job.force)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return replace(made, path=job.target)


def _remove_stale(target: Path) -> None:
    """Remove what a killed run has left; another one may be at work on the same target."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        pid = left.name.removesuffix(".partial").rpartition(".")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(OSError):
                left.unlink()


def _command(job: Job, partial: Path) -> list[str]:
    options = [
        *(["--allow-requantize"] if job.requantise else []),
        *(["--imatrix", str(job.imatrix.absolute())] if job.imatrix else []),
    ]
    # absolute paths: it takes a name that begins with a digit for the number of a type
    return [str(job.program), *options, str(job.source.path.absolute()), str(partial), job.type]


async def _run(command: Sequence[str], told: Told) -> tuple[int, list[str]]:
    """Exit code and last lines; on cancellation the program is ended before anything else happens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(LAUNCHER), *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # its words are read: they are not to be translated
        env=os.environ | {PARENT_PID: str(os.getpid()), "LC_ALL": "C"},
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        async for line in _lines(process):
            lines = [*lines, line][-LAST_LINES:]
            if found := re.match(r"\[\s*(\d+)/\s*(\d+)\]", line):
                told(int(found[1]), int(found[2]))
        return await process.wait(), lines
    finally:
        await asyncio.shield(_end(process))


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    assert process.stdout is not None
    rest = b""
    while chunk := await process.stdout.read(65536):
        *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
        for line in whole:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it may write to the disk any more."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _failure(job: Job, code: int, lines: Sequence[str]) -> EngineError:
    text = "\n".join(lines)
    free = shutil.disk_usage(job.target.parent).free
    if free < MIB or "No space left" in text:
        message = f"the disk of {str(job.target.parent)!r} is full; nothing of {job.target.name!r} is kept"
        return EngineError(message, hint=f"about {output_bytes(job.source, job.type) // MIB + 1} MiB are needed")
    if "importance matrix" in text or "imatrix" in text:
        hint = "give one with --imatrix (llama-imatrix makes it), or choose a larger type"
        return EngineError(f"{job.type} needs an importance matrix for this model", hint=hint)
    if code == -signal.SIGKILL:
        return EngineError(f"{PROGRAM} was killed, probably for lack of memory", hint="free memory and try again")
    found = re.search(r"failed to quantize: (.+)", text)
    last = found[1] if found else (lines[-1].strip() if lines else "it said nothing")
    return EngineError(f"{PROGRAM} failed with exit code {code}: {last}", hint=f"the program is {str(job.program)!r}")


def _put(partial: Path, target: Path, force: bool) -> None:
    """Rename, once the bytes are on the disk; a file that came meanwhile is not replaced unasked."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    if force:
        partial.replace(target)
        return
    with contextlib.suppress(OSError):
        # refuses a file that is there; some file systems have no hard links
        os.link(partial, target)
        return
    if os.path.lexists(target):
        raise UsageError(f"{str(target)!r} has come meanwhile", hint="name another file, or give --force")
    partial.rename(target)
