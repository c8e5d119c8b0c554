"""What each patch of a picture shows: the tower's own lesson, before and beside the text model's.

A patch inside a shape knows its colour and form and whether it is the first of one or two; a patch on a digit knows
the digit and its place among how many. Read out by a linear layer, this is what the text model has to find.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scripts.tiny_vision.scene import COLOURS, FORMS, Scene

GRID = 8
IGNORED = -100
_COLOUR, _FORM = list(COLOURS), list(FORMS)
# Background; the only shape, the first and the second of two; place p of n digits for n = 2, 3, 4.
ROLES = 1 + 3 + 9
SIZES = {"role": ROLES, "colour": len(_COLOUR), "form": len(_FORM), "digit": 10}
_FIRST_DIGIT = {2: 4, 3: 6, 4: 9}


def centres(scene: Scene) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the patches' centres in the scene's measure, each [GRID, GRID]; the picture lies in the middle."""
    steps = (np.arange(GRID) + 0.5) / GRID
    x, y = np.meshgrid(steps - (1 - scene.width) / 2, steps - (1 - scene.height) / 2)
    return x, y


def labels(scene: Scene) -> dict[str, NDArray[np.int64]]:
    """For each of SIZES the class of every patch [GRID * GRID]; IGNORED where there is none or it is in doubt."""
    x, y = centres(scene)
    found = {name: np.full((GRID, GRID), IGNORED, dtype=np.int64) for name in SIZES}
    found["role"][:] = 0
    for number, shape in enumerate(scene.shapes):
        distance = np.hypot(x - shape.x, y - shape.y) / shape.size
        # A small shape between patches lies on its nearest ones.
        inside, near = distance < max(0.42, distance.min() + 1e-6), distance < 0.6
        found["role"][near] = IGNORED
        found["role"][inside] = 1 if len(scene.shapes) == 1 else 2 + number
        found["colour"][inside] = _COLOUR.index(shape.colour)
        found["form"][inside] = _FORM.index(shape.form)
    if scene.number:
        _label_digits(scene, x, y, found)
    return {name: values.reshape(-1) for name, values in found.items()}


def _label_digits(
    scene: Scene, x: NDArray[np.float64], y: NDArray[np.float64], found: dict[str, NDArray[np.int64]]
) -> None:
    number = scene.number
    assert number
    count, half = len(number.text), 0.5 / GRID
    place = np.floor((x - number.x + number.width / 2) / number.width * count).astype(int)
    aside = np.abs(y - number.y) - number.height / 2
    along = (place >= 0) & (place < count)
    found["role"][np.abs(x - number.x) < number.width / 2 + half] = IGNORED
    found["role"][aside > half] = 0
    for spot, digit in enumerate(number.text):
        inside = along & (place == spot) & (aside < 0.2 * half)
        found["role"][inside] = _FIRST_DIGIT[count] + spot
        found["digit"][inside] = int(digit)
