"""Memory as it is measured: through the real NVML bindings, on a library in the place of the driver's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from benchai.errors import MemoryNotReleased
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.gpu import list_gpus
from tests.integration.helpers import LIMIT, benchai_afresh, until
from tests.integration.nvml import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    NvmlStub,
    StubGpu,
    StubProcess,
)

PROBE = """
import asyncio, dataclasses, json, sys
from benchai.errors import MemoryNotReleased
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.gpu import list_gpus

async def released(gauge, needed, deadline):
    try:
        await gauge.wait_released(needed, deadline)
    except MemoryNotReleased as error:
        return {"message": error.message, "needed": error.needed, "free": error.free}

gauge = Gauge()
for line in sys.stdin:
    what, *args = json.loads(line)
    if what == "gpus":
        answer = [dataclasses.asdict(one) for one in list_gpus()]
    elif what == "released":
        answer = asyncio.run(released(gauge, *args))
    elif what == "devices":
        answer = {one.device: [one.total_mib, one.free_mib] for one in gauge.devices()}
    else:
        answer = getattr(gauge, what)(*args)
    print(json.dumps(answer), flush=True)
"""
MEMORY = "nvmlDeviceGetMemoryInfo"
COMPUTE = "nvmlDeviceGetComputeRunningProcesses_v3"
GRAPHICS = "nvmlDeviceGetGraphicsRunningProcesses_v3"


class Probe:
    """A process that measures when asked; the library's path is read when it starts."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self.pid = process.pid
        self._to: IO[str] = process.stdin
        self._from: IO[str] = process.stdout

    def ask(self, what: str, *args: object) -> None:
        self._to.write(json.dumps([what, *args]) + "\n")
        self._to.flush()

    def answer(self) -> Any:
        return json.loads(self._from.readline())

    def __call__(self, what: str, *args: object) -> Any:
        self.ask(what, *args)
        return self.answer()


@contextlib.contextmanager
def probing(env: Mapping[str, str]) -> Iterator[Probe]:
    command = [sys.executable, "-c", PROBE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
    ) as process:
        try:
            yield Probe(process)
            assert process.stdin
            process.stdin.close()
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NvmlStub, dict[str, str], Probe]]:
    stub = NvmlStub()
    env = stub.build(tmp_path_factory.mktemp("stub"))
    with probing(env) as probe:
        yield stub, env, probe


@pytest.fixture
def stub(shared: tuple[NvmlStub, dict[str, str], Probe]) -> NvmlStub:
    stub = shared[0]
    stub.set(StubGpu())
    stub.forget_calls()
    return stub


@pytest.fixture
def probe(shared: tuple[NvmlStub, dict[str, str], Probe], stub: NvmlStub) -> Iterator[Probe]:
    probe = shared[2]
    yield probe
    stub.set(StubGpu())
    assert probe("close") is None
    assert stub.calls("nvmlInitWithFlags", 0) == stub.calls("nvmlShutdown", 0), "NVML was left open"


def gpus_of(devices: dict[str, Any]) -> dict[str, Any]:
    return {device: figures for device, figures in devices.items() if device != "cpu"}


def test_devices_are_measured_anew_each_time(stub: NvmlStub, probe: Probe) -> None:
    assert stub.calls("nvmlInitWithFlags") == 0
    assert gpus_of(probe("devices")) == {"gpu0": [12288, 11900]}
    stub.set(StubGpu(free_mib=700), StubGpu(total_mib=24576, free_mib=24000, name="NVIDIA GeForce RTX 3090"))
    devices = probe("devices")
    assert gpus_of(devices) == {"gpu0": [12288, 700], "gpu1": [24576, 24000]}
    assert devices["cpu"][0] == psutil.virtual_memory().total // 2**20
    assert 0 < devices["cpu"][1] <= devices["cpu"][0]
    assert stub.calls("nvmlInitWithFlags") == 1


def test_list_gpus_beside_an_open_gauge(stub: NvmlStub, probe: Probe) -> None:
    probe("devices")
    assert probe("gpus") == [
        {
            "index": 0,
            "name": "NVIDIA GeForce RTX 3060",
            "total_mib": 12288,
            "free_mib": 11900,
            "driver": "580.95.05",
        }
    ]
    # the gauge's NVML is still open
    assert gpus_of(probe("devices")) == {"gpu0": [12288, 11900]}
    assert stub.calls("nvmlInitWithFlags") == 2


