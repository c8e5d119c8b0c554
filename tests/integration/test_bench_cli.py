"""``benchai bench`` on real engines: speed with its history and picture, and contexts."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchai.config import LoadedConfig
from benchai.errors import EndpointLost
from benchai.runtime.measure.history import history_file, last_rows
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.measure.report import measure_all
from benchai.runtime.measure.request import ask
from benchai.runtime.measure.rig import started
from benchai.runtime.measure.speed import Work
from tests.integration.helpers import (
    TINY_MODEL,
    Done,
    benchai,
    commands,  # noqa: F401
    loaded,
    running,
    tiny_config,
    until,
    write_config,
)

QUICK = ("--max-tokens", "4", "--json")


def models(done: Done) -> list[dict[str, Any]]:
    assert done.code == 0, done
    done.clean()
    found: list[dict[str, Any]] = json.loads(done.out)["models"]
    return found


def median(level: dict[str, Any], figure: str) -> float:
    value: float = level["figures"][figure]["median"]
    return value


def test_speed_is_measured_kept_and_compared(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config(slots=2))
    (tmp_path / "mine.txt").write_text("What is 2 + 3?\n\nWhat is 4 + 5?\n\nWho wrote it?", encoding="utf-8")
    words = ("general", "--prompts", "mine.txt", "--concurrent", "1,3", "--repeats", "3", *QUICK)
    done = benchai("bench", *words, "--png", "speed.png", cwd=tmp_path)
    [tiny] = models(done)
    one, three = tiny["levels"]
    assert (tiny["model"], tiny["roles"], tiny["slots"], tiny["reference"]) == ("tiny", ["general"], 2, None)
    assert [one["requests"], three["requests"], one["waiting"], three["waiting"]] == [9, 9, 0, 1]
    for level in (one, three):
        assert all(value > 0 for figure in level["figures"].values() for value in figure["values"]), level
        assert level["slow_seconds"] >= median(level, "first_token_seconds")
        assert level["last_run"] is None
    assert tiny["memory_mib"]["cpu"] > 0
    assert tiny["load_seconds"] > 0
    with Image.open(tmp_path / "speed.png") as picture:
        assert picture.format == "PNG"

    write_config(tmp_path, tiny_config(slots=2, batch_size=256))
    [again] = models(benchai("bench", *words, cwd=tmp_path))
    beside = again["levels"][1]["last_run"]
    assert beside["other"] == ["settings"]
    [change] = [change for change in beside["changes"] if change["figure"] == "prompt_tokens_per_second"]
    assert change["before"] == median(three, "prompt_tokens_per_second")
    assert change["now"] == median(again["levels"][1], "prompt_tokens_per_second")
    assert len(last_rows(history_file(), 100)) == 4
    listed = json.loads(benchai("bench", "history", "--last", "3", "--json", cwd=tmp_path).out)
    assert [row["concurrent"] for row in listed] == [3, 1, 3]


def test_vectors_and_scores_beside_a_model_that_does_not_fit(tmp_path: Path) -> None:
    vectors = {"vec": TINY_MODEL | {"embedding": True, "pooling": "mean"}, "rank": TINY_MODEL | {"rerank": True}}
    large = {"large": TINY_MODEL | {"context": 2_000_000_000}}
    write_config(tmp_path, {"models": vectors | large, "roles": {"embed": "vec", "general": "large"}})
    words = ("embed", "rank", "general", "--concurrent", "2", "--repeats", "1", "--json")
    done = benchai("bench", *words, cwd=tmp_path)
    assert done.code == 2, done
    done.clean()
    report = json.loads(done.out)
    assert [(one["model"], one["kind"]) for one in report["models"]] == [("vec", "embedding"), ("rank", "rerank")]
    for one in report["models"]:
        assert median(one["levels"][0], "texts_per_second") > 0, one
        assert median(one["levels"][0], "prompt_tokens_per_second") > 0, one
    [failed] = report["failed"]
    assert failed["model"] == "large"
    assert "needs" in failed["error"]
    assert "hint: stop what holds memory" in done.err
    assert {row.model for row in last_rows(history_file(), 100)} == {"vec", "rank"}
    benchai("bench", "general", cwd=tmp_path).refused("'large' needs", "free are")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "'nope'"),
        (["far"], "remote endpoint"),
        (["general", "--concurrent", "0"], "'0'"),
        (["general", "--prompts", "gone.txt"], "gone.txt"),
        (["context", "vec"], "writes no text"),
        (["context", "far"], "remote endpoint"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused_before_an_engine_starts(
    tmp_path: Path, words: list[str], said: str
) -> None:
    far = {"endpoint": "http://127.0.0.1:1/v1", "model": "x"}
    vec = TINY_MODEL | {"embedding": True}
    write_config(tmp_path, {"models": {"tiny": TINY_MODEL, "far": far, "vec": vec}, "roles": {"general": "tiny"}})
    benchai("bench", *words, cwd=tmp_path).refused(said)


def test_an_interrupt_ends_the_engine_and_keeps_nothing(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    with running("bench", "general", "--repeats", "1000", "--concurrent", "1", cwd=tmp_path) as cli:
        until(lambda: "1 at a time" in cli.stderr.read_text(encoding="utf-8"))
        cli.process.send_signal(signal.SIGINT)
        done = cli.end()
    assert (done.code, done.out) == (130, ""), done
    done.clean()
    assert last_rows(history_file(), 1) == []


def test_what_only_one_request_at_a_time_has_room_for(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config(slots=2, context=512))
    (tmp_path / "mine.txt").write_text("word and more " * 110 + "\n\n" + "word or more " * 110, encoding="utf-8")
    # replies that take a while, so that the two requests do meet
    words = ("general", "--prompts", "mine.txt", "--concurrent", "1,2", "--repeats", "3", "--max-tokens", "140")
    [tiny] = models(benchai("bench", *words, "--json", cwd=tmp_path))
    assert [one["concurrent"] for one in tiny["levels"]] == [1]
    assert "2 at a time: the engine gave up: Context size" in tiny["refused"]
    assert [row.concurrent for row in last_rows(history_file(), 9)] == [1]
    (tmp_path / "mine.txt").write_text("word and more " * 500, encoding="utf-8")
    benchai("bench", *words, cwd=tmp_path).refused("refused the request", "hint: if it is too long", code=1)


def test_no_place_for_the_result_is_told_before_the_measurement(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    done = benchai("bench", "general", "--png", "none/x.png", cwd=tmp_path)
    done.refused("'none/x.png'", "folder")
    history_file().mkdir(parents=True)
    done = benchai("bench", "general", cwd=tmp_path)
    done.refused("measurements.sqlite", code=1)
    assert "starting" not in done.err


async def asked_a_dead_engine(config: LoadedConfig) -> None:
    async with started(config, "tiny") as rig, started(config, "tiny"):
        os.kill(rig.ready.pid, signal.SIGKILL)
        await ask(rig.ready.root, [{"role": "user", "content": "Hi"}], 64)


@pytest.mark.anyio
async def test_what_is_lost_later_takes_no_measurement_with_it(tmp_path: Path) -> None:
    config = loaded(tmp_path, tiny_config())

    def spoil(step: str) -> None:
        if "at a time" in step:
            history_file().unlink()
            history_file().mkdir()

    work = Work(Prompts("test", ([{"role": "user", "content": "Hi"}],)), (1,), 1, 2)
    report = await measure_all(config, {"tiny": ["general"]}, work, spoil, lambda event: None)
    [one] = report.measured
    assert len(one.speed.levels) == 1
    assert report.unkept is not None
    assert "measurements.sqlite" in report.as_json()["history_error"]
    # an engine that ends in the middle is named, and its log
    with pytest.raises(EndpointLost, match=r"^model 'tiny': the engine at") as caught:
        await asked_a_dead_engine(config)
    assert "tiny.measured.log" in str(caught.value.hint)


def test_what_is_evaluated_again_in_conversations(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config(slots=2))
    done = benchai("bench", "context", "--turns", "4", "--max-tokens", "8", "--json", cwd=tmp_path)
    assert done.code == 0, done
    done.clean()
    report = json.loads(done.out)
    growing, alike, turns, bound, dropped, cleared, tasks = report["layouts"]
    # all of it is evaluated without the cache; with it, no more than what is new
    assert all(turn["before"]["evaluated_tokens"] == turn["before"]["prompt_tokens"] for turn in growing["turns"])
    grown = [turn["after"] for turn in growing["turns"]]
    assert all(
        new["evaluated_tokens"] <= new["prompt_tokens"] - old["prompt_tokens"] for old, new in itertools.pairwise(grown)
    )
    assert alike["saved"] > 0.3
    # from the third turn on, what the other session pushed out comes back from --cache-ram
    assert [turn["saved"] > 0.5 for turn in turns["turns"]][4:] == [True] * 4
    assert [turn["before"] for turn in bound["turns"]] == [turn["after"] for turn in turns["turns"]]
    assert [turn["after"]["prompt_tokens"] for turn in bound["turns"]][:2] == [
        growing["turns"][0]["after"]["prompt_tokens"]
    ] * 2
    assert dropped["saved"] > 0.2
    # the two replays may begin beside other idle slots: a few tokens of the template
    assert abs(cleared["saved"]) < 0.02
    assert tasks["turns"][3]["after"]["prompt_tokens"] < tasks["turns"][3]["before"]["prompt_tokens"] / 2
    assert report["cache_ram_tokens"] > report["context"]


def test_a_conversation_that_is_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config(context=512))
    done = benchai("bench", "context", "--turns", "6", cwd=tmp_path)
    done.refused("context", "fewer --turns", code=1)
