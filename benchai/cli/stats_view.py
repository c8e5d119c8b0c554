"""The tables and plots of ``benchai stats``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchai.cli.render import safe
from benchai.runtime.usage.periods import span, when
from benchai.runtime.usage.plots import bar, can_show_blocks, sparkline
from benchai.runtime.usage.read import Report
from benchai.runtime.usage.row import UsageRow
from benchai.runtime.usage.statistics import Group
from benchai.runtime.usage.targets import Target, counted, share_of

# more than any row: Rich cuts what is wider
PIPE_WIDTH = 10_000
BAR = 16
#: Columns of a terminal below which the table leaves out what it can.
WIDE = 116
VERDICTS = {"pass": "green", "fail": "bold red", "no data": "dim"}
FIGURES = ("requests", "errors", "p50", "p95", "first p50", "first p95", "tok/s", "tokens", "cached", "hits", "rated")
NARROW = ("requests", "errors", "p50", "p95", "first p95", "tok/s", "cached")


def print_report(report: Report, console: Console | None = None) -> None:
    """A report on the terminal."""
    console = console or _stdout()
    plain = not can_show_blocks(console.encoding)
    total = report.summary.total
    facts = [counted(total.requests, "request"), counted(total.errors, "error"), f"{total.cancelled} cancelled"]
    period = f"{when(report.since)} to {when(report.until)} ({span(report.until - report.since)})"
    console.print(Text(f"{', '.join(facts)}, {period}", "bold"))
    if not total.requests:
        console.print("no request came in this time; leave --since out to see all")
        return
    _plots(console, report, plain)
    console.print(_table(report, plain, console.width >= WIDE))
    console.print()
    for target in report.targets:
        console.print(_line(target))


def print_rows(rows: Sequence[UsageRow], console: Console | None = None) -> None:
    """Some requests, one a line."""
    table = Table(box=None, pad_edge=False)
    for title in ("id", "time", "asked", "role", "model", "tokens", "first", "total", "cache", "outcome", "feedback"):
        table.add_column(title, no_wrap=title in ("id", "time"))
    for row in rows:
        tokens = f"{_count(row.tokens_in)} + {_count(row.tokens_out)}"
        who = (row.asked, row.role, row.model)
        seconds = (_seconds(row.first_token_s), _seconds(row.total_s))
        opinion = "" if row.feedback is None else f"{row.feedback:+g}"
        cells = (row.id, when(row.time), *who, tokens, *seconds, row.cache, row.outcome, opinion)
        table.add_row(*(Text(safe(cell or "-" * (cell is None))) for cell in cells))
    (console or _stdout()).print(table)


def _stdout() -> Console:
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=PIPE_WIDTH)


def _plots(console: Console, report: Report, plain: bool) -> None:
    buckets = report.summary.timeline
    most = max(one.requests for one in buckets)
    slowest = max((one.total_p50 or 0.0 for one in buckets), default=0.0)
    each = span((report.until - report.since) / len(buckets))
    left, right = ("|", "|") if plain else ("▕", "▏")
    for name, values, note in (
        ("requests", [float(one.requests) for one in buckets], f"at most {most:,} in {each}"),
        ("median", [one.total_p50 for one in buckets], f"at most {slowest:.2f} s"),
        ("errors", [float(one.errors) for one in buckets], ""),
    ):
        if any(values):
            console.print(Text(f"{name:<9}{left}{sparkline(values, plain=plain)}{right} {note}".rstrip()))
    console.print()


def _table(report: Report, plain: bool, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(report.by, no_wrap=True)
    titles = FIGURES if wide else NARROW
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("p95", no_wrap=True)
    top = max((one.total_p95 or 0.0 for one in report.summary.groups), default=0.0)
    for group in report.summary.groups:
        name = Text(safe(group.name)) if group.name else Text("-", "dim")
        drawn = Text(bar(group.total_p95, top, BAR, plain=plain), "blue")
        table.add_row(name, *_cells(group, titles), *([drawn] if wide else []))
    if len(report.summary.groups) > 1:
        table.add_row(Text("all", "bold"), *_cells(report.summary.total, titles))
    return table


def _cells(group: Group, titles: Sequence[str]) -> list[str]:
    cells = (
        f"{group.requests:,}",
        f"{group.errors:,}",
        _seconds(group.total_p50),
        _seconds(group.total_p95),
        _seconds(group.first_token_p50),
        _seconds(group.first_token_p95),
        "-" if group.tokens_per_s is None else f"{group.tokens_per_s:.1f}",
        f"{group.tokens_in + group.tokens_out:,}",
        _share(group.cached),
        _share(group.hits),
        "-" if group.feedback is None else f"{group.feedback:+.2f}",
    )
    by_title = dict(zip(FIGURES, cells, strict=True))
    return [by_title[title] for title in titles]


def _line(target: Target) -> Text:
    text = Text(f"{target.verdict:<8}", VERDICTS[target.verdict])
    text.append(f" {target.name + ' ' + target.goal:<24} ", "default")
    text.append(f"{target.measured}  " if target.measured else "", "bold")
    return text.append(safe(target.detail), "dim")


def _seconds(seconds: float | None) -> str:
    return (
        "-" if seconds is None else f"{seconds:.2f} s" if seconds >= 0.1 or seconds <= 0 else f"{seconds * 1000:.1f} ms"
    )


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _share(share: float | None) -> str:
    return "-" if share is None else share_of(share)
