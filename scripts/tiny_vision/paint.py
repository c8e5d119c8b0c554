"""Painting a scene, and the server's way of making it an input of the model."""

from __future__ import annotations

import base64
import io
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scripts.tiny_vision.glyphs import strokes
from scripts.tiny_vision.scene import Number, Scene, Shape

SIDE = 64
GREY = (127, 127, 127)
_CELL = 64
Points = list[tuple[float, float]]


def _turned(points: Points, shape: Shape, pixels: int) -> Points:
    """Points of the unit circle, turned, enlarged and moved to the shape's place in pixels."""
    angle, radius = math.radians(shape.turn), shape.size / 2 * pixels
    cosine, sine = math.cos(angle), math.sin(angle)
    return [
        (shape.x * pixels + radius * (x * cosine - y * sine), shape.y * pixels + radius * (x * sine + y * cosine))
        for x, y in points
    ]


@cache
def outline(form: str) -> tuple[tuple[float, float], ...]:
    """The corners of a form inside the unit circle, y downwards."""
    if form == "star":
        spokes = [(1.0 if corner % 2 == 0 else 0.42, math.pi * corner / 5 - math.pi / 2) for corner in range(10)]
        return tuple((radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in spokes)
    if form == "cross":
        arm, end = 0.3, 0.95
        quarter = [(arm, arm), (arm, end), (-arm, end)]
        corners = []
        for _ in range(4):
            corners += quarter
            quarter = [(-y, x) for x, y in quarter]
        return tuple(corners)
    forms = {
        "square": ((-0.71, -0.71), (0.71, -0.71), (0.71, 0.71), (-0.71, 0.71)),
        "triangle": ((0.0, -0.98), (0.9, 0.62), (-0.9, 0.62)),
        "diamond": ((0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)),
    }
    return forms[form]


def _paint_shape(pen: ImageDraw.ImageDraw, shape: Shape, pixels: int) -> None:
    edge = (0, 0, 0) if shape.outlined else None
    breadth = max(1, round(0.012 * pixels)) if shape.outlined else 0
    if shape.form == "circle":
        x, y, radius = shape.x * pixels, shape.y * pixels, 0.92 * shape.size / 2 * pixels
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.paint, outline=edge, width=breadth)
        return
    corners = _turned(list(outline(shape.form)), shape, pixels)
    pen.polygon(corners, fill=shape.paint)
    if edge:
        pen.line([*corners, corners[0], corners[1]], fill=edge, width=breadth, joint="curve")


@cache
def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(_CELL)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _font_mask(number: Number) -> Image.Image:
    """The digits in Pillow's own font, each in a cell as broad as the broadest."""
    font = _font()
    cell = math.ceil(max(font.getlength(digit) for digit in "0123456789")) + 4
    bold = round(max(0.0, number.weight - 0.1) * _CELL * 0.7)
    mask = Image.new("L", (cell * len(number.text), 2 * _CELL))
    pen = ImageDraw.Draw(mask)
    for place, digit in enumerate(number.text):
        at = (cell * (place + 0.5) - font.getlength(digit) / 2, _CELL // 2)
        pen.text(at, digit, fill=255, font=font, stroke_width=bold)
    _, top, _, bottom = mask.getbbox() or (0, 0, 0, 2 * _CELL)
    return mask.crop((0, top, mask.width, bottom))


def _stroke_mask(number: Number) -> Image.Image:
    """The digits as strokes, each in a cell of the same size."""
    breadth = max(3, round(number.weight * _CELL * 1.2))
    across, down = _CELL * 0.7 - breadth, 1.2 * _CELL - breadth
    mask = Image.new("L", (_CELL * len(number.text), round(1.2 * _CELL)))
    pen = ImageDraw.Draw(mask)
    for place, digit in enumerate(number.text):
        left = place * _CELL + 0.15 * _CELL + breadth / 2
        for stroke in strokes(digit, number.variant):
            line = [(left + x * across, breadth / 2 + y * down) for x, y in stroke]
            pen.line(line, fill=255, width=breadth, joint="curve")
            for x, y in (line[0], line[-1]):
                end = breadth / 2 - 0.5
                pen.ellipse((x - end, y - end, x + end, y + end), fill=255)
    return mask


def _paint_number(image: Image.Image, number: Number, pixels: int) -> None:
    mask = _font_mask(number) if number.style == "font" else _stroke_mask(number)
    if number.slant:
        shift = number.slant * mask.height / 2
        mask = mask.transform(
            mask.size, Image.Transform.AFFINE, (1, number.slant, -shift, 0, 1, 0), Image.Resampling.BILINEAR
        )
    size = max(1, round(number.width * pixels)), max(1, round(number.height * pixels))
    mask = mask.resize(size, Image.Resampling.BICUBIC)
    corner = round((number.x - number.width / 2) * pixels), round((number.y - number.height / 2) * pixels)
    image.paste(number.paint, (*corner, corner[0] + size[0], corner[1] + size[1]), mask)


def paint(scene: Scene) -> Image.Image:
    """The scene in its own number of pixels."""
    image = Image.new("RGB", scene.size, scene.background)
    pen = ImageDraw.Draw(image)
    for shape in scene.shapes:
        _paint_shape(pen, shape, scene.pixels)
    if scene.number:
        _paint_number(image, scene.number, scene.pixels)
    return image


def encoded(scene: Scene) -> tuple[bytes, str]:
    """The scene as a file, JPEG or PNG, and its media type."""
    file = io.BytesIO()
    if scene.quality:
        paint(scene).save(file, "JPEG", quality=scene.quality)
        return file.getvalue(), "image/jpeg"
    paint(scene).save(file, "PNG")
    return file.getvalue(), "image/png"


def data_url(scene: Scene) -> str:
    """The scene as a data URL."""
    content, kind = encoded(scene)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def fitted(image: Image.Image) -> Image.Image:
    """The image as llama.cpp hands it to the model: aspect kept, bicubic, sizes rounded up, centred on grey."""
    if image.size == (SIDE, SIDE):
        return image
    scale = min(np.float32(SIDE) / np.float32(side) for side in image.size)
    columns, rows = (min(SIDE, math.ceil(np.float32(side) * scale)) for side in image.size)
    canvas = Image.new("RGB", (SIDE, SIDE), GREY)
    small = image.resize((columns, rows), Image.Resampling.BICUBIC)
    canvas.paste(small, ((SIDE - columns) // 2, (SIDE - rows) // 2))
    return canvas


def pixels(scene: Scene) -> NDArray[np.uint8]:
    """The model's input before normalisation [SIDE, SIDE, 3]; a JPEG scene goes through its file."""
    image = Image.open(io.BytesIO(encoded(scene)[0])).convert("RGB") if scene.quality else paint(scene)
    return np.asarray(fitted(image), dtype=np.uint8)
