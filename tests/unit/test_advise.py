"""Which models a machine is advised to serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.runtime.advise.advise import Advice, Budget, advise
from benchai.runtime.advise.catalogue import catalogue
from benchai.runtime.advise.fit import File, Wanted
from benchai.runtime.advise.rules import DEFAULT_ROLES, RESERVE, RULES, gpu_room, ram_room
from benchai.runtime.advise.sizes import estimated_info

SEED = Budget((12288,), 47104)
CATALOGUE = catalogue()


def served(advice: Advice) -> dict[str, str]:
    """Roles that share a model, and that model, in a line."""
    return {
        " ".join(one.roles): f"{one.entry.name} {one.quantisation} {one.context} {one.cache_type} {one.place}"
        + "".join(map(str, one.devices))
        + " on demand" * one.on_demand
        for one in advice.choices
    }


def test_the_seeds_machine_yields_the_seeds_assignment() -> None:
    advice = advise(SEED, CATALOGUE)
    assert served(advice) == {
        "code": "deepseek-coder-6.7b-instruct Q5_K_M 8192 f16 gpu0",
        "planner research": "qwen2.5-7b-instruct Q5_K_M 8192 f16 cpu",
        "general": "phi-3-mini-4k-instruct Q4_K_M 4096 f16 cpu",
        "vision": "qwen2-vl-7b-instruct Q4_K_M 4096 f16 gpu0 on demand",
    }
    assert advice.missing == {}
    assert all(one.reasons and not one.exact for one in advice.choices)


CPU_7B = "qwen2.5-7b-instruct Q5_K_M 8192 f16 cpu"
PHI = "phi-3-mini-4k-instruct Q4_K_M 4096 f16 cpu"
CPU_3B = "qwen2.5-3b-instruct Q4_K_M 4096 f16 cpu"
BIG = "qwen3-30b-a3b-instruct-2507 Q5_K_M 8192 f16 cpu"
VL = "qwen2-vl-7b-instruct Q4_K_M 4096 f16 gpu0 on demand"
VL_CPU = "qwen2-vl-7b-instruct Q4_K_M 4096 f16 cpu on demand"
SMALL_VL = "qwen2-vl-2b-instruct Q4_K_M 4096 f16 gpu0 on demand"
ALL = "code planner research general"


@pytest.mark.parametrize(
    ("gpus", "ram", "expected"),
    [
        ((), 8192, {ALL: "qwen2.5-3b-instruct Q5_K_M 8192 f16 cpu", "vision": VL_CPU.replace("7b", "2b")}),
        ((), 16384, {ALL: CPU_7B, "vision": VL_CPU}),
        (
            (),
            32768,
            {
                "code": "qwen2.5-coder-7b-instruct Q5_K_M 8192 f16 cpu",
                "planner research": CPU_7B,
                "general": CPU_3B,
                "vision": VL_CPU,
            },
        ),
        ((), 65536, {ALL: BIG, "vision": VL_CPU}),
        (
            (6144,),
            16384,
            {
                "code": "qwen2.5-coder-3b-instruct Q8_0 16384 f16 gpu0",
                "planner research": CPU_7B,
                "general": CPU_3B,
                "vision": SMALL_VL,
            },
        ),
        (
            (8192,),
            32768,
            {
                "code": "qwen2.5-coder-7b-instruct Q5_K_M 16384 f16 gpu0",
                "planner research": CPU_7B,
                "general": PHI,
                "vision": VL,
            },
        ),
        (
            (16384,),
            32768,
            {
                "code": "qwen2.5-coder-14b-instruct Q5_K_M 16384 f16 gpu0",
                "planner research": CPU_7B,
                "general": PHI,
                "vision": VL,
            },
        ),
        (
            (24576,),
            65536,
            {
                "code": "qwen3-coder-30b-a3b-instruct Q5_K_M 16384 f16 gpu0",
                "planner research": BIG,
                "general": PHI,
                "vision": VL,
            },
        ),
        # a 30B needs both cards, and then at lower bits
        (
            (12288, 12288),
            32768,
            {
                "code": "qwen2.5-coder-32b-instruct Q4_K_M 8192 q8_0 gpu01",
                "planner research": CPU_7B,
                "general": PHI,
                "vision": VL,
            },
        ),
        # the larger card has the code model, the other one what reasons
        (
            (12288, 8192),
            32768,
            {
                "code": "deepseek-coder-6.7b-instruct Q5_K_M 8192 f16 gpu0",
                "planner research": "qwen2.5-7b-instruct Q5_K_M 16384 f16 gpu1",
                "general": PHI,
                "vision": VL,
            },
        ),
    ],
)
def test_other_machines(gpus: tuple[int, ...], ram: int, expected: dict[str, str]) -> None:
    assert served(advise(Budget(gpus, ram), CATALOGUE)) == expected


def test_a_quantised_kv_cache_comes_before_a_smaller_context() -> None:
    # a little more than the seed's card: the next larger model fits, but not with an f16 cache
    code = advise(Budget((13312,), 47104), CATALOGUE).choice("code")
    assert code is not None
    assert (code.entry.size, code.quantisation, code.context, code.cache_type) == (14, "Q5_K_M", 8192, "q8_0")
    assert any("q8_0" in reason for reason in code.reasons)


def test_a_longer_context_costs_model_size() -> None:
    usual = advise(SEED, CATALOGUE).choice("code")
    long = advise(SEED, CATALOGUE, wanted=Wanted(32768))
    code, general = long.choice("code"), long.choice("general")
    assert usual is not None
    assert code is not None
    assert general is not None
    assert code.context == general.context == 32768
    assert code.entry.shape.context >= 32768
    # Phi-3 has a window of 4096
    assert general.entry.name != "phi-3-mini-4k-instruct"
    longest = advise(Budget((6144,), 47104), CATALOGUE, ["code"], Wanted(32768)).choice("code")
    assert longest is not None
    assert longest.entry.size < usual.entry.size


def test_the_reason_names_what_the_next_larger_model_would_need() -> None:
    code = advise(SEED, CATALOGUE).choice("code")
    assert code is not None
    [reason] = [one for one in code.reasons if one.startswith("the next larger")]
    assert "Qwen2.5 Coder 14B Q5_K_M" in reason
    assert reason.endswith(f"of {gpu_room(12288)} MiB")


def test_sizes_of_files_that_are_there_decide() -> None:
    """A file that is larger than the mixture of its quantisation has to fit as it is."""
    usual = advise(SEED, CATALOGUE).choice("code")
    assert usual is not None
    info = estimated_info(usual.entry, "Q5_K_M")
    same = Wanted(files={usual.file: File(Path("there.gguf"), info)})
    kept = advise(SEED, CATALOGUE, wanted=same).choice("code")
    assert kept is not None
    assert kept.exact
    assert kept.need == usual.need
    layers = tuple(size * 2 for size in info.layer_bytes)
    heavy = replace(info, layer_bytes=layers, weight_bytes=2 * info.weight_bytes)
    other = advise(SEED, CATALOGUE, wanted=Wanted(files={usual.file: File(Path("there.gguf"), heavy)})).choice("code")
    assert other is not None
    assert other.entry.name != usual.entry.name


def test_experts_in_ram_give_a_larger_code_model_where_that_is_asked_for() -> None:
    advice = advise(SEED, CATALOGUE, wanted=Wanted(experts_in_ram=True))
    code = advice.choice("code")
    assert code is not None
    assert (code.entry.name, code.quantisation) == ("qwen3-coder-30b-a3b-instruct", "Q5_K_M")
    whole = estimated_info(code.entry, "Q5_K_M")
    assert 0 < code.cpu_moe < code.entry.shape.layers
    assert code.ram_mib == -(-sum(whole.expert_bytes[: code.cpu_moe]) // 2**20)
    assert code.need.total_mib <= gpu_room(12288)
    # one layer's experts more would not fit
    assert code.need.total_mib + whole.expert_bytes[code.cpu_moe - 1] / 2**20 > gpu_room(12288)
    on_cpu = [one for one in advice.choices if one.place == "cpu"]
    assert code.ram_mib + sum(one.need.total_mib for one in on_cpu) <= ram_room(47104)
    assert advice.missing == {}
    # where it fits whole, or a model that is as large does, nothing is split
    for gpu in (24576, 49152):
        large = advise(Budget((gpu,), 65536), CATALOGUE, wanted=Wanted(experts_in_ram=True)).choice("code")
        assert large is not None
        assert large.cpu_moe == 0


def test_only_the_roles_that_are_asked_for() -> None:
    advice = advise(SEED, CATALOGUE, ["embed", "rerank", "research"])
    assert {role for one in advice.choices for role in one.roles} == {"embed", "rerank", "research"}
    assert {advice.choice(role).quantisation for role in ("embed", "rerank")} == {"Q8_0"}  # type: ignore[union-attr]
    # nothing else wants the card
    research = advice.choice("research")
    assert research is not None
    assert research.place == "gpu"


def test_nothing_fits_a_tiny_machine() -> None:
    advice = advise(Budget((), 256), CATALOGUE)
    assert advice.choices == ()
    assert set(advice.missing) == set(DEFAULT_ROLES)
    assert "128 of 128 MiB of the RAM are left" in advice.missing["code"]


def test_a_context_that_no_model_has() -> None:
    advice = advise(SEED, CATALOGUE, ["general"], Wanted(10**7))
    assert advice.missing == {"general": "the catalogue has no model for general with a context of 10000000 tokens"}


MEMORY = st.integers(0, 100_000)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1024, 100_000), max_size=3), MEMORY, st.sets(st.sampled_from(sorted(RULES)), min_size=1))
def test_what_is_advised_fits(gpus: list[int], ram: int, roles: set[str]) -> None:
    advice = advise(Budget(tuple(gpus), ram), CATALOGUE, sorted(roles))
    up = [one for one in advice.choices if not one.on_demand]
    assert sum(one.need.total_mib for one in up if one.place == "cpu") <= ram_room(ram)
    for device, total in enumerate(gpus):
        alone = sum(one.need.total_mib for one in up if one.devices == (device,))
        assert alone <= gpu_room(total)
    assert sum(one.need.total_mib for one in up if one.devices) <= sum(map(gpu_room, gpus))
    for one in advice.choices:
        assert (one.place == "gpu") == bool(one.devices)
        assert all(role in one.entry.roles for role in one.roles)
        assert one.context <= one.entry.shape.context
        limit = max(gpus, default=0) - RESERVE if one.place == "gpu" else ram_room(ram)
        assert len(one.devices) > 1 or one.need.total_mib <= limit
    assert {role for one in advice.choices for role in one.roles} | set(advice.missing) == roles


@settings(max_examples=15, deadline=None)
@given(st.integers(2048, 60_000), st.integers(0, 20_000))
def test_more_memory_gives_no_smaller_code_model(gpu: int, more: int) -> None:
    sizes = [advise(Budget((total,), 65536), CATALOGUE, ["code"]).choice("code") for total in (gpu, gpu + more)]
    before, after = (one.entry.size if one and one.place == "gpu" else 0 for one in sizes)
    assert before <= after


def models(advice: Advice) -> list[str]:
    return [one.entry.name for one in advice.choices]


@pytest.mark.parametrize(
    ("gpus", "ram", "context"),
    [((4096,), 8192, None), ((24576,), 4096, None), ((), 4096, 32768), ((6064,), 8165, 16384)],
)
def test_a_model_stands_once_and_serves_all_its_roles(gpus: tuple[int, ...], ram: int, context: int | None) -> None:
    advice = advise(Budget(gpus, ram), CATALOGUE, wanted=Wanted(context))
    assert len(models(advice)) == len(set(models(advice)))
    assert {"code", "planner", "research", "general"} <= {role for one in advice.choices for role in one.roles}


def test_lower_bits_on_a_gpu_do_not_replace_the_right_ones_on_the_cpu() -> None:
    chat = advise(Budget((24576, 12288), 65536), CATALOGUE).choice("general")
    assert chat is not None
    assert (chat.quantisation, chat.cache_type, chat.place) == ("Q4_K_M", "f16", "cpu")
    planner = advise(Budget((49152,), 131072), CATALOGUE, wanted=Wanted(32768)).choice("planner")
    assert planner is not None
    assert (planner.entry.size, planner.quantisation) == (30, "Q5_K_M")


def test_the_kv_cache_is_quantised_on_the_cpu_too_before_the_context_is_cut() -> None:
    small = advise(Budget((), 1260), CATALOGUE, ["general", "planner"]).choice("planner")
    assert small is not None
    assert (small.context, small.cache_type) == (8192, "q8_0")


def test_a_long_context_leaves_no_role_and_no_gpu_empty() -> None:
    """The one model that has it serves all, with few bits if it must."""
    for gpu, ram in ((81920, 16384), (24576, 32768)):
        advice = advise(Budget((gpu,), ram), CATALOGUE, wanted=Wanted(131072))
        assert advice.missing == {}
        chat = advice.choice("general")
        assert chat is not None
        assert (chat.entry.name, chat.context, chat.place) == ("qwen3-30b-a3b-instruct-2507", 131072, "gpu")
    # where two cards hold better bits, those
    code = advise(Budget((24576, 24576), 65536), CATALOGUE, wanted=Wanted(131072)).choice("code")
    assert code is not None
    assert (code.quantisation, code.devices) == ("Q8_0", (0, 1))


@pytest.mark.parametrize("ram", [16384, 24576])
def test_what_writes_gives_way_to_embed_and_rerank(ram: int) -> None:
    advice = advise(Budget((12288,), ram), CATALOGUE, tuple(RULES))
    assert advice.missing == {}
    assert advise(Budget((), 4096), CATALOGUE, ["embed", "rerank"]).missing == {}


def test_small_models_go_onto_a_gpu_where_only_that_has_room() -> None:
    found = advise(Budget((24576,), 512), CATALOGUE, ["embed", "rerank"])
    assert [one.place for one in found.choices] == ["gpu", "gpu"]


@pytest.mark.parametrize("gpu", [8192, 10240, 12288])
def test_experts_in_ram_leave_room_for_the_others(gpu: int) -> None:
    advice = advise(Budget((gpu,), 32768), CATALOGUE, wanted=Wanted(experts_in_ram=True))
    planner = advice.choice("planner")
    assert planner is not None
    assert planner.entry.size == 7


def test_why_a_role_has_no_model_names_what_is_left() -> None:
    advice = advise(Budget((8192,), 2500), CATALOGUE, ["code", "planner", "rerank", "vision"], Wanted(131072))
    assert advice.missing["rerank" if "rerank" in advice.missing else "code"].endswith("MiB of a GPU are left")
    assert (
        advise(SEED, CATALOGUE, ["general"], Wanted(131072)).missing["general"].startswith("no model fits: Qwen3 30B")
    )
