"""A tune as a PNG: the cost of each trial, the best so far, and the rounds of the proof."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchai.runtime import picture
from benchai.runtime.picture import BLUE, GREEN, INK, MARGIN, PALE, RED, WIDTH, Page
from benchai.runtime.tune.recommend import Recommendation, headline, percent

HEIGHT, LINE, PLOT = 1000, 24, 260
LETTERS = 105
TRIAL, BEST, BASE, FAILED = BLUE, GREEN, PALE, RED
DOT = 4


def save_png(found: Recommendation, file: Path) -> None:
    """Draw a tune.

    Raises:
        UsageError: the file cannot be written.
    """
    picture.save_png(draw(found), file)


def draw(found: Recommendation) -> Image.Image:
    """The picture of a tune."""
    page = Page(HEIGHT, LINE)
    page.title(f"tune {found.role}: {found.model}, {found.goal}")
    for line in textwrap.wrap(headline(found), LETTERS):
        page.row(line)
    page.down(0.6)
    _trials(page, found)
    _proof(page, found)
    return page.finished()


@dataclass(frozen=True)
class _Frame:
    """Where a plot stands, and which cost its foot and its top mean."""

    top: float
    low: float
    high: float
    count: int

    def at(self, place: int, cost: float) -> tuple[float, float]:
        share = (cost - self.low) / (self.high - self.low)
        x = MARGIN + (place + 0.5) * (WIDTH - 2 * MARGIN) / max(self.count, 1)
        return x, self.top + PLOT * (1 - min(max(share, 0.0), 1.0))


def _trials(page: Page, found: Recommendation) -> None:
    costs = [one.cost for one in found.attempts if one.cost is not None]
    page.row(f"{found.unit}, by trial; green: the best so far, grey: your settings, red: given up", PALE)
    if not costs:
        page.row("no trial was measured to the end", PALE)
        return
    low, high = min(costs), max(costs)
    room = (high - low) * 0.08 or low * 0.1 or 1.0
    frame = _Frame(page.y, low - room, high + room, len(found.attempts))
    _lines(page, found, frame)
    _dots(page, found, frame)
    page.y = frame.top + PLOT + 6
    page.row(f"from {low:.4g} to {high:.4g} s, {len(found.attempts)} trials", PALE)
    page.down(0.5)


def _lines(page: Page, found: Recommendation, frame: _Frame) -> None:
    foot = frame.top + PLOT
    page.pen.line([(MARGIN, foot), (WIDTH - MARGIN, foot)], PALE)
    base = next((one.cost for one in found.attempts if not one.change and one.cost is not None), None)
    if base is not None:
        y = frame.at(0, base)[1]
        page.pen.line([(MARGIN, y), (WIDTH - MARGIN, y)], BASE)
    best: float | None = None
    points = []
    for place, one in enumerate(found.attempts):
        if one.cost is not None:
            best = one.cost if best is None else min(best, one.cost)
        if best is not None:
            points.append(frame.at(place, best))
    if len(points) > 1:
        page.pen.line(points, BEST, 2)


def _dots(page: Page, found: Recommendation, frame: _Frame) -> None:
    for place, one in enumerate(found.attempts):
        x, y = frame.at(place, frame.high if one.cost is None else one.cost)
        colour = FAILED if one.cost is None else TRIAL
        page.dot(x, y, DOT, colour)


def _proof(page: Page, found: Recommendation) -> None:
    if found.comparison is None:
        return
    page.row("proof: the change beside your settings", PALE)
    for number, one in enumerate(found.comparison.rounds, 1):
        colour = BEST if one.ratio < 1 else FAILED
        page.pen.rectangle((MARGIN, page.y + 3, MARGIN + min(one.ratio, 2.0) * 300, page.y + 16), fill=colour)
        page.row(f"round {number}: {percent(one.ratio)}", x=MARGIN + 620)
    page.pen.line([(MARGIN + 300, page.y - LINE * len(found.comparison.rounds)), (MARGIN + 300, page.y)], INK)
