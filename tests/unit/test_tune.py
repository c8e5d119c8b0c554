"""What a tune counts as a cost, when it gives a trial up, what it keeps, and when it recommends a change."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from benchai.cli.tune import _tell
from benchai.config import ModelConfig, load_config
from benchai.errors import BenchAIError, Conflict, EndpointError, UsageError
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.measure.request import Sample
from benchai.runtime.tune.finish import finalists
from benchai.runtime.tune.paired_rounds import Comparison, Round
from benchai.runtime.tune.plot import draw, save_png
from benchai.runtime.tune.pruning import is_hopeless
from benchai.runtime.tune.recommend import Recommendation, headline, markdown, save, verdict, yaml_lines
from benchai.runtime.tune.search import value
from benchai.runtime.tune.space import Goal, Situation, first_tries, knobs
from benchai.runtime.tune.study import Attempt, opened, study_file
from benchai.runtime.tune.trial import Load, Step, cost, load_of, same_replies
from benchai.runtime.tune.tuner import PROOF_ROUNDS, Options, Tuner, files_beside

MODEL = ModelConfig(file="a.gguf")
SITUATION = Situation(MODEL, on_gpu=False, cores=8, logical=16, layers=32, slots=2, goal="latency")
SPACE = [knob for knob in knobs(SITUATION) if knob.name in ("threads", "flash_attn", "ngram")]


def sample(*, seconds: float, first: float, tokens: int) -> Sample:
    return Sample(seconds, first, 10, 0, first, tokens, seconds - first)


def load(goal: Goal, prompts: int = 3, concurrent: int = 1) -> Load:
    every = tuple([{"role": "user", "content": str(number)}] for number in range(prompts))
    return load_of(Prompts("mine", every), goal, 11, concurrent)


@pytest.mark.parametrize(
    ("goal", "samples", "seconds", "expected"),
    [
        # 1 s to the first token, 0.1 s between two
        ("latency", [sample(seconds=2, first=1, tokens=11)], 2, 2.0),
        # one that ends early costs as much
        ("latency", [sample(seconds=1.4, first=1, tokens=5)], 1.4, 2.0),
        ("latency", [sample(seconds=1, first=1, tokens=1)], 1, 1.0),
        ("first-token", [sample(seconds=2, first=1, tokens=11)], 2, 1.0),
        ("throughput", [sample(seconds=2, first=1, tokens=6), sample(seconds=3, first=1, tokens=4)], 4, 0.4),
    ],
)
def test_the_cost_of_a_step(goal: Goal, samples: list[Sample], seconds: float, expected: float) -> None:
    assert cost(samples, seconds, load(goal)) == pytest.approx(expected)


def test_an_engine_that_generates_nothing_has_no_cost() -> None:
    with pytest.raises(EndpointError, match="generated nothing"):
        cost([sample(seconds=1, first=1, tokens=0)], 1, load("latency"))


def test_many_prompts_are_thinned_evenly_and_asked_in_batches() -> None:
    many = load("latency", 200)
    assert [one[0]["content"] for one in many.prompts] == ["0", "33", "66", "100", "133", "166"]
    together = load("throughput", 3, concurrent=2)
    assert together.steps == 2
    assert [[one[0]["content"] for one in together.batch(step)] for step in range(2)] == [["0", "1"], ["2", "0"]]
    # only under load several are asked at once
    assert load("latency", 3, concurrent=2).concurrent == 1


def test_same_replies() -> None:
    assert same_replies([Step(1, ("a", "b")), Step(1, ("c",))], [Step(1, ("a", "x")), Step(1, ("c",))]) == (2, 3)


@pytest.mark.parametrize(
    ("best", "now", "expected"),
    [
        ([1] * 8, [9, 9], False),
        ([1] * 8, [2.1] * 3, True),
        ([1] * 8, [2.1, 2.1, 1.9], False),
        ([1] * 8, [1.2] * 8, True),
        ([1] * 8, [1.2] * 4, False),
        # what was measured at another time differs by as much
        ([1] * 8, [1.05] * 8, False),
        ([1] * 8, [0.9] * 8, False),
        ([1] * 8, [1.9, 0.9] * 4, False),
        ([1] * 8, [1.05, 1.3] * 4, False),
    ],
)
def test_a_trial_is_given_up_only_when_it_is_slower_beyond_doubt(
    best: list[float], now: list[float], expected: bool
) -> None:
    assert is_hopeless(dict(enumerate(best)), dict(enumerate(now))) is expected


def test_a_killed_tune_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a" / "study.sqlite"
    with opened(file, SPACE, MODEL, 1, fresh=False) as study:
        study.enqueue(first_tries(SITUATION, SPACE))
        first = study.next()
        assert first is not None
        assert first.change == {}
        first.report(0, 1.0)
        first.report(1, 3.0)
        first.done(2.0)
        second = study.next()
        assert second is not None
        wish = second.change
        # here the process ends
    with opened(file, SPACE, MODEL, 1, fresh=False) as study:
        assert study.taken_up == 1
        assert study.attempts() == [Attempt(0, {}, 2.0)]
        assert study.costs_of({}) == {0: 1.0, 1: 3.0}
        assert study.costs_of(wish) == {}
        study.enqueue([{"threads": 2}])
        changes: list[dict[str, Any]] = []
        while (trial := study.next()) is not None and len(changes) < len(first_tries(SITUATION, SPACE)) - 1:
            changes.append(trial.change)
            trial.given_up("no")
        assert wish in changes
        assert trial is not None
        trial.broken_off()
    with opened(file, SPACE, MODEL, 1, fresh=False) as study:
        # one that was broken off in order comes first, and was not measured
        assert study.taken_up == 0
        assert len(study.attempts()) == 1 + len(changes)
        again = study.next()
        assert again is not None
        assert again.change == trial.change
    with opened(file, SPACE, MODEL, 1, fresh=True) as study:
        assert study.attempts() == []


def test_the_model_as_it_is_comes_before_all_others_however_often_it_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "study.sqlite"
    for number in range(3):
        with opened(file, SPACE, MODEL, 1, fresh=False) as study:
            study.enqueue(first_tries(SITUATION, SPACE))
            trial = study.next()
            assert trial is not None
            assert trial.change == {}
            if number == 1:
                trial.broken_off()
            # else the process ends here
    with opened(file, SPACE, MODEL, 1, fresh=False) as study:
        base = study.next()
        assert base is not None
        base.done(1.0)
        tries = []
        for _ in first_tries(SITUATION, SPACE)[1:]:
            trial = study.next()
            assert trial is not None
            tries.append(trial.change)
            trial.given_up("no")
        assert tries == first_tries(SITUATION, SPACE)[1:]


def test_what_comes_after_the_end_of_a_trial_changes_nothing(tmp_path: Path) -> None:
    """A signal, or a fault, while its engine is stopped."""
    with opened(tmp_path / "study.sqlite", SPACE, MODEL, 1, fresh=False) as study:
        for end in (lambda one: one.done(1.0), lambda one: one.given_up("no")):
            trial = study.next()
            assert trial is not None
            attempt = end(trial)
            trial.broken_off()
            assert trial.given_up("it does not stop") == attempt
            following = study.next()
            assert following is not None
            assert following.change != trial.change
            following.given_up("no")
        assert len(study.attempts()) == 4


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    space = [knob for knob in SPACE if knob.name in ("ngram", "flash_attn")]
    with opened(tmp_path / "study.sqlite", space, MODEL, 1, fresh=False) as study:
        found = []
        while (trial := study.next()) is not None:
            found.append(trial.change)
            trial.done(1.0)
        # all there is: with or without n-grams, and three ways of attention
        assert len(found) <= 6
        assert len({str(one) for one in found}) == len(found) == len(study.attempts())


def test_the_cost_of_a_trial_is_the_mean_of_the_medians_of_its_prompts() -> None:
    # two prompts, three times each; one step was disturbed
    steps = [Step(one, ("a",)) for one in (1.0, 4.0, 1.0, 4.0, 9.0, 4.0)]
    assert value(steps, 2) == 2.5


def test_two_tunes_do_not_work_on_the_same_trials(tmp_path: Path) -> None:
    file = tmp_path / "study.sqlite"
    with FileLock(f"{file}.lock"), pytest.raises(Conflict), opened(file, SPACE, MODEL, 1, fresh=False):
        pytest.fail("it was opened")


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "study.sqlite"
    file.write_bytes(b"no database" * 500)
    with pytest.raises(BenchAIError, match="cannot be used") as caught, opened(file, SPACE, MODEL, 1, fresh=False):
        pytest.fail("it was opened")
    assert "--fresh" in str(caught.value.hint)
    with opened(file, SPACE, MODEL, 1, fresh=True) as study:
        assert study.attempts() == []


def test_other_figures_are_kept_in_another_file() -> None:
    assert study_file("a/b", {"goal": "latency"}) != study_file("a/b", {"goal": "throughput"})
    assert study_file("a/b", {"goal": "latency"}).name.startswith("a_b-")


def test_another_draft_of_the_same_name_is_another_tune(tmp_path: Path) -> None:
    file, draft = tmp_path / "benchai.yaml", tmp_path / "d.gguf"
    file.write_text("models: {general: {file: a.gguf, draft: {file: d.gguf}}}")
    found = []
    for text in ("one", "two"):
        draft.write_text(text)
        found.append(files_beside(load_config(file), "general"))
    assert [len(one) for one in found] == [1, 1]
    assert found[0] != found[1]


def comparison(*ratios: float, failed: str | None = None) -> Comparison:
    return Comparison([Round(((1.0, ratio),), 1, 1, together=True) for ratio in ratios], failed)


@pytest.mark.parametrize(
    ("found", "change", "words"),
    [
        (None, False, "nothing that was tried is faster"),
        (comparison(0.9, 0.91, 0.89, 0.9, 0.92, 0.9), True, "10.0% less time (8.0% to 11.0%) in 6 rounds"),
        (comparison(0.9, 0.91, 1.0), False, "was not faster in round 3"),
        # one start of the engine that was slower: the others may be luck
        (comparison(0.5, 0.5, 0.5, 0.5, 0.5, 1.01), False, "was not faster in round 6"),
        (comparison(0.9, 0.9), False, "may be chance"),
        (comparison(0.99, 0.985, 0.99, 0.99, 0.99, 0.985), False, "less than the 2%"),
        (comparison(0.9, failed="it did not start"), False, "could not be proved: it did not start"),
    ],
)
def test_the_verdict(found: Comparison | None, change: bool, words: str) -> None:
    better, reason = verdict({"threads": 4}, found, 0.02)
    assert better is change
    assert words in reason


def proof(chance: random.Random, true: float) -> Comparison:
    """Seven rounds of settings whose times are ``true``, of engines that differ by 10 % from start to start."""

    def costs(scale: float) -> list[float]:
        start = scale * math.exp(chance.gauss(0, 0.1))
        return [start * math.exp(chance.gauss(0, 0.05)) for _ in range(8)]

    return Comparison(
        [Round(tuple(zip(costs(1.0), costs(true), strict=True)), 1, 1, together=True) for _ in range(PROOF_ROUNDS)]
    )


@pytest.mark.parametrize(("true", "least", "most"), [(1.0, 0, 20), (1.1, 0, 1), (0.5, 1000, 1000)])
def test_equal_settings_pass_hardly_ever_and_slower_ones_never(true: float, least: int, most: int) -> None:
    chance = random.Random(1)
    count = 1000 if true >= 1 else 20
    passed = sum(verdict({"threads": 4}, proof(chance, true), 0.02)[0] for _ in range(count))
    assert least * count / 1000 <= passed <= most


def recommendation(**changes: Any) -> Recommendation:
    settings: dict[str, Any] = {
        "role": "code",
        "model": "coder",
        "goal": "latency",
        "engine": "llama-server b1",
        "prompts": "standard mix",
        "asked": 4,
        "max_tokens": 64,
        "concurrent": 1,
        "change": {"threads": 4, "draft.max_tokens": 8},
        "tried": {"threads": 4, "draft.max_tokens": 8},
        "reason": "10% less time",
        "was": {"threads": None, "draft.max_tokens": 16},
        "comparison": comparison(*[0.9] * 6),
        "attempts": (
            Attempt(0, {}, 1.0),
            Attempt(1, {"threads": 4}, 0.9),
            Attempt(2, {"ngram": True}, None, "a | b\nc"),
        ),
        "seconds": 60.0,
        "study": Path("x.sqlite"),
    }
    return Recommendation(**settings | changes)


def test_the_report_tells_old_and_new_values(tmp_path: Path) -> None:
    found = recommendation(study=tmp_path / "x.sqlite")
    text = markdown(found)
    assert "| threads | not set | 4 |" in text
    assert "| 2 | ngram true | a / b c |" in text
    assert yaml.safe_load(yaml_lines(found)) == {"models": {"coder": {"threads": 4, "draft": {"max_tokens": 8}}}}
    assert save(found).read_text(encoding="utf-8") == text
    assert found.as_json()["comparison"]["ratio"]["pairs"] == 6


def test_a_result_is_told_though_the_report_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    _tell(recommendation(study=tmp_path / "file" / "x.sqlite"), json=True)
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["change"]["threads"], found["report"]) == (4, None)
    assert "warning: the report" in told.err


def test_a_recommendation_to_keep_changes_nothing() -> None:
    found = recommendation(change={}, reason="no gain", comparison=None)
    assert found.keep
    assert headline(found) == "keep your settings: no gain"
    assert yaml_lines(found) == ""
    assert "comparison" in found.as_json()


@pytest.mark.parametrize(
    "attempts", [(), (Attempt(0, {}, None, "no"),), (Attempt(0, {}, 1.0),), (Attempt(0, {}, 1.0), Attempt(1, {}, 1.0))]
)
def test_any_tune_can_be_drawn(attempts: tuple[Attempt, ...]) -> None:
    assert draw(recommendation(attempts=attempts, comparison=None)).width == 1000


def test_the_trials_are_drawn(tmp_path: Path) -> None:
    colours = {colour for _, colour in draw(recommendation()).getcolors(100_000) or []}
    assert {(0x3B, 0x6F, 0xB6), (0x2E, 0x7D, 0x4F), (0xC8, 0x44, 0x3C)} <= colours
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(recommendation(), tmp_path / "none" / "x.png")


def test_finalists_are_those_that_may_be_faster_at_another_time() -> None:
    found = [({}, 1.0), ({"threads": 1}, 1.2), ({"threads": 2}, 1.05), ({"threads": 3}, None), ({"threads": 4}, 0.8)]
    attempts = [Attempt(number, change, cost) for number, (change, cost) in enumerate(found)]
    assert finalists(attempts) == [{"threads": 4}, {"threads": 2}]
    # where the model as it is was not measured, all are
    assert len(finalists(attempts[1:])) == 3


@pytest.mark.parametrize(
    ("settings", "why"),
    [("embedding: true", "serves embeddings"), ("rerank: true", "serves reranking")],
)
def test_a_model_that_writes_no_text_is_refused(tmp_path: Path, settings: str, why: str) -> None:
    file = tmp_path / "benchai.yaml"
    file.write_text(f"models:\n  general: {{file: a.gguf}}\n  embed: {{file: a.gguf, {settings}}}")
    with pytest.raises(UsageError, match=why) as caught:
        Tuner(load_config(file), "embed", Prompts("mine", ([{"role": "user", "content": "a"}],)), Options())
    assert str(caught.value.hint).endswith(": general")
