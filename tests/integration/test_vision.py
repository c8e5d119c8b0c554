"""The bundled vision model: a picture on a budget that holds one model at a time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from benchai.bench import Bench
from benchai.config import load_config
from benchai.config.models import TINY_VISION
from benchai.events import Answer, Event, ModelReady, ModelStopped
from tests.integration.fleet_helpers import chat
from tests.integration.helpers import TINY_MODEL, benchai, commands, loaded

__all__ = ["commands"]

pytestmark = pytest.mark.anyio

ON_GPU = TINY_MODEL | {"gpu_layers": "auto", "placement": "gpu"}
EYES = ON_GPU | {"file": TINY_VISION, "mmproj": f"{TINY_VISION}-mmproj"}
TALK = "The lantern stands by the river and the garden lies behind the harbour. " * 12


def picture(kind: str = "PNG") -> bytes:
    drawn = Image.new("RGB", (320, 240), "white")
    ImageDraw.Draw(drawn).ellipse((90, 40, 230, 180), fill=(220, 30, 30))
    encoded = io.BytesIO()
    drawn.save(encoded, kind)
    return encoded.getvalue()


def narrow(**fleet: Any) -> dict[str, Any]:
    """Both bundled models on a virtual GPU that holds one of them."""
    return {
        "models": {"tiny": ON_GPU, "eyes": EYES},
        "roles": {"general": "tiny", "vision": "eyes"},
        "fleet": {"memory": {"vram": 100, "reserve": 0}, **fleet},
    }


async def test_a_picture_swaps_and_the_text_model_comes_back_with_its_context(tmp_path: Path) -> None:
    config = loaded(tmp_path, narrow(vision_hold=0))
    async with Bench.open(config, workspace=tmp_path) as bench:
        fleet = bench._parts.fleet
        assert fleet is not None
        async with fleet.lease("general") as endpoint:
            first = await chat(endpoint, TALK)
        assert first["timings"]["cache_n"] == 0
        events: list[Event] = []
        async for event in bench.stream("react", "What is in the picture?", images=[picture()]):
            events.append(event)
        assert events[-1].as_json()["output"] == "A red circle."
        assert [event.model for event in events if isinstance(event, Answer)] == ["eyes"]
        assert [event.model for event in events if isinstance(event, ModelStopped)][:1] == ["tiny"]
        assert [event.model for event in events if isinstance(event, ModelReady)][:1] == ["eyes"]
        async with fleet.lease("general") as endpoint:
            again = await chat(endpoint, TALK + "And then?")
        assert again["timings"]["cache_n"] > 0.9 * first["timings"]["prompt_n"]
        assert fleet.dispatcher.counts.swaps >= 1


@pytest.mark.parametrize("name", ["shape.png", "shape.jpg", "shape.webp"])
async def test_the_built_in_configuration_sees(tmp_path: Path, name: str) -> None:
    kind = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name.partition(".")[2]]
    (tmp_path / name).write_bytes(picture(kind))
    done = benchai("run", "react", "--image", name, "What is in the picture?", cwd=tmp_path)
    assert (done.code, done.out) == (0, "A red circle.\n"), done


def test_the_role_vision_of_the_built_in_configuration_is_the_model_that_sees() -> None:
    built_in = load_config(None, {})
    assert built_in.config.role_map()["vision"] == "tiny-vision"
    name, model = built_in.model_for("vision")
    assert model.mmproj is not None
    assert built_in.model_file(name) == built_in.resolve(TINY_VISION)
    assert built_in.resolve(model.mmproj).is_file()
