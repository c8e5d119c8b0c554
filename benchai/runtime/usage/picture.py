"""The report as a PNG: requests over time, seconds by group, the targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchai.errors import UsageError
from benchai.runtime.usage.periods import when
from benchai.runtime.usage.read import Report
from benchai.runtime.usage.statistics import Group
from benchai.runtime.usage.targets import Target

WIDTH, MARGIN, LINE = 1000, 32, 26
PLOT = 140
NAMES = 200
MOST_GROUPS = 20
INK, PALE, PAPER = "#1f2430", "#8a919e", "#ffffff"
REQUESTS, ERRORS, MEDIAN, SLOW = "#3b6fb6", "#c8443c", "#3b6fb6", "#b9cdea"
VERDICTS = {"pass": "#2e7d4f", "fail": "#c8443c", "no data": PALE}


def save_png(report: Report, file: Path) -> None:
    """Draw a report.

    Raises:
        UsageError: the file cannot be written.
    """
    picture = draw(report)
    try:
        # the ending of the name does not matter
        picture.save(file, format="PNG")
    except (OSError, ValueError) as error:
        raise UsageError(f"the picture {str(file)!r} cannot be written: {error}", hint="check the path") from error


def draw(report: Report) -> Image.Image:
    """The picture of a report."""
    groups = report.summary.groups[:MOST_GROUPS]
    height = 2 * MARGIN + PLOT + LINE * (len(groups) + len(report.targets) + 9)
    page = _Page(Image.new("RGB", (WIDTH, height), PAPER))
    page.title(f"{report.summary.total.requests:,} requests, {when(report.since)} to {when(report.until)}")
    _timeline(page, report)
    _groups(page, report.by, groups)
    _targets(page, report.targets)
    return page.image.crop((0, 0, WIDTH, round(page.y) + MARGIN))


@dataclass
class _Page:
    """A picture that is filled from above."""

    image: Image.Image
    y: float = MARGIN

    def __post_init__(self) -> None:
        self._draw = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(size=15)
        self._large = ImageFont.load_default(size=19)

    def title(self, text: str) -> None:
        self._draw.text((MARGIN, self.y), _latin(text), INK, self._large)
        self.y += LINE * 1.6

    def text(self, x: float, text: str, colour: str = INK, width: float = WIDTH) -> None:
        shown = _latin(text)
        while shown and self._draw.textlength(shown, self._font) > width:
            shown = shown[:-1]
        self._draw.text((x, self.y), shown, colour, self._font)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        if width > 0 and height > 0:
            self._draw.rectangle((x, y, x + max(width, 1), y + max(height, 1)), fill=colour)

    def down(self, lines: float = 1.0) -> None:
        self.y += LINE * lines


def _timeline(page: _Page, report: Report) -> None:
    buckets = report.summary.timeline
    top = max((one.requests for one in buckets), default=0) or 1
    step = (WIDTH - 2 * MARGIN) / len(buckets)
    foot = page.y + PLOT
    for number, one in enumerate(buckets):
        x = MARGIN + number * step
        high = PLOT * one.requests / top
        page.box(x, foot - high, step - 2, high, REQUESTS)
        page.box(x, foot - PLOT * one.errors / top, step - 2, PLOT * one.errors / top, ERRORS)
    page.box(MARGIN, foot, WIDTH - 2 * MARGIN, 1, PALE)
    page.y = foot + 6
    page.text(MARGIN, f"requests over time, {top:,} at most in a bar; errors in red", PALE)
    page.down(1.8)


def _groups(page: _Page, by: str, groups: tuple[Group, ...]) -> None:
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


def _targets(page: _Page, targets: list[Target]) -> None:
    page.title("targets")
    for one in targets:
        page.text(MARGIN, one.verdict, VERDICTS[one.verdict])
        page.text(MARGIN + 80, f"{one.name} {one.goal}", width=NAMES)
        page.text(MARGIN + 80 + NAMES, one.measured)
        page.text(MARGIN + 180 + NAMES, one.detail, PALE, WIDTH - 2 * MARGIN - 180 - NAMES)
        page.down()


def _latin(text: str) -> str:
    """What the built-in font can draw."""
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
