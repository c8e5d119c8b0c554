"""GPUs for machines without one: a small library in the place of the driver's, below the real bindings."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MIB = 1024 * 1024
SOURCE = Path(__file__).with_name("nvml_stub.c")
LIBRARY = "libnvidia-ml.so.1"
# as the bindings number them
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15


@dataclass(frozen=True)
class StubProcess:
    """A process on a GPU; None: the driver does not tell how much it holds."""

    pid: int
    mib: int | None
    kind: str = "compute"
    instance: tuple[int, int] | None = None


@dataclass(frozen=True)
class StubGpu:
    """A GPU as NVML shall tell it; ``errors``: function of NVML -> code with which it fails for this GPU."""

    total_mib: int = 12288
    free_mib: int = 11900
    name: str = "NVIDIA GeForce RTX 3060"
    processes: Sequence[StubProcess] = ()
    errors: Mapping[str, int] = field(default_factory=dict)


class NvmlStub:
    """The library, and the file that it reads anew at every call.

    ``env = stub.build(tmp_path)``, then start a process of its own with ``os.environ | env``: the search
    path of libraries is read once, when a program starts, so a fork of a running one does not see it.
    ``set`` changes what all of those processes measure from now on.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None

    def build(self, folder: Path) -> dict[str, str]:
        """Compile it below ``folder``; one RTX 3060 until ``set``. Returns the environment that makes it load."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler to build the stand-in for NVML")
        self._folder = folder / "nvml"
        self._folder.mkdir()
        options = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}"]
        subprocess.run([compiler, *options, "-o", str(self._folder / LIBRARY), str(SOURCE)], check=True)
        self.set(StubGpu())
        path = [str(self._folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {
            "LD_LIBRARY_PATH": os.pathsep.join(path),
            "NVML_STUB_STATE": str(self._file("state")),
            "NVML_STUB_CALLS": str(self._file("calls")),
        }

    def set(self, *gpus: StubGpu, driver: str = "580.95.05", errors: Mapping[str, int] | None = None) -> None:
        """What is measured from now on; ``errors``: function of NVML -> code with which it fails always."""
        lines = [f"driver {driver}", *(f"error {function} * {code}" for function, code in (errors or {}).items())]
        for index, gpu in enumerate(gpus):
            lines.append(f"gpu {gpu.total_mib * MIB} {gpu.free_mib * MIB} {gpu.name}")
            lines += [f"error {function} {index} {code}" for function, code in gpu.errors.items()]
            lines += [_process(index, process) for process in gpu.processes]
        partial = self._file("partial")
        partial.write_text("\n".join([*lines, ""]), encoding="utf-8")
        # no reader sees half of it
        partial.replace(self._file("state"))

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Let every call hang, as a driver does whose GPU is dying; at the end they return, without GPUs."""
        pipe = self._file("pipe")
        os.mkfifo(pipe)
        pipe.replace(self._file("state"))
        try:
            yield
        finally:
            # whoever hangs at opening it goes on, and reads nothing
            writer = os.open(self._file("state"), os.O_RDWR)
            self.set()
            os.close(writer)

    def calls(self, function: str, code: int | None = None) -> int:
        """How often a function of NVML was called so far; ``code`` 0 counts those that succeeded."""
        file = self._file("calls")
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return sum(line == f"{function} {code}" if code is not None else line.split()[0] == function for line in lines)

    def forget_calls(self) -> None:
        """Count from 0 again."""
        self._file("calls").unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        assert self._folder is not None, "build() first"
        return self._folder / name


def _process(gpu: int, process: StubProcess) -> str:
    used = "na" if process.mib is None else str(process.mib * MIB)
    words = ["process", gpu, process.kind, process.pid, used, *(process.instance or ())]
    return " ".join(map(str, words))
