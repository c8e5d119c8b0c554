"""The tables of ``benchai bench``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchai.cli.render import safe
from benchai.runtime.measure.history import Change, Comparison, Row
from benchai.runtime.measure.report import Measured, Report
from benchai.runtime.measure.speed import FIGURES, FigureName, Level, ModelSpeed
from benchai.runtime.usage.periods import when
from benchai.runtime.usage.targets import counted

# more than any row: Rich cuts what is wider
PIPE_WIDTH = 10_000
LEAST_WIDTH = 140
NOISE, UNSURE = "~", "?"
COLOURS = {"better": "green", "worse": "red"}


def stdout() -> Console:
    """The console for data: neither a pipe nor a narrow terminal, which breaks the lines itself, cuts a table."""
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    least = LEAST_WIDTH if console.is_terminal else PIPE_WIDTH
    return Console(highlight=False, emoji=False, soft_wrap=True, width=max(console.width, least))


def plain_table(titles: Sequence[str], text_columns: int = 1) -> Table:
    """A table without lines; all but the first columns are figures."""
    table = Table(box=None, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number >= text_columns else "left", no_wrap=True)
    return table


def print_report(report: Report, console: Console | None = None) -> None:
    """All measured models."""
    console = console or stdout()
    for one in report.measured:
        _print_model(console, one)
    signs = {change.verdict for one in report.measured for each in one.beside.values() for change in each.changes}
    if "noise" in signs:
        console.print(Text(f"{NOISE} no more than repeats, or runs of the same settings, vary", "dim"))
    if "too few repeats" in signs:
        console.print(Text(f"{UNSURE} too few repeats to tell a change from noise (--repeats 3)", "dim"))


def _print_model(console: Console, one: Measured) -> None:
    speed = one.speed
    names = FIGURES[speed.kind]
    console.print(Text(f"{speed.model} ({', '.join(speed.roles)})", "bold"))
    console.print(Text(safe(facts(speed))))
    table = plain_table(["at a time", *(name.title for name in names), "p95", "waiting"])
    for level in speed.levels:
        table.add_row(str(level.concurrent), *_cells(level, names, one.beside.get(level.concurrent)))
    console.print(table)
    for line in notes(one):
        console.print(Text(line))
    console.print()


def facts(speed: ModelSpeed) -> str:
    """Where it ran and what it took."""
    memory = ", ".join(f"{device} {mib:,} MiB" for device, mib in speed.memory_mib.items())
    loaded = f"loaded in {seconds(speed.load_seconds)}"
    slots = counted(speed.slots, "slot")
    return f"{memory}, {loaded}, {slots}, context {speed.context:,}, {speed.engine}"


def notes(one: Measured) -> list[str]:
    """The last run and the seed's table, in words."""
    found = [f"not measured: {one.speed.refused}"] if one.speed.refused else []
    past = next(iter(one.beside.values()), None)
    if past is not None:
        other = f", then with other {' and '.join(past.other)}" if past.other else ""
        found.append(f"in brackets: the change since {when(past.time)}{other}")
    if one.judgement is not None:
        reference = one.judgement.reference
        verdict = one.judgement.verdict
        said = "for comparison, this was no RTX 3060 of 12 GB" if verdict == "for comparison" else verdict
        found.append(f"seed's table, RTX 3060, {reference.size}: {reference.text} tok/s: {said}")
    return found


def _cells(level: Level, names: Sequence[FigureName], beside: Comparison | None) -> list[Text]:
    changes = {change.figure: change for change in beside.changes} if beside else {}
    cells = [_cell(name, level.median(name), changes.get(name.key)) for name in names]
    waiting = f"{level.waiting} of {level.concurrent}" if level.waiting else "-"
    return [*cells, Text(seconds(level.slow_seconds)), Text(waiting)]


def _cell(name: FigureName, value: float, change: Change | None) -> Text:
    text = Text(figure(name, value))
    if change is None:
        return text
    sign = {"noise": f" {NOISE}", "too few repeats": f" {UNSURE}"}.get(change.verdict, "")
    return text.append(f" ({change.percent:+.0f} %{sign})", COLOURS.get(change.verdict, "dim"))


def figure(name: FigureName, value: float) -> str:
    """A figure with as many digits as it deserves."""
    return seconds(value) if name.key.endswith("_seconds") and "per_second" not in name.key else f"{value:,.1f}"


def seconds(value: float) -> str:
    """Seconds, or milliseconds below a tenth."""
    return f"{value:.2f} s" if value >= 0.1 or value <= 0 else f"{value * 1000:.1f} ms"


def print_rows(rows: Sequence[Row], console: Console | None = None) -> None:
    """Past measurements, one a line."""
    titles = ("time", "model", "engine", "at a time", "figures")
    table = plain_table(titles, text_columns=3)
    table.columns[-1].justify = "left"
    for row in rows:
        table.add_row(when(row.time), safe(row.model), safe(row.engine), str(row.concurrent), figures_of(row))
    (console or stdout()).print(table)


def figures_of(row: Row) -> str:
    """The medians of a row in words."""
    each = ((name, row.figures.get(name.key)) for name in FIGURES[row.kind])
    return ", ".join(f"{name.title} {figure(name, statistics.median(values))}" for name, values in each if values)
