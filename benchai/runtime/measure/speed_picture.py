"""Measured speeds as a PNG: a row of plots for each model, and what earlier runs measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchai.errors import UsageError
from benchai.runtime.measure.report import Measured, Report
from benchai.runtime.measure.speed import FIGURES, GENERATION, FigureName
from benchai.runtime.measure.targets import Reference
from benchai.runtime.usage.periods import when
from benchai.runtime.usage.targets import counted

WIDTH, MARGIN, LINE, GAP = 1000, 32, 24, 24
PLOT, MOST_BARS = 130, 8
INK, PALE, PAPER = "#1f2430", "#8a919e", "#ffffff"
BAR, RANGE, BAND, RUNS = "#3b6fb6", "#1f2430", "#dcebdf", "#3b6fb6"
MODEL_HEIGHT = LINE * 8 + 2 * PLOT


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
    height = 2 * MARGIN + 4 * LINE + MODEL_HEIGHT * len(report.measured)
    page = _Page(Image.new("RGB", (WIDTH, height), PAPER))
    page.text(MARGIN, f"benchai bench, {when(report.time)}", large=True)
    page.y += LINE * 1.2
    work = f"{report.work.prompts.source}, {report.work.max_tokens} tokens of each reply, {report.work.repeats} repeats"
    page.text(MARGIN, f"{report.machine}; {work}", PALE)
    page.y += LINE
    page.text(MARGIN, "bars: median of the repeats; lines in them: least to most", PALE)
    page.y += LINE * 1.6
    for one in report.measured:
        _model(page, one)
    return page.image.crop((0, 0, WIDTH, round(page.y) + MARGIN))


@dataclass
class _Page:
    """A picture that is filled from above; ``y`` is where the next thing goes."""

    image: Image.Image
    y: float = MARGIN

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(size=14)
        self._large = ImageFont.load_default(size=19)

    def text(
        self, x: float, text: str, colour: str = INK, *, y: float | None = None, width: float = WIDTH,
        centred: bool = False, large: bool = False,
    ) -> None:  # fmt: skip
        """Text, cut where it is wider than ``width``; ``centred`` around ``x``."""
        font = self._large if large else self._font
        shown = _latin(text)
        while shown and self.draw.textlength(shown, font) > min(width, WIDTH - MARGIN - (0 if centred else x)):
            shown = shown[:-1]
        left = x - self.draw.textlength(shown, font) / 2 if centred else x
        self.draw.text((left, self.y if y is None else y), shown, colour, font)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle, at least a pixel thick."""
        self.draw.rectangle((x, y, x + max(width, 1), y + max(height, 1)), fill=colour)


def _model(page: _Page, one: Measured) -> None:
    speed = one.speed
    page.text(MARGIN, f"{speed.model} ({', '.join(speed.roles)})", large=True)
    page.y += LINE * 1.2
    memory = ", ".join(f"{device} {mib:,} MiB" for device, mib in speed.memory_mib.items())
    facts = (memory, f"loaded in {speed.load_seconds:.2f} s", counted(speed.slots, "slot"), speed.engine)
    page.text(MARGIN, "; ".join(facts), PALE)
    page.y += LINE * 1.4
    names = FIGURES[speed.kind]
    width = (WIDTH - 2 * MARGIN - GAP * (len(names) - 1)) / len(names)
    reference = one.judgement.reference if one.judgement else None
    for number, name in enumerate(names):
        _bars(page, MARGIN + number * (width + GAP), width, one, name, reference if name is GENERATION else None)
    page.y += PLOT + LINE * 3
    _runs(page, one)


def _bars(page: _Page, x: float, width: float, one: Measured, name: FigureName, reference: Reference | None) -> None:
    """A bar for each number of requests at a time: the median, its value above it, a line for what repeats vary."""
    levels = one.speed.levels[:MOST_BARS]
    page.text(x, name.title, width=width)
    head, foot = page.y + LINE * 2, page.y + LINE + PLOT
    tallest = max([max(level.figures[name.key]) for level in levels] + ([reference.low] if reference else [])) or 1.0
    scale = (foot - head) / tallest
    if reference is not None:
        _band(page, x, width, foot, scale, reference, head)
    step = width / len(levels)
    for number, level in enumerate(levels):
        value, middle = level.median(name), x + (number + 0.5) * step
        page.box(middle - step * 0.3, foot - value * scale, step * 0.6, value * scale, BAR)
        low, high = min(level.figures[name.key]), max(level.figures[name.key])
        page.box(middle, foot - high * scale, 1, (high - low) * scale, RANGE)
        page.text(middle, _short(name, value), y=foot - high * scale - 18, width=step, centred=True)
        page.text(middle, str(level.concurrent), PALE, y=foot + 4, centred=True)
    page.box(x, foot, width, 1, PALE)
    page.text(x + width / 2, "requests at a time", PALE, y=foot + 4 + LINE * 0.8, width=width, centred=True)


def _band(page: _Page, x: float, width: float, foot: float, scale: float, reference: Reference, head: float) -> None:
    """What the seed's table expects of one request alone."""
    top = head if reference.high is None else max(head, foot - reference.high * scale)
    bottom = foot - reference.low * scale
    page.box(x, top, width, max(bottom - top, 2), BAND)
    page.text(x + width - 90, f"seed {reference.text}", PALE, y=head - LINE, width=90)


def _runs(page: _Page, one: Measured) -> None:
    """The first figure that counts, run by run, this one last."""
    name = GENERATION if one.speed.kind == "text" else FIGURES[one.speed.kind][0]
    values = [statistics.median(row.figures[name.key]) for row in reversed(one.past)]
    values.append(one.speed.levels[0].median(name))
    if len(values) < 2:
        page.text(MARGIN, "no earlier run of this model file and these prompts on this machine", PALE)
        page.y += LINE * 2
        return
    at = one.speed.levels[0].concurrent
    page.text(MARGIN, f"{name.title}, {at} at a time, over {len(values)} runs since {when(one.past[-1].time)}")
    page.y += LINE * 2
    _line(page, values, name)
    page.y += PLOT / 2 + LINE * 1.5


def _line(page: _Page, values: Sequence[float], name: FigureName) -> None:
    height, room = PLOT / 2, WIDTH - 2 * MARGIN - 100
    tallest, foot = max(values) or 1.0, page.y + PLOT / 2
    points = [
        (MARGIN + 8 + room * number / (len(values) - 1), foot - height * value / tallest)
        for number, value in enumerate(values)
    ]
    page.box(MARGIN, foot, WIDTH - 2 * MARGIN, 1, PALE)
    page.draw.line(points, fill=RUNS, width=2)
    for x, y in points:
        page.draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=RUNS)
    page.text(points[-1][0] + 10, _short(name, values[-1]), y=points[-1][1] - 8)


def _short(name: FigureName, value: float) -> str:
    if name.more:
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"


def _latin(text: str) -> str:
    """What the built-in font can draw."""
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
