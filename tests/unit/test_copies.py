"""Which copy serves a request: the decision as a table, its promises, and what is measured for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.config import LoadedConfig, load_config
from benchai.errors import ConfigError
from benchai.runtime.fleet.copies import (
    NEWEST,
    STALE_SECONDS,
    Copies,
    Copy,
    Counters,
    Pace,
    Record,
    Sample,
    Size,
    choose,
    copied_models,
    group_of,
    parse_counters,
    sample_of,
)

FAST = Pace(2.0, prompt_rate=1000, reply_rate=50)
SLOW = Pace(10.0, prompt_rate=50, reply_rate=10)
#: 0.1 + 2 s on the fast copy, 2 + 10 s on the slow one.
CHAT = Size(100, 100)
PROMPT = Size(5000, 10)


def gpu(*running: float, ahead: int = 0, slots: int = 1, pace: Pace | None = FAST) -> Copy:
    return Copy("gpu", slots, pace, running, ahead)


def cpu(*running: float, ahead: int = 0, slots: int = 1, pace: Pace | None = SLOW) -> Copy:
    return Copy("cpu", slots, pace, running, ahead)


@pytest.mark.parametrize(
    ("copies", "size", "model"),
    [
        pytest.param([gpu(), cpu()], CHAT, "gpu", id="both free: the faster one"),
        pytest.param([cpu(), gpu()], CHAT, "gpu", id="in whatever order"),
        pytest.param([gpu(0.0), cpu()], CHAT, "gpu", id="the faster one is worth a short wait"),
        pytest.param([gpu(0.0, ahead=5), cpu()], CHAT, "cpu", id="a long one is not"),
        pytest.param(
            [gpu(0.0, ahead=5), cpu()], PROMPT, "gpu", id="but for a prompt that the slow one reads for 100 s"
        ),
        pytest.param([gpu(0.0, 0.0, ahead=5, slots=8), cpu()], CHAT, "gpu", id="with places for all"),
        pytest.param([gpu(0.0, ahead=3), cpu(0.0, ahead=3)], CHAT, "gpu", id="both busy: the faster line"),
        pytest.param([gpu(30.0), cpu()], CHAT, "cpu", id="a lease that takes much longer than usual may go on"),
        pytest.param([gpu(), cpu(pace=FAST)], CHAT, "gpu", id="of equal ones the first"),
        pytest.param([gpu(0.0), cpu(pace=None)], CHAT, "cpu", id="one that was never measured is tried"),
        pytest.param([gpu(), cpu(pace=None)], CHAT, "gpu", id="but not while the first is free"),
        pytest.param([gpu(pace=None), cpu(0.0)], CHAT, "gpu", id="nor is the first waited past"),
        pytest.param([gpu(pace=None), cpu(pace=None)], None, "gpu", id="nothing known: the role's own"),
        pytest.param([gpu(0.0, pace=None), cpu(pace=None)], None, "cpu", id="nothing known: one that is free"),
        pytest.param([gpu(0.0, ahead=2, pace=None), cpu(0.0, pace=None)], None, "cpu", id="the shorter line"),
        pytest.param([gpu(0.0, pace=Pace(2)), cpu(pace=Pace(3))], CHAT, "cpu", id="by the seconds of a lease alone"),
        pytest.param([gpu(0.0), cpu()], None, "gpu", id="no size known: 4 s against 10"),
    ],
)
def test_the_choice(copies: list[Copy], size: Size | None, model: str) -> None:
    assert choose(copies, size).model == model


def test_the_reason_names_what_was_weighed() -> None:
    choice = choose([gpu(0.0, ahead=5), cpu()], CHAT)
    assert choice.reason == "12 s against 14 s on 'gpu'"
    assert choice.seconds == pytest.approx(12)
    assert choose([gpu(pace=None)]).reason == "nothing was measured yet"


def paces() -> st.SearchStrategy[Pace | None]:
    rates = st.floats(1, 10_000)
    return st.none() | st.builds(Pace, st.floats(0.01, 1000), st.none() | rates, st.none() | rates)


def copies(name: str) -> st.SearchStrategy[Copy]:
    @st.composite
    def build(draw: st.DrawFn) -> Copy:
        slots = draw(st.integers(1, 4))
        running = draw(st.lists(st.floats(0, 1000), max_size=slots))
        ahead = draw(st.integers(0, 5)) if len(running) == slots else 0
        return Copy(name, slots, draw(paces()), tuple(running), ahead)

    return build()


@settings(max_examples=50)
@given(first=copies("a"), second=copies("b"), size=st.none() | st.builds(Size, st.floats(1, 9000), st.floats(1, 900)))
def test_a_free_copy_is_passed_over_only_for_one_that_ends_sooner(first: Copy, second: Copy, size: Size | None) -> None:
    choice = choose([first, second], size)
    chosen, other = (first, second) if choice.model == "a" else (second, first)
    if not other.free or chosen.free or choice.seconds is None:
        assert choice.seconds is not None or chosen.free or not other.free
        return
    pace = other.pace or chosen.pace
    assert pace is not None
    assert choice.seconds <= pace.seconds(size)


@settings(max_examples=50)
@given(copy=copies("a"), seconds=st.floats(0.01, 1000))
def test_the_wait_grows_with_the_line(copy: Copy, seconds: float) -> None:
    waits = [Copy("a", copy.slots, None, copy.running, ahead).wait(seconds) for ahead in range(4)]
    assert waits == sorted(waits)
    assert (waits[0] == 0) == (copy.free or seconds in copy.running)


# ---- what is measured

METRICS = """# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
llamacpp:prompt_tokens_total 122
llamacpp:prompt_tokens_cached_total 7
llamacpp:prompt_seconds_total 0.5
llamacpp:tokens_predicted_total 40
llamacpp:tokens_predicted_seconds_total 2
llamacpp:predicted_tokens_seconds 891.795
"""


def test_the_counters_of_an_engine() -> None:
    assert parse_counters(METRICS) == Counters(122, 0.5, 40, 2.0)
    assert parse_counters(METRICS.replace("prompt_seconds", "prompt_hours")) is None
    assert parse_counters("") is None


def test_a_sample_is_what_came_between_two_looks() -> None:
    sample = sample_of(Counters(22, 0.25, 10, 1), Counters(122, 0.5, 40, 2), [1.0, 2.0], 7.0)
    assert sample == Sample(7.0, 1.5, 50, 15, 400, 28)


@pytest.mark.parametrize(
    ("after", "leases"),
    [
        pytest.param(Counters(122, 0.5, 0, 0), [0.01], id="a request that failed is no fast one"),
        pytest.param(Counters(122, 0.5, 40, 2), [], id="no lease has ended"),
    ],
)
def test_no_sample(after: Counters, leases: list[float]) -> None:
    assert sample_of(Counters(), after, leases, 0.0) is None


def test_a_prompt_from_the_cache_tells_no_rate() -> None:
    sample = sample_of(Counters(), Counters(0, 0, 40, 2), [1.0], 0.0)
    assert sample is not None
    assert (sample.prompt_rate, sample.reply_rate) == (None, 19.5)


def test_replies_of_one_token_tell_no_rate() -> None:
    sample = sample_of(Counters(), Counters(100, 1, 2, 0.000002), [1.0, 1.0], 0.0)
    assert sample is not None
    assert (sample.reply_tokens, sample.reply_rate) == (1, None)


def test_a_new_engine_counts_from_nothing() -> None:
    record = Record()
    record.take("first", Counters(100, 1, 100, 1), [1.0], 0.0)
    record.take("second", Counters(10, 1, 10, 1), [1.0], 1.0)
    record.take("second", Counters(30, 2, 30, 2), [1.0], 2.0)
    assert [sample.reply_tokens for sample in record.samples] == [100, 10, 20]


def test_the_pace_is_a_moving_median() -> None:
    record = Record()
    for number in range(3 * NEWEST):
        record.samples.append(Sample(0.0, float(number), 1, 1, None, 10.0 * number))
    middle = 2 * NEWEST + NEWEST // 2
    assert record.pace(1.0) == Pace(middle, None, 10.0 * middle)


def test_an_old_measurement_says_nothing() -> None:
    record = Record()
    record.samples.append(Sample(0.0, 5.0))
    assert record.pace(STALE_SECONDS - 1) == Pace(5.0)
    assert record.pace(STALE_SECONDS) is None


def test_the_size_is_that_of_earlier_requests_of_all_copies() -> None:
    known = Copies()
    assert known.size(["a", "b"], 7, 0.0) is None
    known.record("a").samples.append(Sample(0.0, 1.0, 100, 10))
    known.record("b").samples.append(Sample(0.0, 1.0, 300, 30))
    assert known.size(["a", "b"], None, 0.0) == Size(200, 20)
    assert known.size(["a", "b"], 7, 0.0) == Size(7, 20)


def test_what_is_shown() -> None:
    known = Copies()
    assert known.shown("a") == {}
    known.granted("a", known)
    known.ended("a", known, None)
    assert known.shown("a").keys() == {"lease_seconds", "prompt_tokens_per_second", "reply_tokens_per_second"}
    assert known.shown("a")["prompt_tokens_per_second"] is None


def test_leases_under_way_are_counted() -> None:
    known = Copies()
    first, second = object(), object()
    known.granted("a", first)
    known.granted("a", second)
    assert len(known.copy("a", 3, 0, 0.0).running) == 2
    known.ended("a", first, None)
    known.ended("a", first, None)
    copy = known.copy("a", 2, 4, 0.0)
    assert (len(copy.running), copy.slots, copy.ahead) == (1, 2, 4)


# ---- the configuration


def configured(folder: Path, **router: object) -> LoadedConfig:
    names = ("general", "gpu", "cpu", "other")
    data = {"models": {name: {"file": "a.gguf"} for name in names}, "router": router}
    data["roles"] = {"planner": "gpu", "general": "gpu"}
    file = folder / "benchai.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")
    return load_config(file, {})


def test_the_models_of_a_role(tmp_path: Path) -> None:
    config = configured(tmp_path, copies={"planner": ["cpu"]}, fallback={"planner": ["other", "cpu"]}).config
    assert config.models_of("planner") == ["gpu", "cpu", "other"]
    assert config.models_of("general") == ["gpu"]
    assert config.copied_by("cpu") == ["planner"]
    assert copied_models(config) == {"gpu", "cpu"}
    assert copied_models(configured(tmp_path).config) == set()


@pytest.mark.parametrize(
    ("role", "models", "group"),
    [
        ("planner", ["gpu", "cpu", "other"], ["gpu", "cpu"]),
        ("planner", ["cpu", "gpu"], ["gpu", "cpu"]),
        ("planner", ["cpu", "other"], ["cpu"]),
        # a request that names a model gets that one
        ("planner", ["gpu"], ["gpu"]),
        ("general", ["gpu", "cpu"], []),
        ("", ["gpu"], []),
    ],
)
def test_which_models_are_copies(tmp_path: Path, role: str, models: list[str], group: list[str]) -> None:
    assert group_of(configured(tmp_path, copies={"planner": ["cpu"]}).config, role, models) == group


def test_each_copy_has_the_places_of_the_role(tmp_path: Path) -> None:
    config = configured(tmp_path, copies={"planner": ["cpu"]}).config
    assert (config.concurrency("planner"), config.concurrency("general")) == (4, 2)
    assert (config.slots_of("gpu"), config.slots_of("cpu"), config.slots_of("other")) == (4, 2, 1)
    said = configured(tmp_path, copies={"planner": ["cpu"]}, max_concurrent={"planner": 3}).config
    assert (said.concurrency("planner"), said.slots_of("cpu")) == (3, 2)


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        ({"planner": ["gpu"]}, "router.copies.planner.0 = 'gpu': it is the role's own model"),
        ({"planner": ["gnu"]}, "router.copies.planner.0 = 'gnu': there is no such model"),
        ({"planer": ["cpu"]}, "router.copies.planer: there is no such role"),
    ],
)
def test_copies_that_cannot_be(tmp_path: Path, copies: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, copies=copies)
    assert said in str(caught.value)


def test_a_copy_serves_the_same(tmp_path: Path) -> None:
    models = {"code": {"file": "a.gguf"}, "embed": {"file": "b.gguf", "embedding": True}}
    file = tmp_path / "benchai.yaml"
    file.write_text(json.dumps({"models": models, "router": {"copies": {"code": ["embed"]}}}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"copies.code.0 = 'embed': it serves something else") as caught:
        load_config(file, {})
    assert caught.value.exit_code == 2
