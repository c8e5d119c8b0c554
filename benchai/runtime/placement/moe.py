"""Which tensors of a model stay in RAM while the rest is on a GPU: experts first, and what a user names.

Of a mixture of experts each token uses a few, so that the CPU reads little of what it holds; attention, shared weights
and the KV cache, which every token uses, stay on the GPU. That is no hybrid of layers (seed: "Hybrid CPU/GPU Mode is a
Trap"), and the seed's row for mixtures of experts. The engine's part is ``--n-cpu-moe`` (llama.cpp common/arg.cpp).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence

from benchai.config.tensors import in_ram
from benchai.runtime.placement.decide import Claim
from benchai.runtime.placement.model_info import EXPERTS, ModelInfo

MIB = 1024 * 1024
#: So many splits are offered at most: between them the next larger part goes to RAM.
STEPS = 8
_BLOCK = re.compile(r"blk\.(\d+)\.")
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
    return sum(size for _, size in _kept(info, layers, overrides))


def _kept(info: ModelInfo, layers: int, overrides: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The tensors that stay in RAM, and their bytes."""
    rules = [(re.compile(entry.rpartition("=")[0]), in_ram(entry) is not None) for entry in overrides]
    return ((name, size) for name, size in info.tensors if _stays(name, layers, rules))


def _stays(name: str, layers: int, rules: Sequence[tuple[re.Pattern[str], bool]]) -> bool:
    for pattern, ram in rules:
        if pattern.search(name):
            return ram
    found = EXPERTS.match(name)
    return found is not None and int(found[1]) < layers


def staging_bytes(info: ModelInfo, layers: int, overrides: Sequence[str] = ()) -> int:
    """Bytes on the GPU into which a large batch copies weights from RAM: one tensor at a time (ggml-backend.cpp)."""
    return max((size for _, size in _kept(info, layers, overrides)), default=0)


def parts_mib(info: ModelInfo, whole_mib: int, layers: int, overrides: Sequence[str] = ()) -> tuple[int, int]:
    """MiB on the GPU and of weights in RAM, of a model that takes ``whole_mib`` with all its layers on the GPU."""
    kept = kept_bytes(info, layers, overrides)
    # rounded together: of more layers in RAM the GPU never holds more
    freed = kept - staging_bytes(info, layers, overrides)
    return whole_mib - freed // MIB, -(-kept // MIB)


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
    gpu_mib: int,
    ram_mib: int,
    layers: int,
    gpus: Sequence[str],
    totals: Mapping[str, int],
    left: Sequence[int],
) -> Iterator[ExpertsInRam]:
    """The claims of one split: one GPU each, then all of them together; ``left`` is what ``left_bytes`` tells."""
    for gpu in gpus:
        yield ExpertsInRam({gpu: gpu_mib, "cpu": ram_mib}, layers)
    sizes = [totals.get(gpu, 0) for gpu in gpus]
    room = sum(sizes)
    if len(gpus) > 1 and room:
        shares = dict(zip(gpus, _shares(gpu_mib, sizes, left), strict=True))
        yield ExpertsInRam(shares | {"cpu": ram_mib}, layers)


def left_bytes(info: ModelInfo, layers: int, overrides: Sequence[str] = ()) -> list[int]:
    """Bytes of each layer's weights that go to a GPU; arguments as for ``kept_bytes``."""
    left = list(info.layer_bytes)
    for name, size in _kept(info, layers, overrides):
        found = _BLOCK.match(name)
        if found is not None and int(found[1]) < len(left):
            left[int(found[1])] -= size
    return left


def _shares(gpu_mib: int, sizes: Sequence[int], left: Sequence[int]) -> list[int]:
    """MiB of each GPU of these sizes.

    The engine deals whole layers out by the sizes, however much of a layer stays in RAM (llama.cpp,
    src/llama-model.cpp): the first, without their experts, weigh little on the first GPU, the others much on the last.
    """
    ends = [sum(sizes[: place + 1]) / sum(sizes) for place in range(len(sizes))]
    dealt = [0] * len(sizes)
    for layer, size in enumerate(left):
        # the output counts as one more layer
        dealt[bisect_right(ends, layer / (len(left) + 1))] += size
    rest = max(0, gpu_mib - sum(left) // MIB)
    return [-(-rest * size // sum(sizes)) + -(-own // MIB) for size, own in zip(sizes, dealt, strict=True)]
