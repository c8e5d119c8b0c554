"""Measured speeds as a PNG: a row of plots for each model, and what earlier runs measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchai.runtime import picture
from benchai.runtime.measure.report import Measured, Report
from benchai.runtime.measure.speed import FIGURES, GENERATION, FigureName
from benchai.runtime.measure.targets import Reference
from benchai.runtime.picture import BLUE, INK, MARGIN, PALE, WIDTH, Page
from benchai.runtime.usage.periods import when
from benchai.runtime.usage.targets import counted

LINE, GAP = 24, 24
PLOT, MOST_BARS = 130, 8
BAR, RANGE, BAND, RUNS = BLUE, INK, "#dcebdf", BLUE
MODEL_HEIGHT = LINE * 8 + 2 * PLOT


def save_png(report: Report, file: Path) -> None:
    """Draw a report.

    Raises:
        UsageError: the file cannot be written.
    """
    picture.save_png(draw(report), file)


def draw(report: Report) -> Image.Image:
    """The picture of a report."""
    height = 2 * MARGIN + 4 * LINE + MODEL_HEIGHT * len(report.measured)
    page = Page(height, LINE)
    page.text(MARGIN, f"benchai bench, {when(report.time)}", large=True)
    page.y += LINE * 1.2
    work = f"{report.work.prompts.source}, {report.work.max_tokens} tokens of each reply, {report.work.repeats} repeats"
    page.text(MARGIN, f"{report.machine}; {work}", PALE)
    page.y += LINE
    page.text(MARGIN, "bars: median of the repeats; lines in them: least to most", PALE)
    page.y += LINE * 1.6
    for one in report.measured:
        _model(page, one)
    return page.finished()


def _model(page: Page, one: Measured) -> None:
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


def _bars(page: Page, x: float, width: float, one: Measured, name: FigureName, reference: Reference | None) -> None:
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


def _band(page: Page, x: float, width: float, foot: float, scale: float, reference: Reference, head: float) -> None:
    """What the seed's table expects of one request alone."""
    top = head if reference.high is None else max(head, foot - reference.high * scale)
    bottom = foot - reference.low * scale
    page.box(x, top, width, max(bottom - top, 2), BAND)
    page.text(x + width - 90, f"seed {reference.text}", PALE, y=head - LINE, width=90)


def _runs(page: Page, one: Measured) -> None:
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


def _line(page: Page, values: Sequence[float], name: FigureName) -> None:
    height, room = PLOT / 2, WIDTH - 2 * MARGIN - 100
    tallest, foot = max(values) or 1.0, page.y + PLOT / 2
    points = [
        (MARGIN + 8 + room * number / (len(values) - 1), foot - height * value / tallest)
        for number, value in enumerate(values)
    ]
    page.box(MARGIN, foot, WIDTH - 2 * MARGIN, 1, PALE)
    page.pen.line(points, fill=RUNS, width=2)
    for x, y in points:
        page.dot(x, y, 3, RUNS)
    page.text(points[-1][0] + 10, _short(name, values[-1]), y=points[-1][1] - 8)


def _short(name: FigureName, value: float) -> str:
    if name.more:
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"