@pytest.mark.parametrize("code", [GPU_IS_LOST, NOT_SUPPORTED])
def test_a_lost_gpu_is_left_out_and_comes_back(stub: NvmlStub, probe: Probe, code: int) -> None:
    stub.set(StubGpu(errors={MEMORY: code}), StubGpu(free_mib=5))
    assert gpus_of(probe("devices")) == {"gpu1": [12288, 5]}
    assert list(probe("held_by", [probe.pid])) == ["gpu1", "cpu"]
    stub.set(StubGpu(free_mib=4), StubGpu(free_mib=5))
    assert gpus_of(probe("devices")) == {"gpu0": [12288, 4], "gpu1": [12288, 5]}


def test_a_gpu_without_permission_keeps_the_others_their_index(stub: NvmlStub, probe: Probe) -> None:
    stub.set(StubGpu(errors={"nvmlDeviceGetHandleByIndex_v2": NO_PERMISSION}), StubGpu(free_mib=5))
    assert gpus_of(probe("devices")) == {"gpu1": [12288, 5]}


def test_a_driver_that_goes_and_comes_back(stub: NvmlStub, probe: Probe) -> None:
    stub.set(errors={"nvmlInitWithFlags": DRIVER_NOT_LOADED})
    assert gpus_of(probe("devices")) == {}
    assert probe("gpus") == []
    stub.set(StubGpu())
    assert gpus_of(probe("devices")) == {"gpu0": [12288, 11900]}
    stub.set(errors={"nvmlDeviceGetCount_v2": DRIVER_NOT_LOADED})
    assert gpus_of(probe("devices")) == {}
    assert list(probe("held_by", [probe.pid])) == ["cpu"]
    stub.set(StubGpu(free_mib=9))
    assert gpus_of(probe("devices")) == {"gpu0": [12288, 9]}
    # a failed opening is not closed, a lost one is given back
    assert stub.calls("nvmlInitWithFlags", DRIVER_NOT_LOADED) == 2
    assert stub.calls("nvmlInitWithFlags", 0) == 3


def test_what_processes_hold(stub: NvmlStub, probe: Probe) -> None:
    foreign = StubProcess(2**22 + 1, 900)
    ours = StubProcess(probe.pid, 3000)
    stub.set(
        StubGpu(processes=[foreign, ours, StubProcess(probe.pid, 3100, "graphics")]),
        StubGpu(processes=[foreign]),
    )
    held = probe("held_by", [probe.pid])
    assert held.pop("cpu") > 1
    assert held == {"gpu0": 3100, "gpu1": 0}
    assert probe("held_by", []) == {"gpu0": 0, "gpu1": 0, "cpu": 0}


def test_children_count_with_their_parents(stub: NvmlStub, probe: Probe) -> None:
    stub.set(StubGpu(processes=[StubProcess(probe.pid, 2000)]))
    held = probe("held_by", [os.getpid()])
    assert held["gpu0"] == 2000
    assert held["cpu"] >= psutil.Process().memory_info().rss // 2**20


def test_more_processes_than_the_bindings_first_make_room_for(stub: NvmlStub, probe: Probe) -> None:
    crowd = [StubProcess(2**22 + number, 1) for number in range(40)]
    stub.set(StubGpu(processes=[*crowd, StubProcess(probe.pid, 10)]))
    assert probe("held_by", [probe.pid])["gpu0"] == 10


def test_instances_of_one_gpu_add_up(stub: NvmlStub, probe: Probe) -> None:
    parts = [StubProcess(probe.pid, 100, instance=(1, 0)), StubProcess(probe.pid, 20, instance=(2, 0))]
    stub.set(StubGpu(processes=parts))
    assert probe("held_by", [probe.pid])["gpu0"] == 120


@pytest.mark.parametrize("function", [COMPUTE, GRAPHICS])
@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, GPU_IS_LOST])
def test_unknown_is_not_nothing(stub: NvmlStub, probe: Probe, function: str, code: int) -> None:
    stub.set(StubGpu(errors={function: code}), StubGpu())
    assert list(probe("held_by", [probe.pid])) == ["gpu1", "cpu"]


def test_a_driver_that_does_not_tell_figures(stub: NvmlStub, probe: Probe) -> None:
    stub.set(StubGpu(processes=[StubProcess(probe.pid, None)]))
    assert list(probe("held_by", [probe.pid])) == ["cpu"]
    stub.set(StubGpu(processes=[StubProcess(2**22 + 1, None)]))
    assert list(probe("held_by", [probe.pid])) == ["gpu0", "cpu"]


