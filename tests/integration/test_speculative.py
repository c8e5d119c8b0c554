"""Drafting on real engines: the same replies as without, drafts that do not fit, and the command that measures it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchai.config import LoadedConfig
from benchai.config.models import NgramConfig
from benchai.errors import DoesNotFit, ModelFileError
from benchai.events import ModelLoading
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.measure.request import Sample, ask
from benchai.runtime.measure.rig import Rig, started
from benchai.runtime.measure.speculative import drafting, measure
from tests.conftest import TINY
from tests.drafts import DRAFT, altered_draft
from tests.integration.fleet_helpers import Record
from tests.integration.helpers import TINY_MODEL, benchai, commands, loaded, write_config

__all__ = ["commands"]
pytestmark = pytest.mark.anyio
ENGINES = [
    "native",
    pytest.param(
        "llama-server",
        marks=pytest.mark.skipif(not shutil.which("llama-server"), reason="no llama-server on PATH"),
    ),
]
WITH_DRAFT = {"draft": {"file": str(DRAFT)}}
# small enough to draft within the short texts of these prompts
WITH_NGRAM = {"ngram": {"match": 4, "min_tokens": 1, "max_tokens": 16}}
TOOL = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluate an arithmetic expression.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
TEXTS = ["List the steps to find out why a program is slow.", "Write a function that adds two numbers. " * 6]
TASKS: list[tuple[str, dict[str, Any]]] = [*((text, {}) for text in TEXTS), ("What is 7391 * 482?", {"tools": [TOOL]})]


def models(**settings: dict[str, Any]) -> dict[str, Any]:
    return {name: TINY_MODEL | {"slots": 1, "context": 2048} | extra for name, extra in settings.items()}


def prompts() -> Prompts:
    return Prompts("test", tuple([{"role": "user", "content": text}] for text in TEXTS))


async def replies(rig: Rig) -> list[Sample]:
    root = rig.ready.root
    return [
        await ask(root, [{"role": "user", "content": text}], 120, cache_prompt=False, **body) for text, body in TASKS
    ]


@pytest.fixture
async def rigs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[str, Rig]]:
    """An engine without drafting, one with each kind, and one with both."""
    kinds = {"plain": {}, "draft": WITH_DRAFT, "ngram": WITH_NGRAM, "both": WITH_DRAFT | WITH_NGRAM}
    config = loaded(tmp_path, {"models": models(**kinds), "engine": {"kind": request.param}})
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(started(config, name)) for name in kinds}


@pytest.mark.parametrize("rigs", ENGINES, indirect=True)
async def test_at_temperature_0_drafting_changes_no_reply(rigs: dict[str, Rig]) -> None:
    expected = await replies(rigs.pop("plain"))
    assert all(one.text and not one.drafted for one in expected)
    assert "calculator" in expected[-1].text
    for name, rig in rigs.items():
        found = await replies(rig)
        assert [one.text for one in found] == [one.text for one in expected], name
        assert sum(one.drafted for one in found) >= sum(one.accepted for one in found) > 0, name


def unfit(folder: Path, kind: str) -> Path:
    """A draft that cannot draft for the bundled model."""
    path = folder / f"{kind}.gguf"
    if kind == "truncated":
        path.write_bytes(DRAFT.read_bytes()[:200_000])
        return path
    changes: dict[str, Any] = {
        "token": {"tokens": lambda words: [*words[:1000], "Zorbin", *words[1001:]]},
        "size": {"tokens": lambda words: words[:-129], "token_type": lambda types: types[:-129]},
        "pre": {"pre": "llama-bpe", "add_bos_token": False},
    }[kind]
    return altered_draft(path, **changes)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("token", "token 1000 is"),
        ("size", "they have 1535 and 1406 tokens"),
        ("pre", "the pre-tokenizers are 'qwen2' and 'llama-bpe'"),
        ("truncated", "is truncated"),
    ],
)
async def test_a_draft_that_does_not_fit_is_refused_before_any_start(tmp_path: Path, kind: str, part: str) -> None:
    draft = unfit(tmp_path, kind)
    config = loaded(tmp_path, {"models": models(general={"draft": {"file": str(draft)}})})
    record = Record()
    async with Fleet(config, record) as fleet:
        with pytest.raises(ModelFileError) as caught:
            async with fleet.lease("general"):
                pass
    assert "models.general.draft.file" in caught.value.message
    assert str(draft) in caught.value.message
    assert part in caught.value.message
    assert caught.value.hint
    assert not [event for event in record.events if isinstance(event, ModelLoading)]
    with pytest.raises(ModelFileError, match="draft"):
        await compared(config, {"draft": {"file": str(draft)}})
    assert not logs(tmp_path)


def logs(folder: Path) -> list[Path]:
    """Of engines that were started for a measurement."""
    return list((folder / "benchai-home").glob("**/general.*.measured.log"))


async def compared(config: LoadedConfig, settings: dict[str, Any], **options: Any) -> Any:
    name = next(iter(config.config.models))
    model = config.config.models[name]
    wanted = drafting(model, settings["draft"]["file"] if settings.get("draft") else None, bool(settings.get("ngram")))
    asked = {"repeats": 2, "max_tokens": 60, **options}
    return await measure(config, name, wanted, prompts(), **asked)


async def test_a_comparison_of_engines_that_take_turns(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"models": models(general={})})
    rounds: list[tuple[int, int]] = []
    options = {"at_once": False, "repeats": 1, "progress": lambda *done: rounds.append(done)}
    found = await compared(config, WITH_DRAFT, **options)
    assert rounds == [(1, 1)]
    assert (found.together, found.differing, found.steady, len(found.pairs)) == (False, [], True, 2)
    assert len(logs(tmp_path)) == 2
    assert 0 < found.accepted <= found.drafted
    assert found.plain_mib.keys() == found.drafting_mib.keys() == {"cpu"}


async def test_engines_without_memory_for_both_take_turns(tmp_path: Path) -> None:
    def limited(mib: int) -> LoadedConfig:
        return loaded(tmp_path, {"models": models(general={}), "fleet": {"memory": {"ram": mib, "reserve": 0}}})

    short = {"repeats": 1, "max_tokens": 2}
    with pytest.raises(DoesNotFit, match="free are 1 MiB on cpu") as refused:
        await compared(limited(1), WITH_DRAFT, **short)
    needed = re.search(r"needs (\d+) MiB on cpu", refused.value.message)
    assert needed is not None
    # the draft takes less than the model
    config = limited(2 * int(needed[1]))
    assert not (await compared(config, WITH_DRAFT, **short)).together
    # one that fits elsewhere only would be a comparison of places
    with pytest.raises(DoesNotFit, match="fits on cpu only, what it is compared with is on gpu0"):
        async with started(config, "general", beside={"gpu0": 1}):
            pass


async def test_a_round_of_n_grams_knows_nothing_of_the_one_before(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"models": models(general=WITH_NGRAM)})
    assert isinstance(config.config.models["general"].ngram, NgramConfig)
    found = await compared(config, WITH_NGRAM)
    drafted: dict[int, list[int]] = {}
    for pair in found.pairs:
        drafted.setdefault(pair.prompt, []).append(pair.drafting.drafted)
    assert found.drafted > 0
    assert all(first == second for first, second in drafted.values())
    assert (found.together, found.differing) == (True, [])


def measured(folder: Path, *options: str) -> dict[str, Any]:
    done = benchai("bench", "speculative", "general", "--json", "--repeats", "1", *options, cwd=folder)
    assert done.code == 0, done.err
    done.clean()
    report: dict[str, Any] = json.loads(done.out)
    return report


def test_the_command_switches_off_what_is_of_no_use(tmp_path: Path) -> None:
    path = write_config(tmp_path, {"models": models(general=WITH_DRAFT)})
    (tmp_path / "mine.txt").write_text("What is 17 + 25?\n\nList the steps.\n", encoding="utf-8")
    # of a reply of one token none can be drafted
    report = measured(tmp_path, "--prompts", "mine.txt", "--max-tokens", "1", "--apply")
    assert (report["prompts"], report["prompt_count"], report["pairs"]) == ("mine.txt", 2, 2)
    assert report["plain"]["generation_tokens_per_second"] is None
    assert (report["verdict"], report["change"], report["applied"]) == ("unused", {"draft": None}, True)
    text = path.read_text(encoding="utf-8")
    assert "draft" not in yaml.safe_load(text)["models"]["general"]
    assert "benchai bench speculative" in text


def test_what_the_command_prints(tmp_path: Path) -> None:
    path = write_config(tmp_path, {"models": models(general=WITH_DRAFT)})
    before = path.read_bytes()
    done = benchai("bench", "speculative", "general", "--repeats", "1", "--max-tokens", "32", cwd=tmp_path)
    assert done.code == 0, done.err
    done.clean()
    for part in (
        "prompts: 4 (standard mix), pairs of replies: 4",
        "generation, tokens/s",
        "drafted tokens (",
        "replies: identical",
    ):
        assert part in done.out
    # four pairs are too few for a verdict
    assert "fewer than 5 pairs say nothing" in done.out
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "options", "parts"),
    [
        ({}, ["nobody"], ["no model serves the role 'nobody'"]),
        ({}, ["general", "--draft", "none.gguf"], ["models.general.draft.file", "none.gguf", "missing"]),
        ({}, ["general", "--draft", str(TINY.with_name("tiny-vision-mmproj.gguf"))], ["holds no vocabulary"]),
        ({"embedding": True}, ["general"], ["serves embeddings"]),
        ({}, ["general", "--prompts", "none.txt"], ["'none.txt'", "cannot be read"]),
    ],
)
def test_bad_input(tmp_path: Path, settings: dict[str, Any], options: list[str], parts: list[str]) -> None:
    write_config(tmp_path, {"models": models(general=settings)})
    benchai("bench", "speculative", *options, cwd=tmp_path).refused(*parts, "hint: ")


def test_a_configuration_without_a_file_cannot_be_changed(tmp_path: Path) -> None:
    done = benchai("bench", "speculative", "general", "--apply", cwd=tmp_path)
    done.refused("the built-in configuration has no file", "hint: ")


def test_what_cannot_be_applied_is_told_before_the_measurement(tmp_path: Path) -> None:
    path = tmp_path / "benchai.yaml"
    path.write_text(
        "models:\n  tiny: &a {file: 'builtin:tiny', slots: 1}\n  other: *a\nroles: {general: other}\n", encoding="utf-8"
    )
    done = benchai("bench", "speculative", "general", "--apply", cwd=tmp_path)
    done.refused("cannot be changed surely", "alias")
    assert not logs(tmp_path)


def test_check_and_doctor_tell_of_a_draft_that_does_not_fit(tmp_path: Path) -> None:
    draft = unfit(tmp_path, "token")
    write_config(tmp_path, {"models": models(general={"draft": {"file": str(draft)}})})
    benchai("config", "check", cwd=tmp_path).refused("models.general.draft.file", "token 1000", "hint: ")
    done = benchai("doctor", cwd=tmp_path)
    assert done.code != 0
    assert "cannot draft for" in done.out + done.err
