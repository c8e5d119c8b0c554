"""Digits as strokes of a pen, in a box of width 1 and height 1 with y downwards: a second hand beside the font."""

from __future__ import annotations

import math
import random

Point = tuple[float, float]
Stroke = list[Point]


def arc(x: float, y: float, across: float, down: float, start: float, end: float) -> Stroke:
    """Points of an ellipse's arc around (x, y), angles in degrees, clockwise from the right."""
    steps = max(4, int(abs(end - start) / 15))
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


def _one(rng: random.Random) -> list[Stroke]:
    x = rng.uniform(0.5, 0.62)
    strokes: list[Stroke] = [[(x - 0.28, 0.22), (x, 0.0), (x, 1.0)] if rng.random() < 0.8 else [(x, 0.0), (x, 1.0)]]
    return [*strokes, [(x - 0.3, 1.0), (x + 0.3, 1.0)]] if rng.random() < 0.35 else strokes


def _two(rng: random.Random) -> list[Stroke]:
    return [[*arc(0.5, 0.27, 0.42, 0.27, -170, 35), (0.08, 1.0), (0.94, 1.0)]]


def _three(rng: random.Random) -> list[Stroke]:
    if rng.random() < 0.2:
        return [[(0.1, 0.0), (0.88, 0.0), (0.45, 0.4), *arc(0.48, 0.69, 0.44, 0.31, -80, 150)]]
    return [[*arc(0.47, 0.25, 0.38, 0.25, -150, 90), *arc(0.47, 0.74, 0.44, 0.26, -90, 150)]]


def _four(rng: random.Random) -> list[Stroke]:
    if rng.random() < 0.3:
        return [[(0.12, 0.0), (0.1, 0.58), (0.95, 0.58)], [(0.7, 0.0), (0.7, 1.0)]]
    return [[(0.72, 1.0), (0.72, 0.0), (0.04, 0.7), (0.98, 0.7)]]


def _five(rng: random.Random) -> list[Stroke]:
    return [[(0.88, 0.0), (0.2, 0.0), (0.14, 0.44), *arc(0.46, 0.68, 0.44, 0.32, -130, 140)]]


def _six(rng: random.Random) -> list[Stroke]:
    bowl = arc(0.5, 0.69, 0.42, 0.31, 180, 540)
    stem = [(0.72, 0.0), (0.3, 0.35), (0.09, 0.66)] if rng.random() < 0.4 else arc(0.62, 0.5, 0.54, 0.5, -65, -180)
    return [stem, bowl]


def _seven(rng: random.Random) -> list[Stroke]:
    foot = rng.uniform(0.28, 0.5)
    strokes: list[Stroke] = [[(0.06, 0.0), (0.94, 0.0), (foot, 1.0)]]
    return [*strokes, [(0.35, 0.5), (0.85, 0.5)]] if rng.random() < 0.2 else strokes


def _eight(rng: random.Random) -> list[Stroke]:
    return [arc(0.5, 0.25, 0.37, 0.25, 0, 360), arc(0.5, 0.75, 0.44, 0.26, 0, 360)]


def _nine(rng: random.Random) -> list[Stroke]:
    return [[(1 - x, 1 - y) for x, y in stroke] for stroke in _six(rng)]


def _zero(rng: random.Random) -> list[Stroke]:
    return [arc(0.5, 0.5, 0.44, 0.5, 0, 360)]


_DIGITS = (_zero, _one, _two, _three, _four, _five, _six, _seven, _eight, _nine)


def strokes(digit: str, seed: int) -> list[Stroke]:
    """The strokes of a digit; `seed` picks among the ways to write it."""
    return _DIGITS[int(digit)](random.Random(seed))
