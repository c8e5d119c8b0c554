"""Drafting: its settings, its flags, and what follows from a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchai.config import ModelConfig
from benchai.config.models import DraftConfig, NgramConfig
from benchai.errors import UsageError
from benchai.runtime.engine.argv import ModelFiles, build_flags
from benchai.runtime.measure.request import Sample
from benchai.runtime.measure.speculative import Comparison, Pair, Verdict, change, drafting, plain, sentence

FILES = ModelFiles(model=Path("/m/a.gguf"), slot_dir=Path("/s"), draft=Path("/m/d.gguf"))


def model(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"file": "a.gguf", **settings})


DRAFTING = model(draft={"file": "d.gguf"})
NGRAM = model(ngram=True)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"embedding": True, "draft": {"file": "d.gguf"}}, "draft contradicts embedding"),
        ({"embedding": True, "ngram": True}, "ngram contradicts embedding"),
        ({"rerank": True, "draft": {"file": "d.gguf"}}, "draft contradicts rerank"),
        ({"ngram": {"min_tokens": 9, "max_tokens": 8}}, "min_tokens: 9 is more than max_tokens: 8"),
        ({"ngram": {"match": 0}}, "greater than or equal to 1"),
        ({"draft": {"file": "d.gguf", "min_probability": 1.5}}, "less than or equal to 1"),
        ({"draft": {"file": "d.gguf", "max_tokens": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        model(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"ngram": True}, "--spec-type ngram-mod"),
        (
            {"ngram": {"match": 16, "min_tokens": 4, "max_tokens": 32}},
            "--spec-type ngram-mod --spec-ngram-mod-n-match 16 --spec-ngram-mod-n-min 4 --spec-ngram-mod-n-max 32",
        ),
        (
            {"draft": {"file": "d.gguf"}},
            "--spec-type draft-simple --model-draft /m/d.gguf --spec-draft-n-max 16 --spec-draft-p-min 0.75",
        ),
        # one flag: a second one of the same name is refused or warned of
        (
            {"draft": {"file": "d.gguf", "min_probability": 0}, "ngram": True},
            "--spec-type draft-simple,ngram-mod --model-draft /m/d.gguf --spec-draft-n-max 16 --spec-draft-p-min 0.0",
        ),
    ],
)
def test_the_flags_of_drafting(settings: dict[str, Any], expected: str) -> None:
    flags = build_flags("code", model(**settings), FILES, 1)
    found = flags[flags.index("--spec-type") :] if "--spec-type" in flags else []
    assert " ".join(found) == expected


def test_what_is_measured() -> None:
    assert drafting(DRAFTING, None, ngram=False) is DRAFTING
    assert drafting(model(), None, ngram=False) == NGRAM
    assert drafting(DRAFTING, None, ngram=True) == NGRAM
    sized = model(ngram={"match": 8}, draft={"file": "d.gguf", "max_tokens": 3})
    assert drafting(sized, None, ngram=True).ngram == NgramConfig(match=8)
    other = drafting(sized, "builtin:tiny-draft", ngram=False)
    assert (other.draft, other.ngram) == (DraftConfig(file="builtin:tiny-draft", max_tokens=3), False)
    assert plain(sized) == model()


def test_a_draft_is_named_as_a_shell_means_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.gguf").touch()
    for name, expected in (("small.gguf", str(tmp_path / "small.gguf")), ("elsewhere.gguf", "elsewhere.gguf")):
        found = drafting(model(), name, ngram=False).draft
        assert found is not None
        assert found.file == expected


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"embedding": True}, "serves embeddings"),
        ({"rerank": True}, "serves reranking"),
        ({"extra_args": ["--spec-type", "ngram-simple"]}, "'--spec-type'"),
        ({"extra_args": ["-md", "x.gguf"]}, "'-md'"),
    ],
)
def test_what_cannot_be_measured(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError, match=part) as caught:
        drafting(model(**settings), None, ngram=True)
    assert caught.value.hint


def sample(seconds: float, text: str = "a", drafted: int = 0, accepted: int = 0, tokens: int = 10) -> Sample:
    return Sample(seconds, 0.1, 5, 0, 0.1, tokens, seconds / 2, drafted, accepted, text)


def comparison(*ratios: float, text: str = "a", drafted: int = 4, prompts: int = 100) -> Comparison:
    new = [sample(ratio, text, drafted, drafted // 2) for ratio in ratios]
    pairs = [Pair(place % prompts, sample(1), one) for place, one in enumerate(new)]
    return Comparison("engine 1", True, {"cpu": 50}, {"cpu": 60}, tuple(pairs))


FASTER, SLOWER = comparison(*[0.5] * 6), comparison(*[1.5] * 6)


@pytest.mark.parametrize(
    ("found", "verdict", "part"),
    [
        (FASTER, "faster", "drafting is faster: 0.50 of the time (0.50 to 0.50)"),
        (SLOWER, "slower", "drafting is slower: 1.50"),
        (comparison(0.5, 1.5, 0.6, 1.4, 0.9, 1.1), "undecided", "no difference beyond the noise"),
        (comparison(0.5, 0.5), "undecided", "fewer than 5 pairs say nothing"),
        (comparison(*[0.5] * 6, text="b"), "undecided", "replies differ, and each was asked for once"),
        (comparison(*[0.5] * 6, text="b", prompts=3), "differs", "the replies differ (prompts 1, 2, 3)"),
        (comparison(*[0.5] * 6, drafted=0), "unused", "nothing was drafted: the draft was never used"),
    ],
)
def test_the_verdict(found: Comparison, verdict: Verdict, part: str) -> None:
    assert found.verdict == verdict
    assert part in sentence(found, DRAFTING)


def test_replies_differ_without_drafting_as_well() -> None:
    pairs = [Pair(0, sample(1, text), sample(0.5, "a", 4, 4)) for text in "abaaba"]
    found = Comparison("engine 1", True, {}, {}, tuple(pairs))
    assert (found.steady, found.differing, found.verdict) == (False, [1], "faster")


def test_the_figures() -> None:
    found = comparison(*[0.5] * 6).as_json()
    assert (found["drafted_tokens"], found["accepted_tokens"], found["acceptance"]) == (24, 12, 0.5)
    assert found["plain"]["generation_tokens_per_second"] == pytest.approx(20)
    assert found["drafting"]["generation_tokens_per_second"] == pytest.approx(40)
    assert found["time_ratio"] == {"median": pytest.approx(0.5), "low": pytest.approx(0.5), "high": pytest.approx(0.5)}
    assert (found["identical"], found["pairs"], found["together"]) == (True, 6, True)


def test_a_longer_reply_is_no_slower_one() -> None:
    pairs = [Pair(place, sample(1), sample(2, "a", 4, 4, tokens=20)) for place in range(6)]
    assert Comparison("engine 1", True, {}, {}, tuple(pairs)).ratio.median == pytest.approx(1)


@pytest.mark.parametrize(
    ("configured", "wanted", "verdict", "expected"),
    [
        (DRAFTING, DRAFTING, "slower", {"draft": None}),
        (DRAFTING, DRAFTING, "differs", {"draft": None}),
        (DRAFTING, DRAFTING, "unused", {"draft": None}),
        (DRAFTING, DRAFTING, "faster", {}),
        (DRAFTING, DRAFTING, "undecided", {}),
        (NGRAM, NGRAM, "slower", {"ngram": None}),
        # it costs nothing while the text does not repeat
        (NGRAM, NGRAM, "unused", {}),
        (model(), NGRAM, "faster", {"ngram": True}),
        (model(), NGRAM, "slower", {}),
        (model(), model(ngram={"match": 8}), "faster", {"ngram": {"match": 8}}),
        (model(), DRAFTING, "faster", {"draft": {"file": "d.gguf"}}),
        (model(), DRAFTING, "differs", {}),
        # not measured against what is configured
        (NGRAM, DRAFTING, "faster", {}),
    ],
)
def test_what_is_changed(
    configured: ModelConfig, wanted: ModelConfig, verdict: Verdict, expected: dict[str, Any]
) -> None:
    assert change(configured, wanted, verdict) == expected
