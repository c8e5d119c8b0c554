"""``benchai bench`` without an engine: what is chosen, compared, judged, shown and drawn."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchai.cli.app import app
from benchai.cli.bench import at_a_time
from benchai.cli.bench_view import print_report, print_rows
from benchai.config import LoadedConfig
from benchai.config.models import Config
from benchai.errors import BenchAIError, ModelFileError, UsageError
from benchai.runtime.measure.history import Row, Verdict, compare, earlier, last_rows, prove, save
from benchai.runtime.measure.prompts import Prompts, standard_mix
from benchai.runtime.measure.report import Measured, Report, choose
from benchai.runtime.measure.speed import FIRST, GENERATION, PROMPT, TOGETHER, Level, ModelSpeed, Work, batches
from benchai.runtime.measure.speed_picture import BAND, BAR, draw, save_png
from benchai.runtime.measure.targets import Judgement, judge
from benchai.runtime.placement.gpu import Gpu

RTX_3060 = Gpu(0, "NVIDIA GeForce RTX 3060", 12_288, 11_000, "555")


def level(generation: tuple[float, ...] = (10.0, 11.0, 12.0), concurrent: int = 1, first: float = 0.5) -> Level:
    count = len(generation)
    others: Mapping[str, tuple[float, ...]] = {
        PROMPT.key: (100.0,) * count,
        TOGETHER.key: (5.0,) * count,
        FIRST.key: (first,) * count,
    }
    return Level(concurrent, max(0, concurrent - 2), 4 * count, {**others, GENERATION.key: generation}, first)


def speed(*levels: Level, **changes: object) -> ModelSpeed:
    made = ModelSpeed(
        model="m",
        roles=("code",),
        kind="text",
        fingerprint="file",
        parameters=7_000_000_000,
        settings="s",
        engine="e 1",
        work="w",
        devices=("cpu",),
        memory_mib={"cpu": 4000},
        load_seconds=2.0,
        slots=2,
        context=4096,
        levels=levels or (level(),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def report(*measured: Measured, **failed: BenchAIError) -> Report:
    return Report("machine", 1e9, Work(standard_mix()), measured, failed)


def configured(models: dict[str, object], roles: dict[str, str]) -> LoadedConfig:
    return LoadedConfig(Config.model_validate({"models": models, "roles": roles}), None)


# ---- words of the command line


@pytest.mark.parametrize(("text", "numbers"), [("1,2,4", (1, 2, 4)), (" 8 , 1,8", (1, 8)), ("256", (256,))])
def test_how_many_at_a_time(text: str, numbers: tuple[int, ...]) -> None:
    assert at_a_time(text) == numbers


@pytest.mark.parametrize("text", ["", "1,", "0", "257", "-1", "1;2", "two", "1.5", "²", "9" * 5000, "0" * 8 + "1999"])
def test_what_is_no_number_of_requests(text: str) -> None:
    with pytest.raises(UsageError, match="--concurrent"):
        at_a_time(text)


@pytest.mark.parametrize(
    "words", [["--concurrent", "x"], ["speed", "--concurrent", "x"], ["code", "--concurrent", "x"]]
)
def test_speed_is_the_default_command(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["bench", *words])
    assert isinstance(done.exception, UsageError), done
    assert "'x'" in done.exception.message


def test_the_group_explains_itself_and_knows_its_commands() -> None:
    done = CliRunner().invoke(app, ["bench", "--help"])
    assert all(f"\n  {name} " in done.output for name in ("speed", "context", "history")), done.output
    assert "--turns" in CliRunner().invoke(app, ["bench", "context", "--help"]).output


# ---- what is measured

FILE = {"file": "m.gguf"}
REMOTE = {"endpoint": "http://127.0.0.1:1/v1", "model": "x"}


def test_each_model_once_for_all_roles_that_write_text() -> None:
    models = {"a": FILE, "b": FILE, "vec": FILE | {"embedding": True}, "far": REMOTE}
    roles = {
        "general": "a",
        "planner": "a",
        "code": "b",
        "embed": "vec",
        "mine": "vec",
        "vision": "b",
        "research": "far",
    }
    said: list[str] = []
    loaded = configured(models, roles | {"vision": "b"})
    assert choose(loaded, [], said.append) == {"a": ["general", "planner"], "b": ["code"]}
    assert choose(loaded, ["code", "b", "code"], said.append) == {"b": ["code", "b"]}
    assert said == ["research: left out, the model 'far' is a remote endpoint"]
    assert choose(loaded, ["embed", "b"], said.append) == {"vec": ["embed"], "b": ["b"]}


def test_roles_that_cannot_be_measured() -> None:
    loaded = configured({"far": REMOTE}, {"general": "far"})
    with pytest.raises(UsageError, match="remote endpoint"):
        choose(loaded, ["general"], print)
    with pytest.raises(UsageError, match="no role of"):
        choose(loaded, [], print)
    with pytest.raises(UsageError, match="'nope'"):
        choose(loaded, ["nope"], print)


def test_batches_are_full() -> None:
    assert batches([1, 2, 3, 4], 2) == [[1, 2], [3, 4]]
    assert batches([1, 2, 3], 2) == [[1, 2], [3, 1]]
    assert batches([1], 4) == [[1, 1, 1, 1]]


def test_work_is_the_same_whatever_the_repeats() -> None:
    work = Work(standard_mix())
    assert replace(work, repeats=9, concurrent=(7,)).key == work.key
    other = Prompts("file", ([{"role": "user", "content": "x"}],))
    assert len({work.key, replace(work, max_tokens=9).key, replace(work, prompts=other).key}) == 3


# ---- the seed's table


@pytest.mark.parametrize(
    ("parameters", "rate", "row"),
    [
        (500_000_000, 99.0, None),
        (3_800_000_000, 60.0, ("3B", "60+", "pass")),
        (3_800_000_000, 59.9, ("3B", "60+", "below")),
        (6_700_000_000, 35.0, ("7B", "30-40", "pass")),
        (7_600_000_000, 55.0, ("7B", "30-40", "pass")),
        (7_600_000_000, 29.0, ("7B", "30-40", "below")),
        (13_000_000_000, 15.0, ("13B", "15-25", "pass")),
        (32_000_000_000, 1.9, ("30B+", "2-5", "below")),
    ],
)
def test_a_speed_beside_the_seeds_table(parameters: int, rate: float, row: tuple[str, str, str] | None) -> None:
    found = judge(parameters, rate, [RTX_3060])
    assert (found and (found.reference.size, found.reference.text, found.verdict)) == row


@pytest.mark.parametrize(
    "gpus",
    [
        [],
        [RTX_3060, RTX_3060],
        [replace(RTX_3060, name="NVIDIA GeForce RTX 3060 Ti")],
        [replace(RTX_3060, name="NVIDIA GeForce RTX 3060 Laptop GPU")],
        [replace(RTX_3060, total_mib=8_192)],
        [replace(RTX_3060, name="NVIDIA GeForce RTX 4090", total_mib=24_576)],
    ],
    ids=str,
)
def test_elsewhere_the_table_is_for_comparison_only(gpus: list[Gpu]) -> None:
    found = judge(7_000_000_000, 1.0, gpus)
    assert found is not None
    assert found.verdict == "for comparison"


# ---- the history


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "measurements.sqlite"


def test_what_is_saved_comes_back(file: Path) -> None:
    assert last_rows(file, 5) == []
    assert not file.exists()
    save(file, speed(level(), level(concurrent=4)), "machine", 10.0)
    four, one = last_rows(file, 5)
    assert (one.concurrent, four.concurrent, one.time, one.requests) == (1, 4, 10.0, 12)
    assert one.figures == level().figures
    assert (one.devices, one.memory_mib, one.load_seconds) == (("cpu",), {"cpu": 4000}, 2.0)
    assert last_rows(file, 1) == [four]


def test_the_last_run_is_of_the_same_file_work_machine_and_level(file: Path) -> None:
    save(file, speed(level((1.0,))), "machine", 10.0)
    others = [speed(fingerprint="other"), speed(work="other"), speed(kind="rerank"), speed(level(concurrent=2))]
    for other in others:
        save(file, other, "machine", 11.0)
    save(file, speed(), "another machine", 11.0)
    save(file, speed(), "machine", 12.0)
    found = earlier(file, speed(), "machine", 1, before=12.0)
    assert [row.figures[GENERATION.key] for row in found] == [(1.0,)]


def test_a_file_under_two_names_is_compared_with_its_own_first(file: Path) -> None:
    save(file, speed(), "machine", 10.0)
    save(file, speed(model="copy"), "machine", 11.0)
    assert [row.model for row in earlier(file, speed(), "machine", 1, before=12.0)] == ["m", "copy"]
    assert [row.model for row in earlier(file, speed(model="new"), "machine", 1, before=12.0)] == ["copy", "m"]


def rows(file: Path, *runs: tuple[float, ...]) -> list[Row]:
    for number, run in enumerate(runs):
        save(file, speed(level(run)), "machine", float(number))
    return earlier(file, speed(), "machine", 1, before=1e9)


@pytest.mark.parametrize(
    ("runs", "now", "verdict"),
    [
        ([(10.0, 10.0, 10.0)], (12.0, 12.0, 12.0), "better"),
        ([(10.0, 10.0, 10.0)], (9.0, 9.0, 9.0), "worse"),
        ([(10.0, 10.0, 10.0)], (10.0, 10.0, 10.0), "noise"),
        # the repeats vary by 1.5 and 1, the medians differ by 2
        ([(9.5, 10.0, 11.0)], (12.0, 12.0, 13.0), "noise"),
        ([(9.9, 10.0, 10.1)], (12.0, 12.0, 13.0), "better"),
        # runs of the same settings vary more than the repeats within them
        ([(13.0, 13.0, 13.0), (10.0, 10.0, 10.0)], (12.0, 12.0, 12.0), "noise"),
        ([(10.0, 10.0)], (12.0, 12.0, 12.0), "too few repeats"),
        ([(10.0, 10.0, 10.0)], (12.0,), "too few repeats"),
    ],
)
def test_a_change_counts_only_above_the_noise(
    file: Path, runs: list[tuple[float, ...]], now: tuple[float, ...], verdict: Verdict
) -> None:
    found = compare(speed(), level(now), rows(file, *runs))
    assert found is not None
    [change] = [change for change in found.changes if change.figure == GENERATION.key]
    assert change.verdict == verdict
    assert change.percent == pytest.approx(100 * (sorted(now)[len(now) // 2] / sorted(runs[-1])[1] - 1))


def test_fewer_seconds_are_better_and_other_settings_are_named(file: Path) -> None:
    assert compare(speed(), level(), []) is None
    past = rows(file, (10.0, 10.0, 10.0))
    found = compare(speed(settings="new", engine="e 2"), level(first=0.25), past)
    assert found is not None
    assert found.other == ("settings", "engine")
    assert {change.figure: change.verdict for change in found.changes}[FIRST.key] == "better"
    same = compare(speed(), level(), past)
    assert same is not None
    assert same.other == ()


def test_a_history_is_proved_before_it_is_needed(file: Path, tmp_path: Path) -> None:
    prove(file)
    save(file, speed(), "machine", 1.0)
    prove(file)
    assert len(last_rows(file, 9)) == 1
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE speeds (a)")
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(BenchAIError, match="no such column"):
        prove(other)
    with pytest.raises(BenchAIError, match="cannot be used"):
        prove(tmp_path)


def test_a_history_that_cannot_be_used(file: Path, tmp_path: Path) -> None:
    save(file, speed(), "machine", 1.0)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(BenchAIError, match=r"newer BenchAI \(version 99"):
        last_rows(file, 1)
    file.write_bytes(b"no database at all, only some text that is long enough")
    with pytest.raises(BenchAIError, match="cannot be used"):
        save(file, speed(), "machine", 1.0)
    (tmp_path / "plain").write_text("")
    with pytest.raises(BenchAIError, match="cannot be used"):
        save(tmp_path / "plain" / "x.sqlite", speed(), "machine", 1.0)


# ---- shown and drawn


def measured(file: Path, judgement: Judgement | None = None) -> Measured:
    past = rows(file, (10.0, 10.0, 10.0))
    now = speed(level((20.0, 20.0, 20.0)), level(concurrent=4))
    found = compare(now, now.levels[0], past)
    assert found is not None
    return Measured(now, {1: found}, judgement, tuple(past))


def shown(what: Report | list[Row]) -> str:
    console = Console(file=StringIO(), width=200, highlight=False)
    if isinstance(what, Report):
        print_report(what, console)
    else:
        print_rows(what, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_table_tells_changes_noise_waiting_and_the_seeds_row(file: Path) -> None:
    text = shown(report(measured(file, judge(7_000_000_000, 20.0, [RTX_3060]))))
    first, second = [line for line in text.splitlines() if line.startswith(("1 ", "4 "))]
    assert "20.0 (+100 %)" in first
    assert "100.0 (+0 % ~)" in first
    assert "2 of 4" in second
    assert "(" not in second
    assert "3060, 7B: 30-40 tok/s: below" in text
    assert "~ no more than" in text
    assert "too few" not in text


def test_a_level_that_was_refused_is_told() -> None:
    refused = "2 at a time: the engine gave up"
    made = report(Measured(speed(refused=refused), {}, None, ()))
    assert f"not measured: {refused}" in shown(made)
    assert made.as_json()["models"][0]["refused"] == refused


def test_past_rows(file: Path) -> None:
    assert "generation tok/s 10.0" in shown(rows(file, (10.0, 10.0, 10.0)))


def test_the_report_is_plain_data(file: Path) -> None:
    made = report(measured(file, judge(7_000_000_000, 20.0, [])), gone=ModelFileError("no file"))
    data = json.loads(json.dumps(made.as_json()))
    [model] = data["models"]
    assert model["levels"][0]["figures"][GENERATION.key] == {"median": 20.0, "values": [20.0, 20.0, 20.0]}
    assert model["levels"][0]["last_run"]["changes"][1]["percent"] == 100.0
    assert model["levels"][1]["last_run"] is None
    assert model["reference"] == {"size": "7B", "low": 30, "high": 40, "verdict": "for comparison"}
    assert data["failed"] == [{"model": "gone", "error": "no file"}]


def test_the_picture_has_bars_and_the_seeds_band(file: Path, tmp_path: Path) -> None:
    plain = measured(file)
    judged = replace(plain, judgement=judge(7_000_000_000, 20.0, [RTX_3060]))
    colours = [{colour for _, colour in draw(report(one)).getcolors(1 << 20) or []} for one in (plain, judged)]
    bar, band = (tuple(bytes.fromhex(code[1:])) for code in (BAR, BAND))
    assert all(bar in found for found in colours)
    assert [band in found for found in colours] == [False, True]
    two = draw(report(plain, replace(plain, past=())))
    assert two.height > draw(report(plain)).height
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(report(plain), tmp_path / "no" / "such.png")
    odd = replace(plain, speed=replace(plain.speed, model="模型\x1b[31m" * 40, roles=("r" * 400,)))
    save_png(report(odd), tmp_path / "odd.txt")
    assert (tmp_path / "odd.txt").read_bytes().startswith(b"\x89PNG")
