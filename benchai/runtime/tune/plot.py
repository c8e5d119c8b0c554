"""A tune as a PNG: the cost of each trial, the best so far, and the rounds of the proof."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchai.errors import UsageError
from benchai.runtime.tune.recommend import Recommendation, headline, percent

WIDTH, MARGIN, LINE, PLOT = 1000, 32, 24, 260
LETTERS = 105
INK, PALE, PAPER = "#1f2430", "#8a919e", "#ffffff"
TRIAL, BEST, BASE, FAILED = "#3b6fb6", "#2e7d4f", "#8a919e", "#c8443c"
DOT = 4


def save_png(found: Recommendation, file: Path) -> None:
    """Draw a tune.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        # the ending of the name does not matter
        draw(found).save(file, format="PNG")
    except (OSError, ValueError) as error:
        raise UsageError(f"the picture {str(file)!r} cannot be written: {error}", hint="check the path") from error


def draw(found: Recommendation) -> Image.Image:
    """The picture of a tune."""
    page = _Page()
    page.title(f"tune {found.role}: {found.model}, {found.goal}")
    for line in textwrap.wrap(headline(found), LETTERS):
        page.text(line)
    page.down(0.6)
    _trials(page, found)
    _proof(page, found)
    return page.image.crop((0, 0, WIDTH, round(page.y) + MARGIN))


class _Page:
    """A picture that is filled from above."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, 1000), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.y = float(MARGIN)
        self._font = ImageFont.load_default(size=14)
        self._large = ImageFont.load_default(size=19)

    def title(self, text: str) -> None:
        self.pen.text((MARGIN, self.y), _latin(text)[:90], INK, self._large)
        self.down(1.6)

    def text(self, text: str, colour: str = INK, x: float = MARGIN) -> None:
        self.pen.text((x, self.y), _latin(text), colour, self._font)
        self.down()

    def down(self, lines: float = 1.0) -> None:
        self.y += LINE * lines


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


def _trials(page: _Page, found: Recommendation) -> None:
    costs = [one.cost for one in found.attempts if one.cost is not None]
    page.text(f"{found.unit}, by trial; green: the best so far, grey: your settings, red: given up", PALE)
    if not costs:
        page.text("no trial was measured to the end", PALE)
        return
    low, high = min(costs), max(costs)
    room = (high - low) * 0.08 or low * 0.1 or 1.0
    frame = _Frame(page.y, low - room, high + room, len(found.attempts))
    _lines(page, found, frame)
    _dots(page, found, frame)
    page.y = frame.top + PLOT + 6
    page.text(f"from {low:.4g} to {high:.4g} s, {len(found.attempts)} trials", PALE)
    page.down(0.5)


def _lines(page: _Page, found: Recommendation, frame: _Frame) -> None:
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


def _dots(page: _Page, found: Recommendation, frame: _Frame) -> None:
    for place, one in enumerate(found.attempts):
        x, y = frame.at(place, frame.high if one.cost is None else one.cost)
        colour = FAILED if one.cost is None else TRIAL
        page.pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour)


def _proof(page: _Page, found: Recommendation) -> None:
    if found.comparison is None:
        return
    page.text("proof: the change beside your settings", PALE)
    for number, one in enumerate(found.comparison.rounds, 1):
        colour = BEST if one.ratio < 1 else FAILED
        page.pen.rectangle((MARGIN, page.y + 3, MARGIN + min(one.ratio, 2.0) * 300, page.y + 16), fill=colour)
        page.text(f"round {number}: {percent(one.ratio)}", x=MARGIN + 620)
    page.pen.line([(MARGIN + 300, page.y - LINE * len(found.comparison.rounds)), (MARGIN + 300, page.y)], INK)


def _latin(text: str) -> str:
    """What the built-in font can draw."""
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
