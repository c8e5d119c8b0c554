"""Which tensors of a model stay in RAM while the rest is on a GPU: experts first, and what a user names.

Of a mixture of experts each token uses a few, so that the CPU reads little of what it holds; attention, shared weights
and the KV cache, which every token uses, stay on the GPU. That is no hybrid of layers (seed: "Hybrid CPU/GPU Mode is a
Trap"), and the seed's row for mixtures of experts. The engine's part is ``--n-cpu-moe`` (llama.cpp common/arg.cpp).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from benchai.config.tensors import in_ram
from benchai.runtime.placement.decide import Claim
from benchai.runtime.placement.model_info import EXPERTS, ModelInfo

MIB = 1024 * 1024
#: So many splits are offered at most: between them the next larger part goes to RAM.
STEPS = 8
#: Flags by which the user splits the model; the planner then leaves it alone.
_OWN = {"-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe", "-ot", "--override-tensor", "-ncffn", "--n-cpu-ffn"}


class ExpertsInRam(dict[str, int]):
    """A claim, in MiB by device, with the experts of the first ``layers`` layers in RAM."""

    def __init__(self, claim: Mapping[str, int], layers: int) -> None:
        super().__init__(claim)
        self.layers = layers


def layers_in_ram(claim: Claim | None) -> int:
    """The layers whose experts a claim puts into RAM; 0 for any other claim."""
    return claim.layers if isinstance(claim, ExpertsInRam) else 0


def expert_layers(info: ModelInfo) -> int:
    """The N of ``--n-cpu-moe`` that moves all experts; 0 for a dense model."""
    return max((layer + 1 for layer, size in enumerate(info.expert_bytes) if size), default=0)


def user_splits(extra_args: Sequence[str]) -> bool:
    """Whether further flags of a model say where its tensors go."""
    return any(word.replace("_", "-") in _OWN for word in extra_args)


def kept_bytes(info: ModelInfo, layers: int, overrides: Sequence[str] = ()) -> int:
    """Bytes of the weights that stay in RAM although the model is on a GPU.

    Args:
        info: The model's file.
        layers: The experts of so many first layers.
        overrides: Entries ``pattern=buffer``; the first that matches a tensor counts, before the experts.
    """
    if not overrides:
        return sum(info.expert_bytes[:layers])
    rules = [(re.compile(entry.rpartition("=")[0]), in_ram(entry) is not None) for entry in overrides]
    return sum(size for name, size in info.tensors if _stays(name, layers, rules))


def _stays(name: str, layers: int, rules: Sequence[tuple[re.Pattern[str], bool]]) -> bool:
    for pattern, ram in rules:
        if pattern.search(name):
            return ram
    found = EXPERTS.match(name)
    return found is not None and int(found[1]) < layers


def staging_bytes(info: ModelInfo, layers: int) -> int:
    """Bytes on the GPU into which a large batch copies experts from RAM: one tensor at a time (ggml-backend.cpp)."""
    moved = (size for name, size in info.tensors if (found := EXPERTS.match(name)) and int(found[1]) < layers)
    return max(moved, default=0)


def parts_mib(info: ModelInfo, whole_mib: int, layers: int, overrides: Sequence[str] = ()) -> tuple[int, int]:
    """MiB on the GPU and of weights in RAM, of a model that takes ``whole_mib`` with all its layers on the GPU."""
    kept = kept_bytes(info, layers, overrides)
    staging = staging_bytes(info, layers)
    return whole_mib - kept // MIB + -(-staging // MIB), -(-kept // MIB)


def split_layers(info: ModelInfo, whole_mib: int, room_mib: int, overrides: Sequence[str] = ()) -> list[int]:
    """Which N of ``--n-cpu-moe`` to offer for a GPU with so much room, the smallest that fits first.

    Empty where the model has no experts, or does not fit with all of them in RAM.
    """
    most = expert_layers(info)
    # each further layer frees at least what its largest tensor may add to the copy on the GPU
    fits = bisect_left(range(1, most + 1), True, key=lambda n: parts_mib(info, whole_mib, n, overrides)[0] <= room_mib)
    first = fits + 1
    if first > most:
        return []
    step = max(1, -(-(most - first) // (STEPS - 1)))
    return [*range(first, most, step), most]


def split_table(info: ModelInfo, whole_mib: int) -> list[dict[str, int]]:
    """What goes where, in MiB, by the layers whose experts are in RAM: none, three steps, all; empty if dense."""
    most = expert_layers(info)
    counts = sorted({most * step // 4 for step in range(5)}) if most else []
    rows = [(count, *parts_mib(info, whole_mib, count)) for count in counts]
    return [{"layers": count, "gpu_mib": gpu, "ram_mib": ram} for count, gpu, ram in rows]


def split_claims(
    gpu_mib: int, ram_mib: int, layers: int, gpus: Sequence[str], totals: Mapping[str, int]
) -> Iterator[ExpertsInRam]:
    """The claims of one split: one GPU each, then all of them together by their size."""
    for gpu in gpus:
        yield ExpertsInRam({gpu: gpu_mib, "cpu": ram_mib}, layers)
    room = sum(totals.get(gpu, 0) for gpu in gpus)
    if len(gpus) > 1 and room:
        shares = {gpu: -(-gpu_mib * totals.get(gpu, 0) // room) for gpu in gpus}
        yield ExpertsInRam(shares | {"cpu": ram_mib}, layers)
