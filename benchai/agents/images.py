"""Images for a model: decoded and checked here, so that an engine only ever sees a small, plain picture.

An engine fetches whatever address it is given, knows few formats, and drops transparency: it gets data URLs of PNG or
JPEG, flattened on white, and no address at all.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from pathlib import Path

from langchain_core.messages import AnyMessage, HumanMessage
from PIL import Image, ImageOps, UnidentifiedImageError

from benchai.errors import UsageError

MAX_BYTES = 30 * 1024 * 1024
MAX_PIXELS = 60_000_000
#: Longer sides are scaled down to this: more than any local vision model looks at.
LONGEST_SIDE = 1_536
#: Larger pictures become JPEG, a PNG of theirs would be megabytes.
PNG_PIXELS = 700_000
JPEG_QUALITY = 92
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO")
SEEN = "[an image]"
MAX_NAME = 200
# of http://host/x a path keeps one slash
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)


def read_image(path: Path) -> str:
    """The data URL of an image file.

    Raises:
        UsageError: it is missing, too large, or no image.
    """
    name = repr(str(path) if len(str(path)) <= MAX_NAME else f"{str(path)[:MAX_NAME]}...")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(f"the image {name} has {size:,} bytes", f"{MAX_BYTES:,}")
        with path.open("rb") as file:
            # a device tells no size, and may never end
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "download it first: addresses are never fetched" if ADDRESS.match(str(path)) else "check the path"
        raise UsageError(f"the image {name} cannot be read: {reason}", hint=hint) from error
    return data_url(data, name)


def data_url(data: bytes, name: str = "given") -> str:
    """The data URL of an encoded image; `name` stands for it in errors.

    Raises:
        UsageError: it is no image, is damaged, or has too many pixels.
    """
    if len(data) > MAX_BYTES:
        raise _too_large(f"the image {name} has {len(data):,} bytes", f"{MAX_BYTES:,}")
    picture = _decoded(data, name)
    # comments, places and colour profiles are nobody's business
    picture.info.clear()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    kind = "PNG" if picture.width * picture.height <= PNG_PIXELS else "JPEG"
    encoded = io.BytesIO()
    picture.save(encoded, kind, quality=JPEG_QUALITY)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _decoded(data: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns at half of its limit: we have our own
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            pixels = picture.width * picture.height
            if pixels > MAX_PIXELS:
                raise _too_large(f"the image {name} has {picture.width} x {picture.height} pixels", f"{MAX_PIXELS:,}")
            picture.load()
            return _flat(ImageOps.exif_transpose(picture))
    except UsageError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        hint = f"one of {', '.join(FORMATS)}, of at most {MAX_PIXELS:,} pixels"
        raise UsageError(f"the image {name} is no image that can be read", hint=hint) from error
    except Exception as error:  # the decoders raise what they like at damaged files
        raise UsageError(f"the image {name} is damaged: {error}", hint="save it again as PNG") from error


def _flat(picture: Image.Image) -> Image.Image:
    """The first frame in RGB, on white where it is transparent."""
    picture = _eight_bits(picture)
    if "transparency" not in picture.info and "A" not in picture.getbands():
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture with more bits a pixel in 8, by its full scale: Pillow alone cuts all above 255 to white."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    deep = picture.convert("F")
    levels = (1.0, 255.0, 65_535.0) if picture.mode == "F" else (255.0, 65_535.0)
    _, high = deep.getextrema()
    assert isinstance(high, float)
    full = 65_535.0 if picture.mode.startswith("I;16") else next((one for one in levels if high <= one), high)
    grey = deep.point(lambda value: value * (255 / full) + 0.5).convert("L")
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey.info["transparency"] = round(clear * 255 / full)
    return grey


def _too_large(what: str, limit: str) -> UsageError:
    return UsageError(f"{what}, at most {limit} are taken", hint="scale it down")


def with_images(text: str, urls: list[str]) -> HumanMessage:
    """A user's message of a text and images; a plain one without images."""
    if not urls:
        return HumanMessage(text)
    parts: list[str | dict[str, object]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return HumanMessage([*parts, {"type": "text", "text": text}])


def has_image(message: AnyMessage) -> bool:
    """Whether a message holds an image."""
    content = getattr(message, "content", None)  # LangChain takes pairs for messages too
    return isinstance(content, list) and any(_is_image(part) for part in content)


def without_images(message: AnyMessage) -> AnyMessage:
    """The message with a word in place of each image, for a model that reads text alone."""
    if not has_image(message):
        return message
    kept = [{"type": "text", "text": SEEN} if _is_image(part) else part for part in message.content]
    return message.model_copy(update={"content": kept})


def _is_image(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"
