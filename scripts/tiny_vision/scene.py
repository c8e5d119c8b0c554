"""What a picture shows, drawn at random on one side of the split; painting it is another module's work.

Lengths are shares of the picture's longer side: `width` and `height` of a scene are at most 1. A place (cell of the
centre, size, shade and background together) lies on one side of the split only, and so do the digits of a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scripts.tiny_model.split import Draw, is_held_out

Colour = tuple[int, int, int]

COLOURS: dict[str, tuple[Colour, ...]] = {
    "red": ((255, 0, 0), (220, 20, 60), (200, 30, 30), (178, 34, 34), (230, 57, 70), (240, 45, 30)),
    "orange": ((255, 165, 0), (255, 140, 0), (255, 127, 14), (243, 150, 18), (245, 130, 32), (230, 126, 34)),
    "yellow": ((255, 255, 0), (255, 225, 25), (255, 235, 59), (250, 230, 50), (253, 224, 71), (240, 240, 60)),
    "green": ((0, 128, 0), (0, 255, 0), (34, 139, 34), (46, 204, 113), (60, 180, 75), (0, 160, 60)),
    "blue": ((0, 0, 255), (30, 144, 255), (65, 105, 225), (31, 119, 180), (0, 0, 139), (52, 120, 246)),
    "purple": ((128, 0, 128), (138, 43, 226), (148, 0, 211), (106, 13, 173), (155, 89, 182), (147, 112, 219)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 182, 193), (244, 143, 177), (255, 128, 171), (247, 150, 190)),
    "black": ((0, 0, 0), (20, 20, 20), (35, 35, 35), (10, 10, 25), (45, 45, 45), (28, 28, 28)),
}
FORMS = ("circle", "square", "triangle", "star", "cross", "diamond")
BACKGROUNDS: tuple[Colour, ...] = (
    (255, 255, 255),
    (255, 255, 255),
    (250, 250, 250),
    (245, 245, 235),
    (235, 245, 250),
    (250, 235, 240),
    (240, 250, 238),
    (230, 230, 230),
    (205, 210, 215),
    (225, 215, 195),
    (50, 55, 70),
    (25, 25, 25),
)
WHITE: Colour = (255, 255, 255)
KINDS = ("one shape", "two shapes", "number")
STYLES = ("font", "strokes")
MARGIN = 0.02
SMALLEST, LARGEST = 0.2, 0.85
# Of two shapes, one lies clearly beside the other or clearly above it.
CLEAR = 0.1
ADVANCE = 0.15
DIGIT_HEIGHT = 1.55
JITTER = 8


@dataclass(frozen=True)
class Shape:
    """A filled form: centre, diameter of its circumscribed circle, paint, turn in degrees, and whether outlined."""

    colour: str
    form: str
    x: float
    y: float
    size: float
    paint: Colour
    turn: float = 0.0
    outlined: bool = False


@dataclass(frozen=True)
class Number:
    """Digits in a box around (x, y); all have the same room. `slant` is a shear, `weight` a share of the height."""

    text: str
    x: float
    y: float
    width: float
    height: float
    paint: Colour
    style: str
    slant: float
    weight: float
    variant: int


@dataclass(frozen=True)
class Scene:
    """A picture: its sides, the pixels of the longer one, what it shows, and the places it takes in the split."""

    width: float
    height: float
    pixels: int
    background: Colour
    shapes: tuple[Shape, ...]
    number: Number | None
    quality: int | None
    places: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of pixels."""
        return max(1, round(self.width * self.pixels)), max(1, round(self.height * self.pixels))


@dataclass(frozen=True)
class _Canvas:
    width: float
    height: float
    background: int


def place_name(x: float, y: float, size: float, shade: int, background: int) -> str:
    """The place as text, whose checksum decides its side: cells and sizes in steps of a twelfth."""
    return f"{int(12 * x)} {int(12 * y)} {int(12 * size)} {shade} {background}"


def _canvas(draw: Draw) -> _Canvas:
    aspect = 1.0 if draw.chance(0.5) else draw.rng.uniform(1.0, 2.2)
    width, height = (1.0, 1 / aspect) if draw.chance(0.6) else (1 / aspect, 1.0)
    return _Canvas(width, height, draw.rng.randrange(len(BACKGROUNDS)))


def _jittered(draw: Draw, colour: Colour) -> Colour:
    red, green, blue = (min(255, max(0, part + draw.rng.randint(-JITTER, JITTER))) for part in colour)
    return red, green, blue


def _contrast(first: Colour, second: Colour) -> float:
    return math.dist(first, second)


def _shape(draw: Draw, canvas: _Canvas, low: float, high: float) -> tuple[Shape, str] | None:
    """A shape and its place, or None when chance gave an unfit one."""
    size = draw.rng.uniform(low, min(high, 0.96 * min(canvas.width, canvas.height)))
    reach = size / 2 + MARGIN / 2
    x, y = draw.rng.uniform(reach, canvas.width - reach), draw.rng.uniform(reach, canvas.height - reach)
    colour, shade = draw.rng.choice(list(COLOURS)), draw.rng.randrange(6)
    paint = COLOURS[colour][shade]
    place = place_name(x, y, size, shade, canvas.background)
    if _contrast(paint, BACKGROUNDS[canvas.background]) < 75 or is_held_out("place", place) != draw.held_out:
        return None
    turn = 0.0 if draw.chance(0.4) else draw.rng.uniform(-10, 10)
    form = draw.rng.choice(FORMS)
    # Black outlines of a black shape would be no outlines.
    outlined = colour != "black" and draw.chance(0.12)
    return Shape(colour, form, x, y, size, _jittered(draw, paint), turn, outlined), place


