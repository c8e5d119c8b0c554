"""What reports are drawn on: a page that is filled from above, with text, bars and lines."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchai.errors import UsageError

WIDTH, MARGIN = 1000, 32
INK, PALE, PAPER = "#1f2430", "#8a919e", "#ffffff"
BLUE, GREEN, RED = "#3b6fb6", "#2e7d4f", "#c8443c"
TITLE_SIZE = 19


class Page:
    """A picture of ``WIDTH`` pixels; ``y`` is where the next thing goes.

    Args:
        height: Pixels that the contents take at most.
        line: Height of a line, in pixels.
        size: Of the letters, in pixels.
    """

    def __init__(self, height: int, line: int = 24, size: int = 14) -> None:
        self._image = Image.new("RGB", (WIDTH, height), PAPER)
        self.pen = ImageDraw.Draw(self._image)
        self.y = float(MARGIN)
        self._line = line
        self._font = ImageFont.load_default(size=size)
        self._large = ImageFont.load_default(size=TITLE_SIZE)

    def title(self, text: str) -> None:
        """A line in larger letters."""
        self.text(MARGIN, text, large=True)
        self.down(1.6)

    def row(self, text: str, colour: str = INK, x: float = MARGIN) -> None:
        """A line of text."""
        self.text(x, text, colour)
        self.down()

    def text(
        self, x: float, text: str, colour: str = INK, *, y: float | None = None, width: float = WIDTH,
        centred: bool = False, large: bool = False,
    ) -> None:  # fmt: skip
        """Text at the current line, or at ``y``, cut where it is wider than ``width``; ``centred`` around ``x``."""
        font = self._large if large else self._font
        shown = _latin(text)
        while shown and self.pen.textlength(shown, font) > min(width, WIDTH - MARGIN - (0 if centred else x)):
            shown = shown[:-1]
        left = x - self.pen.textlength(shown, font) / 2 if centred else x
        self.pen.text((left, self.y if y is None else y), shown, colour, font)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle, at least a pixel thick."""
        self.pen.rectangle((x, y, x + max(width, 1), y + max(height, 1)), fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """A filled circle."""
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def down(self, lines: float = 1.0) -> None:
        """Go down by so many lines."""
        self.y += self._line * lines

    def finished(self) -> Image.Image:
        """The picture, as far as it was filled."""
        return self._image.crop((0, 0, WIDTH, round(self.y) + MARGIN))


def save_png(picture: Image.Image, file: Path) -> None:
    """Write a picture; the ending of the file's name does not matter.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        picture.save(file, format="PNG")
    except (OSError, ValueError) as error:
        raise UsageError(f"the picture {str(file)!r} cannot be written: {error}", hint="check the path") from error


def _latin(text: str) -> str:
    """What the built-in font can draw."""
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
