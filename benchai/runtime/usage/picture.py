"""The report as a PNG: requests over time, seconds by group, the targets."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from benchai.runtime import picture
from benchai.runtime.picture import BLUE, GREEN, MARGIN, PALE, RED, WIDTH, Page
from benchai.runtime.usage.periods import when
from benchai.runtime.usage.read import Report
from benchai.runtime.usage.statistics import Group
from benchai.runtime.usage.targets import Target

LINE, LETTERS = 26, 15
PLOT = 140
NAMES = 200
MOST_GROUPS = 20
REQUESTS, ERRORS, MEDIAN, SLOW = BLUE, RED, BLUE, "#b9cdea"
VERDICTS = {"pass": GREEN, "fail": RED, "no data": PALE}


def save_png(report: Report, file: Path) -> None:
    """Draw a report.

    Raises:
        UsageError: the file cannot be written.
    """
    picture.save_png(draw(report), file)


def draw(report: Report) -> Image.Image:
    """The picture of a report."""
    groups = report.summary.groups[:MOST_GROUPS]
    height = 2 * MARGIN + PLOT + LINE * (len(groups) + len(report.targets) + 9)
    page = Page(height, LINE, LETTERS)
    page.title(f"{report.summary.total.requests:,} requests, {when(report.since)} to {when(report.until)}")
    _timeline(page, report)
    _groups(page, report.by, groups)
    _targets(page, report.targets)
    return page.finished()


def _timeline(page: Page, report: Report) -> None:
    buckets = report.summary.timeline
    top = max((one.requests for one in buckets), default=0) or 1
    step = (WIDTH - 2 * MARGIN) / len(buckets)
    foot = page.y + PLOT
    for number, one in enumerate(buckets):
        x = MARGIN + number * step
        high = PLOT * one.requests / top
        if one.requests:
            page.box(x, foot - high, step - 2, high, REQUESTS)
        if one.errors:
            page.box(x, foot - PLOT * one.errors / top, step - 2, PLOT * one.errors / top, ERRORS)
    page.box(MARGIN, foot, WIDTH - 2 * MARGIN, 1, PALE)
    page.y = foot + 6
    page.text(MARGIN, f"requests over time, {top:,} at most in a bar; errors in red", PALE)
    page.down(1.8)


def _groups(page: Page, by: str, groups: tuple[Group, ...]) -> None:
    page.title(f"seconds by {by}: median, and p95 (pale)")
    top = max((one.total_p95 or 0.0 for one in groups), default=0.0) or 1.0
    room = WIDTH - 2 * MARGIN - NAMES - 260
    left = MARGIN + NAMES
    for one in groups:
        page.text(MARGIN, one.name or "-", width=NAMES - 10)
        if one.total_p50 is None or one.total_p95 is None:
            figures = f"{one.requests:,} requests, none answered"
        else:
            page.box(left, page.y + 3, room * one.total_p95 / top, 13, SLOW)
            page.box(left, page.y + 3, room * one.total_p50 / top, 13, MEDIAN)
            figures = f"{one.total_p50:.2f} / {one.total_p95:.2f} s, {one.requests:,} requests"
        page.text(left + room + 12, figures, PALE)
        page.down()
    page.down(0.8)


def _targets(page: Page, targets: list[Target]) -> None:
    page.title("targets")
    for one in targets:
        page.text(MARGIN, one.verdict, VERDICTS[one.verdict])
        page.text(MARGIN + 80, f"{one.name} {one.goal}", width=NAMES)
        page.text(MARGIN + 80 + NAMES, one.measured)
        page.text(MARGIN + 180 + NAMES, one.detail, PALE)
        page.down()
