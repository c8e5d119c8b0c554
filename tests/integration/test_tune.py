"""A tune on real engines: ended by signals and gone on with, short of memory, and what it leaves in benchai.yaml."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from benchai.cli.app import app
from benchai.errors import BenchAIError, DoesNotFit, EngineError
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.tune.paired_rounds import Pairing
from benchai.runtime.tune.trial import load_of
from benchai.runtime.tune.tuner import Options, Tuner
from tests.integration.helpers import (
    BENCHAI,
    TINY_MODEL,
    below,
    ended,
    loaded,
    until,
    write_config,
)

PROMPTS = Prompts("mine", ([{"role": "user", "content": "What is 17 + 25?"}],))
LITTLE = ("--max-tokens", "2", "--repeats", "1", "--prompts", "prompts.txt")


def folder(path: Path, **settings: Any) -> Path:
    config = write_config(path, {"models": {"general": TINY_MODEL | settings}})
    config.write_text("# mine\n" + config.read_text())
    (path / "prompts.txt").write_text("Hello")
    return config


def invoke(*arguments: str) -> Result:
    """A command in this process, which has imported what it needs."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_a_killed_tune_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder(tmp_path)
    before = config.read_text()
    told = tmp_path / "told.txt"
    with told.open("wb") as stderr, Popen([*BENCHAI, "tune", "general", *LITTLE], cwd=tmp_path, stderr=stderr) as tune:
        try:
            until(lambda: "trials 1/30" in told.read_text() and below(tune.pid))
            engines = below(tune.pid)
        finally:
            tune.kill()
    assert all(ended(pid) for pid in engines)
    monkeypatch.chdir(tmp_path)
    done = invoke("tune", "general", "--trials", "1", "--apply", "--json", "--plot", "p.png", *LITTLE)
    assert "going on with an earlier tune, trials kept: 1" in done.stderr
    found = json.loads(done.stdout)
    assert [one["change"] for one in found["attempts"]] == [{}]
    assert found["keep"]
    assert found["reason"].startswith("nothing else was tried")
    assert config.read_text() == before
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert found["reason"] in Path(found["report"]).read_text()


@pytest.mark.anyio
async def test_an_interrupted_tune_keeps_what_was_measured(tmp_path: Path) -> None:
    measured = asyncio.Event()
    options = Options(trials=9, max_tokens=2, repeats=1)
    config = loaded(tmp_path, {"models": {"general": TINY_MODEL}})
    tuner = Tuner(config, "general", PROMPTS, options, lambda _: measured.set())
    running_tune = asyncio.create_task(tuner.run())
    await measured.wait()
    running_tune.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_tune
    assert [one.change for one in tuner.attempts] == [{}]
    again = await Tuner(config, "general", PROMPTS, replace(options, trials=2, rounds=1)).run()
    first, second = again.attempts
    assert [first] == tuner.attempts
    # and goes on
    assert second.change
    assert (second.cost is None) is (second.reason is not None)
    assert again.keep


@pytest.mark.anyio
async def test_a_model_that_cannot_be_measured_as_it_is_is_told_each_time(tmp_path: Path) -> None:
    long = [{"role": "user", "content": "word " * 2000}]
    prompts = Prompts("mine", (*PROMPTS.messages, long))
    config = loaded(tmp_path, {"models": {"general": TINY_MODEL | {"context": 256}}})
    for _ in range(2):
        with pytest.raises(EngineError, match=r"the model as it is cannot be measured: .* exceeds"):
            await Tuner(config, "general", prompts, Options(trials=3, max_tokens=2, repeats=1)).run()


@pytest.mark.anyio
async def test_what_does_not_fit_is_refused_or_given_up(tmp_path: Path) -> None:
    def tuner(mib: int) -> Tuner:
        model = TINY_MODEL | {"ubatch_size": 64, "flash_attn": True}
        data = {"models": {"general": model}, "fleet": {"memory": {"ram": mib, "reserve": 0}}}
        return Tuner(loaded(tmp_path, data), "general", PROMPTS, Options(trials=3, max_tokens=2, repeats=1, rounds=1))

    with pytest.raises(DoesNotFit, match="free are 1 MiB on cpu") as refused:
        await tuner(1).run()
    needed = re.search(r"needs (\d+) MiB on cpu", refused.value.message)
    assert needed is not None
    found = await tuner(int(needed[1])).run()
    given_up = {str(one.change): one.reason for one in found.attempts if one.cost is None}
    assert "needs" in str(given_up["{'ubatch_size': 256}"])
    assert found.attempts[0].change == {}
    assert found.attempts[0].cost is not None
    # one round proves nothing
    assert found.keep
    # two engines do not fit either
    assert found.comparison is None or not any(one.together for one in found.comparison.rounds)


@pytest.mark.anyio
async def test_two_engines_are_measured_in_turns_also_without_memory_for_both(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"models": {"general": TINY_MODEL}})
    load = load_of(PROMPTS, "throughput", 4, 2)
    model = config.config.models["general"]
    pairing = Pairing(config, "general", load)
    found = await pairing.round(model, model.model_copy(), range(1))
    assert found.together
    assert found.same == found.replies == 2
    assert len(found.costs) == 1
    pairing.together = False
    found = await pairing.round(model, model.model_copy(), range(1))
    assert not found.together
    assert found.same == found.replies == 2
    # one that fits elsewhere only would be a comparison of places
    pairing.place = frozenset({"gpu0"})
    with pytest.raises(DoesNotFit, match="fits on cpu only, what it is compared with is on gpu0"):
        await pairing.round(model, model, range(1))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["coder"], "no model serves the role 'coder'"),
        (["general", "--apply"], "the file is read-only"),
        (["general", "--plot", "no/p.png"], "no such folder"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    folder(tmp_path).chmod(0o444)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchAIError, match=why) as refused:
        invoke("tune", *arguments)
    assert refused.value.exit_code == 2