def in_order(first: Shape, second: Shape) -> bool:
    """Whether `first` is named first: the left one, or the upper one where they differ more in height."""
    across, down = second.x - first.x, second.y - first.y
    return across > 0 if abs(across) >= abs(down) else down > 0


def _apart(first: Shape, second: Shape) -> bool:
    across, down = abs(second.x - first.x), abs(second.y - first.y)
    return math.hypot(across, down) > 0.53 * (first.size + second.size) and abs(across - down) > CLEAR


def _shapes(draw: Draw, canvas: _Canvas, count: int) -> tuple[tuple[Shape, ...], tuple[str, ...]] | None:
    low, high = (SMALLEST, LARGEST) if count == 1 else (SMALLEST, 0.5)
    found = [_shape(draw, canvas, low, high) for _ in range(count)]
    whole = [pair for pair in found if pair]
    if len(whole) < count or (count == 2 and not _apart(whole[0][0], whole[1][0])):
        return None
    if count == 2 and not in_order(whole[0][0], whole[1][0]):
        whole.reverse()
    return tuple(shape for shape, _ in whole), tuple(place for _, place in whole)


def _ink(draw: Draw, background: int) -> tuple[Colour, int]:
    """The paint of a number and the number of its shade: often black, on dark backgrounds often white."""
    if sum(BACKGROUNDS[background]) < 300 and draw.chance(0.6):
        return WHITE, 6
    colour = "black" if draw.chance(0.4) else draw.rng.choice(list(COLOURS))
    shade = draw.rng.randrange(6)
    return COLOURS[colour][shade], shade


def _number(draw: Draw, canvas: _Canvas) -> tuple[Number, str] | None:
    """A number and its place, or None when chance gave an unfit one."""
    count = draw.rng.choice((2, 3, 3, 4, 4))
    narrow = draw.rng.uniform(0.75, 1.2)
    tallest = 0.94 * canvas.height / (DIGIT_HEIGHT / narrow)
    widest = min(0.96 * canvas.width / count, tallest, 0.34)
    if widest < ADVANCE:
        return None
    advance = draw.rng.uniform(ADVANCE, widest)
    width, height = advance * count, advance * DIGIT_HEIGHT / narrow
    x = draw.rng.uniform(width / 2, canvas.width - width / 2)
    y = draw.rng.uniform(height / 2, canvas.height - height / 2)
    paint, shade = _ink(draw, canvas.background)
    place = place_name(x, y, advance, shade, canvas.background)
    if _contrast(paint, BACKGROUNDS[canvas.background]) < 140 or is_held_out("place", place) != draw.held_out:
        return None
    slant = 0.0 if draw.chance(0.6) else draw.rng.uniform(-0.08, 0.22)
    style, weight = draw.rng.choice(STYLES), draw.rng.uniform(0.085, 0.16)
    text = draw.digits(count, count)
    number = Number(text, x, y, width, height, paint, style, slant, weight, draw.rng.randrange(1 << 16))
    return number, place


def _pixels(draw: Draw) -> int:
    """Pixels of the longer side: training mostly paints small pictures, which is quicker, and a few large ones."""
    large = 0.75 if draw.held_out else 0.05
    if draw.chance(large):
        return draw.rng.randint(400, 1200)
    return draw.rng.choice((64, 64, 96, 128, 160, 200, 224, 256, 300, 320))


def _contents(
    draw: Draw, canvas: _Canvas, kind: str
) -> tuple[tuple[Shape, ...], Number | None, tuple[str, ...]] | None:
    """Shapes, number and their places; None when chance gave something unfit."""
    if kind == "number":
        numbered = _number(draw, canvas)
        return ((), numbered[0], (numbered[1],)) if numbered else None
    placed = _shapes(draw, canvas, 1 if kind == "one shape" else 2)
    return (placed[0], None, placed[1]) if placed else None


def scene(draw: Draw, kind: str) -> Scene:
    """A picture of one of the KINDS; the draw remembers its places and digits."""
    while True:
        canvas = _canvas(draw)
        contents = _contents(draw, canvas, kind)
        if contents is None:
            continue
        shapes, number, places = contents
        draw.drawn.setdefault("place", set()).update(places)
        pixels = _pixels(draw)
        # The blocks of a JPEG file would wipe out a small picture.
        quality = draw.rng.randint(70, 95) if pixels >= 160 and draw.chance(0.4) else None
        background = _jittered(draw, BACKGROUNDS[canvas.background]) if canvas.background > 1 else WHITE
        return Scene(canvas.width, canvas.height, pixels, background, shapes, number, quality, places)
