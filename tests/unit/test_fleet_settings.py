"""Settings of the fleet, and errors as they are handed to several callers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchai.config import load_config
from benchai.errors import BenchAIError, ConfigError

MODELS: dict[str, Any] = {"general": {"file": "builtin:tiny"}, "code": {"file": "builtin:tiny"}}


def load(tmp_path: Path, **sections: Any) -> Any:
    path = tmp_path / "benchai.yaml"
    path.write_text(yaml.safe_dump({"models": MODELS, **sections}), encoding="utf-8")
    return load_config(path).config


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"router": {"fallback": {"code": ["genral"]}}}, "genral"),
        ({"router": {"fallback": {"cod": ["general"]}}}, "cod"),
        ({"router": {"max_queue": 0}}, "max_queue"),
        ({"router": {"max_passes": 0}}, "max_passes"),
        ({"router": {"max_wait": 0}}, "max_wait"),
        ({"fleet": {"vision_hold": -1}}, "vision_hold"),
        ({"fleet": {"memory": {"vram": 0}}}, "vram"),
        ({"fleet": {"memory": {"reserve": -1}}}, "reserve"),
        ({"fleet": {"slot_cache": -1}}, "slot_cache"),
        ({"fleet": {"probe_deadline": 0}}, "probe_deadline"),
        ({"fleet": {"max_restarts": 0}}, "max_restarts"),
        ({"fleet": {"no_such_key": 1}}, "no_such_key"),
        ({"models": {"m": {"file": "builtin:tiny", "keep": True, "ttl": 5}}}, "ttl"),
        ({"models": {"m": {"file": "builtin:tiny", "placement": "cpu", "hybrid": True}}}, "hybrid"),
        ({"models": {"m": {"file": "builtin:tiny", "placement": "disk"}}}, "placement"),
        ({"models": {"m": {"file": "builtin:tiny", "ttl": 0}}}, "ttl"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path: Path, sections: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        load(tmp_path, **sections)


def test_good_settings_load(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        router={"fallback": {"code": ["general"]}, "max_queue": 1, "max_wait": 0.5, "max_passes": 1},
        fleet={"vision_hold": 0, "slot_cache": 0, "memory": {"vram": 1, "reserve": 0, "ram": 1}},
    )
    assert config.router.fallback == {"code": ["general"]}


def all_errors(kind: type[BenchAIError] = BenchAIError) -> list[type[BenchAIError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in all_errors(below))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_each_caller_can_have_an_error_of_its_own(kind: type[BenchAIError]) -> None:
    error = kind("what was wrong", hint="the mend")
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (again.message, again.hint) == (error.message, error.hint)
        assert vars(again) == vars(error)
        assert str(again) == str(error)
