"""How figures are shown: bars, sparklines, tables, the picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from benchai.cli.stats_view import print_report, print_rows
from benchai.errors import UsageError
from benchai.runtime.usage.picture import MOST_GROUPS, VERDICTS, WIDTH, draw, save_png
from benchai.runtime.usage.plots import bar, can_show_blocks, sparkline
from benchai.runtime.usage.read import Report
from benchai.runtime.usage.row import UsageRow
from benchai.runtime.usage.statistics import Measured, summarise
from benchai.runtime.usage.targets import judge
from tests.unit.test_usage import measured

HOUR = 3600.0


def report(*rows: Measured) -> Report:
    summary = summarise(rows, 0.0, 48 * HOUR)
    return Report(0.0, 48 * HOUR, "role", summary, [], None, judge(summary.facts, [], 0, None))


def some(name: str | None, count: int = 1, **known: Any) -> list[Measured]:
    return [measured(name=name, role=name, time=number * HOUR, **known) for number in range(count)]


def shown(found: Report, width: int = 200, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    print_report(found, Console(file=stream, width=width, highlight=False))
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("value", "drawn"),
    [(0, ""), (None, ""), (-1, ""), (float("nan"), ""), (0.001, "▏"), (0.5, "██"), (0.53125, "██▏"), (1, "████")],
)
def test_a_bar(value: float | None, drawn: str) -> None:
    assert bar(value, 1, 4) == drawn


def test_bars_that_are_cut_plain_or_of_nothing() -> None:
    assert bar(9, 1, 4) == "████"
    assert (bar(0.01, 1, 4, plain=True), bar(0.5, 1, 4, plain=True), bar(1, 1, 4, plain=True)) == ("#", "##", "####")
    assert bar(1, 0, 4) == ""


def test_a_sparkline() -> None:
    assert sparkline([0, 1, 2, 4, 8, None]) == " ▁▂▄█ "
    assert sparkline([0.01, 100]) == "▁█"
    assert sparkline([0, 8], plain=True) == " @"
    assert sparkline([]) == ""
    assert sparkline([None, 0.0]) == "  "


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False), ("nonsense", False)]
)
def test_which_terminals_can_show_blocks(encoding: str | None, can: bool) -> None:
    assert can_show_blocks(encoding) is can


def test_the_report_in_a_wide_terminal() -> None:
    text = shown(report(*some("code", 12, total_s=8.0, first_token_s=0.05), *some("general", 3, total_s=2.0)))
    lines = text.splitlines()
    assert lines[0].startswith("15 requests, 0 errors, 0 cancelled, ")
    assert lines[0].endswith("(2 d)")
    assert next(line for line in lines if line.startswith("requests")).count("█") == 3
    code = next(line for line in lines if line.startswith("code "))
    assert code.split()[1:9] == ["12", "0", "8.00", "s", "8.00", "s", "50.0", "ms"]
    assert code.rstrip().endswith("█" * 16)
    assert next(line for line in lines if line.startswith("general")).rstrip().endswith("-  ████")
    assert next(line for line in lines if line.startswith("all")).split()[1] == "15"
    assert "pass     code response < 10 s     p95 8.00 s  median 8.00 s, 12 requests of the role code" in lines
    assert sum(line.startswith("no data") for line in lines) == 2


def test_the_report_in_a_narrow_terminal_is_not_wrapped() -> None:
    text = shown(report(*some("code", 1200, total_s=8.0, tokens_in=10**6, tokens_cached=10)), width=80)
    code = next(line for line in text.splitlines() if line.startswith("code "))
    assert code.split()[1:3] == ["1,200", "0"]
    assert "8.00 s" in code
    assert "█" not in code


def test_the_report_in_a_terminal_without_blocks() -> None:
    text = shown(report(*some("code", 2)), encoding="ascii")
    assert "#" * 16 in text
    assert "requests |@@" in text


def test_names_cannot_steer_the_terminal() -> None:
    text = shown(report(*some("\x1b[2Jred[bold]")))
    assert "[2Jred[bold]" in text
    assert "\x1b" not in text


def test_a_period_without_requests() -> None:
    text = shown(report())
    assert "0 requests" in text
    assert "--since" in text
    assert "pass" not in text


def test_rows_in_a_list() -> None:
    raw = io.StringIO()
    row = UsageRow(
        id="req-1", time=0.0, asked="auto", role="code", tokens_in=1200, total_s=2.5, feedback=-1, key="\x07"
    )
    print_rows([row], Console(file=raw, width=200))
    line = raw.getvalue().splitlines()[1]
    assert line.startswith("req-1 ")
    assert line.split()[3:] == ["auto", "code", "-", "1,200", "+", "-", "-", "2.50", "s", "none", "ok", "-1"]


def colours(picture: Image.Image) -> set[Any]:
    return {colour for _, colour in picture.getcolors(1 << 20) or []}


def rgb(name: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(name[1:]))


def test_the_picture_shows_verdicts_errors_and_bars() -> None:
    fine = report(*some("code", 5, total_s=4.0))
    assert rgb(VERDICTS["fail"]) not in colours(draw(fine))
    poor = report(*some("code", 5, total_s=40.0), *some("code", 3, outcome="QueueFull"))
    assert rgb(VERDICTS["fail"]) in colours(draw(poor))
    assert draw(poor).width == WIDTH


def test_the_picture_takes_any_report() -> None:
    names = [*(f"r{number}" for number in range(MOST_GROUPS + 5)), None, "日本\x00\ud800" * 50]
    many = report(*(row for name in names for row in some(name)), *some("none answered", 2, outcome="Unavailable"))
    assert draw(many).height < 1500
    assert draw(report()).width == WIDTH


def test_the_picture_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "stats"
    save_png(report(*some("code")), file)
    with Image.open(file) as picture:
        assert picture.format == "PNG"
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(report(), tmp_path / "none" / "stats.png")
