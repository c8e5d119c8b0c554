"""Images of a task: what is taken, what a model gets of it, what is refused, and who answers."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from PIL import Image, ImageChops

from benchai.agents import images
from benchai.agents.images import LONGEST_SIDE, MAX_BYTES, data_url, has_image, read_image, with_images, without_images
from benchai.errors import UsageError
from benchai.graphs.react import who_answers

Colour = tuple[int, ...]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
URL = "data:image/png;base64,AAAA"


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def decoded(url: str) -> Image.Image:
    head, _, body = url.partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    assert head == f"data:image/{str(picture.format).lower()};base64"
    picture.load()
    return picture


def seen(data: bytes) -> Image.Image:
    """What a model gets of an encoded image."""
    picture = decoded(data_url(data))
    assert picture.mode == "RGB"
    return picture


def pixels(picture: Image.Image) -> list[Any]:
    return [picture.getpixel((x, y)) for y in range(picture.height) for x in range(picture.width)]


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    flat = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (flat, flat.transpose(Image.Transpose.ROTATE_180), flat))


def farthest(one: Image.Image, other: Image.Image) -> int:
    """The greatest difference of a channel anywhere."""
    assert one.size == other.size
    return max(high for _, high in ImageChops.difference(one, other).getextrema())  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 24),
        ("JPEG", {"quality": 95}, 12),
        ("GIF", {}, 40),
    ],
)
def test_a_format_arrives_as_it_was(kind: str, options: dict[str, Any], tolerance: int) -> None:
    assert farthest(seen(encoded(gradient(), kind, **options)), gradient()) <= tolerance


def palette(**options: Any) -> bytes:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([*RED, *GREEN])
    picture.putpixel((1, 0), 1)
    return encoded(picture, "PNG", **options)


def pair(mode: str, one: Any, two: Any, kind: str = "PNG", **options: Any) -> bytes:
    picture = Image.new(mode, (2, 1), one)
    picture.putpixel((1, 0), two)
    return encoded(picture, kind, **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(pair("RGBA", (255, 0, 0, 0), (0, 0, 255, 255)), [WHITE, BLUE], id="RGBA"),
        pytest.param(pair("RGBA", (0, 0, 0, 128), (0, 0, 0, 255)), [(127, 127, 127), (0, 0, 0)], id="half"),
        pytest.param(pair("LA", (0, 0), (9, 255)), [WHITE, (9, 9, 9)], id="LA"),
        pytest.param(palette(transparency=0), [WHITE, GREEN], id="palette, one colour"),
        pytest.param(palette(transparency=b"\xff\x00"), [RED, WHITE], id="palette, table"),
        pytest.param(palette(), [RED, GREEN], id="palette, opaque"),
        pytest.param(pair("L", 0, 7, transparency=0), [WHITE, (7, 7, 7)], id="L with a clear grey"),
        pytest.param(pair("RGB", RED, BLUE, transparency=RED), [WHITE, BLUE], id="RGB with a clear colour"),
        pytest.param(pair("RGBA", (9, 9, 9, 0), (*BLUE, 255), "WEBP", lossless=True), [WHITE, BLUE], id="WebP"),
        pytest.param(pair("1", 0, 1), [(0, 0, 0), WHITE], id="1 bit"),
        pytest.param(pair("CMYK", (0, 255, 255, 0), (0, 0, 0, 0), "TIFF"), [RED, WHITE], id="CMYK"),
    ],
)
def test_pixels_are_flattened_on_white(data: bytes, expected: list[Colour]) -> None:
    assert pixels(seen(data)) == expected


def test_a_jpeg_in_cmyk() -> None:
    red, green, blue = pixels(seen(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")))[0]
    assert red > 245
    assert green < 10
    assert blue < 10


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pair("I;16", 0, 32_768), id="PNG"),
        pytest.param(pair("I;16", 0, 32_768, "TIFF"), id="TIFF"),
        pytest.param(b"P5 2 1 65535\n" + struct.pack(">2H", 0, 32_768), id="PGM"),
        pytest.param(pair("F", 0.0, 0.5, "TIFF"), id="floats"),
    ],
)
def test_deep_greys_keep_their_shade(data: bytes) -> None:
    dark, grey = pixels(seen(data))
    assert dark == (0, 0, 0)
    assert all(abs(channel - 128) <= 1 for channel in grey)


def test_a_deep_picture_of_few_levels_is_not_stretched() -> None:
    assert pixels(seen(pair("I", 0, 200, "TIFF"))) == [(0, 0, 0), (200, 200, 200)]


def test_a_clear_grey_of_16_bits() -> None:
    assert pixels(seen(pair("I;16", 0, 65_535 // 2, transparency=0)))[0] == WHITE


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (3, 1)), (6, (1, 0)), (8, (0, 3))])
def test_a_photograph_stands_upright(orientation: int, corner: tuple[int, int]) -> None:
    picture = Image.new("RGB", (4, 2), "white")
    picture.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = seen(encoded(picture, "PNG", exif=exif))
    assert found.size == ((4, 2) if orientation in (1, 3) else (2, 4))
    assert found.getpixel(corner) == RED


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames(kind: str) -> None:
    more = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), "blue")]}
    red, green, blue = pixels(seen(encoded(Image.new("RGB", (8, 8), "red"), kind, **more)))[0]
    assert red > 245
    assert max(green, blue) < 10


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((LONGEST_SIDE, 4), (LONGEST_SIDE, 4)),
        ((LONGEST_SIDE * 2, 400), (LONGEST_SIDE, 200)),
        ((300, LONGEST_SIDE * 3), (100, LONGEST_SIDE)),
        ((20_000, 1), (LONGEST_SIDE, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_long_side_is_scaled_down(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert seen(encoded(Image.new("RGB", size, "red"), "PNG")).size == expected


def test_a_large_picture_becomes_a_jpeg_close_to_it() -> None:
    large = gradient(1000, 1000)
    url = data_url(encoded(large, "PNG"))
    assert url.startswith("data:image/jpeg;base64,")
    assert farthest(decoded(url), large) <= 12
    assert len(url) < 200_000


def test_nothing_of_the_file_but_its_picture_is_handed_on() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    large = Image.new("RGB", (1000, 1000), "red")
    for data in (
        encoded(large, "JPEG", exif=exif, comment=b"a secret word", icc_profile=b"profile"),
        encoded(large, "GIF", comment=b"a secret word" * 10_000),
        encoded(large.resize((9, 9)), "PNG", exif=exif, icc_profile=b"profile"),
    ):
        sent = base64.b64decode(data_url(data).partition(",")[2])
        assert b"secret" not in sent
        assert b"profile" not in sent


# ---- what is refused


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def cut(kind: str) -> bytes:
    data = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), kind)
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "is no image", id="nothing"),
        pytest.param(b"hello\n", "is no image", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image", id="SVG"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "is no image", id="EPS"),
        pytest.param(b"%PDF-1.7\n", "is no image", id="PDF"),
        pytest.param(png(60_000, 60_000), "is no image", id="a bomb"),
        pytest.param(png(9_000, 9_000), "9000 x 9000 pixels, at most 60,000,000", id="too many pixels"),
        pytest.param(png(8, 8), "is damaged", id="too few bytes"),
        *[pytest.param(cut(kind), "is damaged", id=f"half a {kind}") for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP")],
        pytest.param(bytes(MAX_BYTES + 1), "31,457,281 bytes, at most 31,457,280", id="too many bytes"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        data_url(data)
    assert caught.value.hint


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "a  picture%20.png"
    file.write_bytes(encoded(gradient(), "PNG"))
    assert farthest(decoded(read_image(file)), gradient()) == 0
    file.write_bytes(b"text")
    with pytest.raises(UsageError, match=r"a  picture%20\.png' is no image"):
        read_image(file)


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(UsageError, match="1,099,511,627,776 bytes, at most"):
        read_image(file)


def test_a_device_without_an_end() -> None:
    with pytest.raises(UsageError, match="bytes, at most"):
        read_image(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("none.png", "'none.png' cannot be read: No such file", "check the path"),
        (".", "'.' cannot be read: Is a directory", "check the path"),
        ("a\0b", "cannot be read", "check the path"),
        ("x" * 5000, "too long", "check the path"),
        ("http://127.0.0.1:9/a.png", "cannot be read", "addresses are never fetched"),
        ("https://example.com/a.png", "cannot be read", "addresses are never fetched"),
        ("file:///etc/hostname", "cannot be read", "addresses are never fetched"),
        (f"{URL}{'A' * 5000}", "cannot be read", "addresses are never fetched"),
    ],
)
def test_paths_that_lead_nowhere(path: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_image(Path(path))
    assert message in str(caught.value)
    assert hint in str(caught.value.hint)
    assert len(str(caught.value)) < 400


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    file = tmp_path / "secret.png"
    file.write_bytes(b"")
    file.chmod(0)
    with pytest.raises(UsageError, match="Permission denied"):
        read_image(file)


def test_no_format_that_starts_a_program() -> None:
    assert not {"EPS", "WMF", "SVG", "PDF"} & set(images.FORMATS)


# ---- messages


def test_messages_with_and_without_images() -> None:
    plain, two = with_images("What?", []), with_images("What?", [URL, URL])
    assert (plain.content, has_image(plain)) == ("What?", False)
    assert has_image(two)
    assert [part["type"] for part in two.content] == ["image_url", "image_url", "text"]  # type: ignore[index]
    told = without_images(two)
    assert [part["text"] for part in told.content] == ["[an image]", "[an image]", "What?"]  # type: ignore[index]
    assert has_image(two), "the thread keeps it"
    assert not has_image(told)
    assert told.id == two.id


@pytest.mark.parametrize(
    "message", [HumanMessage("a"), AIMessage("b"), HumanMessage(["c", {"type": "text", "text": "d"}])]
)
def test_a_message_without_images_stays_as_it_is(message: AnyMessage) -> None:
    assert without_images(message) is message


def test_who_answers() -> None:
    image, text = with_images("What is it?", [URL]), HumanMessage("And now?")
    reply = AIMessage("", tool_calls=[{"name": "clock", "args": {}, "id": "1"}])
    observation = ToolMessage("noon", tool_call_id="1")
    assert who_answers([image]) == ("vision", [image])
    assert who_answers([image, reply, observation]) == ("vision", [image, reply, observation])
    assert who_answers([text]) == ("general", [text])
    role, told = who_answers([image, AIMessage("A cat."), text])
    assert role == "general"
    assert "[an image]" in str(told[0].content)
    assert URL not in str(told)
    assert who_answers([text, AIMessage("x"), image])[0] == "vision"
