"""The seed's rules: which quantisation, context and place suit a role, and how much of a machine may be used."""

from __future__ import annotations

from dataclasses import dataclass

from benchai.config.models import MOST_SLOTS, at_once

#: MiB kept free on a GPU for driver and desktop (seed, "The VRAM Budget"); ``fleet.memory.reserve`` has the same.
RESERVE = 1000
#: MiB that stay free for a swap, at most a twelfth of a GPU (the same table: 1000 of 12288).
HEADROOM = 1000
#: The seed's own context, by what a role does.
LONG, SHORT = 8192, 4096
#: Tokens of the longest passage that is embedded or ranked, with its question: one physical batch has to hold it.
PASSAGE = 1024
SMALLEST_CONTEXT = 2048
#: Memory that is left over on a GPU goes to the context, up to here.
LARGEST_CONTEXT = 32768
#: A model that is smaller than this class is better off on the CPU than a larger one: it writes too little sense.
GPU_CLASS = 4
#: From this class on a model may lie over several GPUs (seed: "Dual GPU: Model parallelism for 30B+").
PARALLEL_CLASS = 30
#: Billions of parameters that a CPU may read for a token: more is too slow to wait for.
CPU_ACTIVE = 8.0
#: Below this class a larger model at lower bits is taken (seed: "14B Q4 > 7B Q8").
SOUND_CLASS = 7
#: Threads beside a GPU (seed: "less is more for GPU mode"), and tokens of a batch.
GPU_THREADS, BATCH = 8, 512
#: The engine's own physical batch.
UBATCH = 512


@dataclass(frozen=True)
class Rule:
    """What suits a role.

    Attributes:
        quantisations: The first that fits beside an f16 KV cache is taken; the last of them also with a smaller cache.
        lower: What is taken where none of those fits.
        context: Tokens.
        largest: The largest class of model.
        why: The seed's reason for the quantisation.
    """

    quantisations: tuple[str, ...]
    lower: tuple[str, ...]
    context: int
    largest: int
    why: str


#: No limit to the class of a model.
ANY = 1000
_REASONING = Rule(("Q5_K_M",), ("Q4_K_M", "Q3_K_M"), LONG, ANY, "Q5_K_M steadies the steps of reasoning")
RULES = {
    "code": Rule(("Q8_0", "Q5_K_M"), ("Q4_K_M", "Q3_K_M"), LONG, ANY, "Q5_K_M or Q8_0 for code: fewer subtle errors"),
    "planner": _REASONING,
    "research": _REASONING,
    "general": Rule(("Q4_K_M",), ("Q3_K_M",), SHORT, GPU_CLASS, "Q4_K_M is enough for chat"),
    "vision": Rule(("Q4_K_M",), ("Q3_K_M",), SHORT, ANY, "Q4_K_M, its projector stays in 16 bits"),
    "embed": Rule(("Q8_0",), ("Q5_K_M",), PASSAGE, ANY, "Q8_0 for RAG: what is found is nearer to what was asked"),
    "rerank": Rule(("Q8_0",), ("Q5_K_M",), PASSAGE, ANY, "Q8_0 for RAG: the order of what was found is surer"),
}
"""By role; seed, "Practical Recommendations" and "RTX 3060 Specific Settings"."""

DEFAULT_ROLES = ("code", "general", "planner", "research", "vision")


def gpu_room(total_mib: int) -> int:
    """MiB of a GPU that models may fill."""
    return max(0, total_mib - RESERVE - min(HEADROOM, total_mib // 12))


def ram_room(total_mib: int) -> int:
    """MiB of the RAM that models may fill: half of it (seed: "System headroom: 50%+ for other tasks")."""
    return total_mib // 2


def concurrency(roles: tuple[str, ...]) -> int:
    """Slots of a model that serves these roles, as the configuration counts them by default."""
    return min(MOST_SLOTS, sum(map(at_once, roles)))