def test_waiting_ends_when_the_memory_is_back(stub: NvmlStub, probe: Probe) -> None:
    stub.set(StubGpu(free_mib=100), StubGpu(free_mib=100))
    probe.ask("released", {"gpu0": 5000, "gpu1": 5000, "cpu": 1}, LIMIT)
    until(lambda: stub.calls(MEMORY) >= 4)
    stub.set(StubGpu(free_mib=5000), StubGpu(free_mib=4999))
    looked = stub.calls(MEMORY)
    until(lambda: stub.calls(MEMORY) >= looked + 4)
    stub.set(StubGpu(free_mib=5000), StubGpu(free_mib=5000))
    assert probe.answer() is None


def test_waiting_for_a_gpu_that_is_lost_meanwhile(stub: NvmlStub, probe: Probe) -> None:
    stub.set(StubGpu(errors={MEMORY: GPU_IS_LOST}), StubGpu(free_mib=5000))
    answer = probe("released", {"gpu0": 1, "gpu1": 6000, "cpu": 1}, 0.2)
    assert answer["message"] == (
        "memory did not come back within 0.2 s: gpu0 tells no figures (1 MiB needed), gpu1 has 5000 of 6000 MiB free"
    )
    assert answer["needed"] == {"gpu0": 1, "gpu1": 6000, "cpu": 1}
    assert answer["free"]["gpu1"] == 5000
    assert "gpu0" not in answer["free"]


def test_a_driver_that_hangs_is_not_waited_for(stub: NvmlStub, probe: Probe) -> None:
    probe("devices")
    with stub.hanging():
        answer = probe("released", {"gpu0": 1}, 0.2)
    assert answer["message"] == "memory did not come back within 0.2 s: gpu0 tells no figures (1 MiB needed)"
    stub.set(StubGpu())
    assert probe("released", {"gpu0": 1}, LIMIT) is None


def test_memory_that_is_there_is_not_waited_for(stub: NvmlStub, probe: Probe) -> None:
    assert probe("released", {"gpu0": 11900}, LIMIT) is None
    assert stub.calls(MEMORY) == 1


def test_the_command_line_under_the_stub(
    shared: tuple[NvmlStub, dict[str, str], Probe], stub: NvmlStub, tmp_path: Path
) -> None:
    env = shared[1]
    stub.set(StubGpu(free_mib=321), driver="555.1")
    done = benchai_afresh("doctor", cwd=tmp_path, env=env)
    done.clean()
    assert "321 of 12288 MiB free, driver 555.1" in " ".join((done.out + done.err).split())


# -- without the stub


def test_resident_memory_of_a_process_and_its_children() -> None:
    code = "import subprocess, sys; b = bytearray(50 << 20); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    inner = "b = bytearray(30 << 20); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdin
        try:
            assert process.stdout.readline() == "up\n"
            with Gauge() as gauge:
                held = gauge.held_by([process.pid])["cpu"]
                assert 80 <= held <= 200
                assert gauge.held_by([process.pid, process.pid, *psutil_children(process.pid)])["cpu"] == held
        finally:
            process.stdin.close()
            process.wait(LIMIT)
    with Gauge() as gauge:
        assert gauge.held_by([process.pid])["cpu"] == 0


def psutil_children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


@pytest.mark.anyio
async def test_a_cancelled_wait_ends_at_once() -> None:
    with Gauge() as gauge:
        waiting = asyncio.create_task(gauge.wait_released({"cpu": 2**40}, LIMIT))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


# -- on a GPU

# takes memory as an engine does, by the driver alone, and holds it until its input ends
HOLDER = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_ulonglong()
for code in (
    cuda.cuInit(0),
    cuda.cuDeviceGet(ctypes.byref(device), 0),
    cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
    cuda.cuCtxSetCurrent(context),
    cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(512 << 20)),
):
    assert code == 0, code
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holding() -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        yield holder


@pytest.mark.gpu
def test_figures_of_a_real_gpu() -> None:
    with Gauge() as gauge:
        devices = gauge.devices()
        assert [one.device for one in devices] == [*(f"gpu{gpu.index}" for gpu in list_gpus()), "cpu"]
        assert all(0 <= one.free_mib <= one.total_mib for one in devices)
        assert set(gauge.held_by([os.getpid()])) <= {one.device for one in devices}


@pytest.mark.gpu
@pytest.mark.anyio
async def test_memory_of_a_real_gpu_comes_back() -> None:
    with Gauge() as gauge:
        before = gauge.devices()[0]
        with holding() as holder:
            assert gauge.devices()[0].free_mib <= before.free_mib - 512
            # 0 where the driver tells the pids of another namespace, nothing where it tells no figures
            assert gauge.held_by([holder.pid]).get(before.device, 0) in range(before.total_mib)
            with pytest.raises(MemoryNotReleased):
                await gauge.wait_released({before.device: before.free_mib - 256}, 0.2)
        await gauge.wait_released({before.device: before.free_mib - 256}, LIMIT)
