"""Images on their way from a file to an engine: what is sent, to whom, and what is refused before anything is."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchai.bench import Bench
from benchai.errors import UsageError
from tests.integration import scripted
from tests.integration.helpers import TINY_MODEL, benchai, commands, engine_config, loaded, write_config
from tests.integration.scripted import ScriptedServer, contents

__all__ = ["commands"]


def picture(folder: Path, name: str = "red.png", size: tuple[int, int] = (64, 48), colour: str = "red") -> Path:
    path = folder / name
    Image.new("RGB", size, colour).save(path)
    return path


def two_servers(text: ScriptedServer, vision: ScriptedServer) -> dict[str, Any]:
    models = {"words": text.model(), "eyes": vision.model(model="eyes")}
    return {"models": models, "roles": {"general": "words", "vision": "eyes"}}


def images_of(request: dict[str, Any]) -> list[str]:
    """The addresses of the images in a request."""
    parts = [
        part for message in request["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def shown(url: str) -> Image.Image:
    assert url.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_the_engine_gets_one_data_url_and_the_next_question_goes_to_the_text_model(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("It is noon.")) as words, ScriptedServer(scripted.text("A red field.")) as eyes:
        write_config(tmp_path, two_servers(words, eyes))
        first = benchai(
            "run",
            "react",
            "What is it?",
            "--image",
            str(picture(tmp_path, size=(3072, 100))),
            "--thread",
            "t",
            cwd=tmp_path,
        )
        assert (first.code, first.out) == (0, "A red field.\n")
        assert not words.requests
        [request] = eyes.requests
        [url] = images_of(request)
        seen = shown(url)
        assert seen.size == (1536, 50)
        red, green, blue = seen.convert("RGB").getpixel((700, 25))  # type: ignore[misc]
        assert (red > 245, green < 10, blue < 10) == (True, True, True)
        assert "What is it?" in str(request["messages"][-1]["content"])

        second = benchai("run", "react", "And the time?", "--thread", "t", cwd=tmp_path)
        assert (second.code, second.out) == (0, "It is noon.\n")
        assert len(eyes.requests) == 1
        [told] = words.requests
        assert images_of(told) == []
        assert "data:image" not in str(told)
        assert "[an image]" in contents(told, "user")[0]
        assert "What is it?" in contents(told, "user")[0]
        assert contents(told, "assistant") == ["A red field."]

        # a third with two images: the model that sees gets all of them
        more = ("--image", str(picture(tmp_path, "a.gif")), "--image", str(picture(tmp_path, "b.bmp")))
        third = benchai("run", "react", "And these?", *more, "--thread", "t", cwd=tmp_path)
        assert third.code == 0
        assert len(images_of(eyes.requests[1])) == 3
    thread = benchai("threads", "show", "t", cwd=tmp_path)
    assert thread.code == 0
    assert "What is it?" in thread.out
    assert "base64" not in thread.out


@pytest.mark.anyio
async def test_images_from_a_script(tmp_path: Path) -> None:
    path = picture(tmp_path)
    with ScriptedServer(scripted.text("no")) as words, ScriptedServer(scripted.text("yes")) as eyes:
        async with Bench.open(loaded(tmp_path, two_servers(words, eyes)), workspace=tmp_path) as bench:
            result = await bench.run("react", "Look", images=[path, str(path), path.read_bytes()])
            assert result.output == "yes"
            with pytest.raises(UsageError, match="is no image that can be read"):
                await bench.run("react", "Look", images=[b"none"])
            with pytest.raises(UsageError) as caught:
                await bench.run("react", "Look", images=["https://example.com/a.png"])
            assert "addresses are never fetched" in str(caught.value.hint)
        assert [url for url in images_of(eyes.requests[0]) if not url.startswith("data:image/png;base64,")] == []
        assert len(images_of(eyes.requests[0])) == 3
        assert (len(eyes.requests), len(words.requests)) == (1, 0)


def test_what_is_no_image_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    half = picture(tmp_path, "half.png", (300, 300))
    half.write_bytes(half.read_bytes()[:200])
    with ScriptedServer(scripted.text("no")) as words, ScriptedServer(scripted.text("no")) as eyes:
        write_config(tmp_path, two_servers(words, eyes))
        for image, part in {
            "notes.png": "is no image",
            "empty.png": "is no image",
            "drawing.svg": "is no image",
            "half.png": "is damaged",
            "none.png": "No such file",
            ".": "Is a directory",
            f"{words.url}/a.png": "addresses are never fetched",
            "": "cannot be read",
        }.items():
            benchai("run", "react", "Look", "--image", image, cwd=tmp_path).refused(part)
        assert not eyes.requests
        assert not words.requests


def test_no_model_for_images(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("no")) as words:
        write_config(tmp_path, words.config())
        done = benchai("run", "react", "Look", "--image", str(picture(tmp_path)), cwd=tmp_path)
        done.refused("no model serves the role 'vision'")
        assert not words.requests


def test_a_model_that_reads_text_alone_is_sent_nothing(tmp_path: Path) -> None:
    # this engine says nothing of images, which means that it takes none
    config = engine_config(tmp_path, "streams")
    config["roles"]["vision"] = "tiny"
    write_config(tmp_path, config)
    done = benchai("run", "react", "Look", "--image", str(picture(tmp_path)), cwd=tmp_path)
    done.refused("the model 'tiny' of the role 'vision' sees no images", "mmproj")
    log = (tmp_path / "benchai-home" / "logs" / "tiny.log").read_text()
    assert "started" in log
    assert "streaming" not in log


def test_the_bundled_model_sees_no_images(tmp_path: Path) -> None:
    write_config(tmp_path, {"models": {"tiny": TINY_MODEL}, "roles": {"general": "tiny", "vision": "tiny"}})
    done = benchai("run", "react", "Look", "--image", str(picture(tmp_path)), cwd=tmp_path)
    done.refused("sees no images")
