"""The full form: sources of a model, roles, limits, and what the sections take."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from benchai.config import Config, ModelConfig

FULL: dict[str, Any] = {
    "models": {
        "local": {"file": "a.gguf", "mmproj": "p.gguf", "draft": {"file": "d.gguf"}, "lora": ["l.gguf"]},
        "hub": {"hf": "owner/name:Q5_K_M"},
        "far": {"endpoint": "https://api.example.com/v1", "model": "big", "api_key_env": "KEY"},
    },
    "roles": {"general": "local", "planner": "hub", "code": "far", "critic": "local"},
    "models_dir": "models",
    "engine": {"kind": "native", "stall_timeout": 5, "stop_grace": 0.5},
    "router": {
        "host": "127.0.0.1",
        "port": 0,
        "health_check_interval": 5,
        "max_concurrent": {"critic": 3},
        "timeouts": {"gpu": 1, "cpu": 2},
        "max_tokens": {"gpu": 1, "cpu": 2, "cpu_reasoning": 3},
    },
    "budgets": {"steps": 1, "tokens": 2, "seconds": 0.5},
    "workflows": {"mine": "./mine.py:graph"},
    "tools": {"enabled": ["calculator"]},
}


def message_of(model: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as raised:
        ModelConfig.model_validate(model)
    return str(raised.value)


def test_the_full_form_loads_and_is_kept() -> None:
    config = Config.model_validate(FULL)
    assert Config.model_validate(config.model_dump(exclude_defaults=True)) == config
    assert config.role_map() == FULL["roles"]
    assert config.roles_of("local") == ["general", "critic"]
    assert config.roles_of("hub") == ["planner"]
    assert (config.concurrency("critic"), config.concurrency("general"), config.concurrency("code")) == (3, 2, 1)
    assert [model.remote for model in config.models.values()] == [False, False, True]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ({}, "none"),
        ({"threads": 3}, "none"),
        ({"file": "a", "hf": "b/c"}, "file and hf"),
        ({"file": "a", "endpoint": "http://x", "model": "m"}, "file and endpoint"),
        ({"hf": "b/c", "endpoint": "http://x", "model": "m"}, "hf and endpoint"),
        ({"file": "a", "hf": "b/c", "endpoint": "http://x", "model": "m"}, "file and hf and endpoint"),
    ],
)
def test_a_model_has_exactly_one_source(model: dict[str, Any], given: str) -> None:
    assert f"exactly one of file, hf and endpoint is needed, {given} given" in message_of(model)


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ({"endpoint": "http://x"}, "endpoint needs model"),
        ({"endpoint": "x.example.com", "model": "m"}, "a base URL is expected"),
        ({"endpoint": "", "model": "m"}, "a base URL is expected"),
        ({"file": "a", "model": "m"}, "go with endpoint"),
        ({"file": "a", "api_key_env": "KEY"}, "go with endpoint"),
        ({"file": "a", "mlock": True, "load_mode": "none"}, "contradicts load_mode: none"),
        ({"file": "a", "cache_type_v": "q8_0", "flash_attn": False}, "needs flash attention"),
        ({"file": "a", "embedding": True, "rerank": True}, "either embedding or rerank"),
    ],
)
def test_settings_that_contradict_each_other(model: dict[str, Any], part: str) -> None:
    assert part in message_of(model)


@pytest.mark.parametrize(
    "model",
    [
        {"mlock": True, "load_mode": "mmap+mlock"},
        {"mlock": True},
        {"cache_type_v": "q8_0"},
        {"cache_type_v": "q8_0", "flash_attn": True},
        {"cache_type_v": "f16", "flash_attn": False},
        {"cache_type_k": "q8_0", "flash_attn": False},
    ],
)
def test_settings_that_agree(model: dict[str, Any]) -> None:
    ModelConfig.model_validate({"file": "a", **model})


@pytest.mark.parametrize(
    "model",
    [
        {"threads": 0},
        {"threads": 1.5},
        {"context": -1},
        {"gpu_layers": -1},
        {"gpu_layers": "most"},
        {"batch_size": 0},
        {"slots": 0},
        {"port": 65536},
        {"port": -1},
        {"cache_type_k": "q3_0"},
        {"flash_attn": "sometimes"},
        {"load_mode": "swap"},
        {"pooling": "max"},
        {"temperature": -0.1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"max_tokens": 0},
        {"extra_args": "--verbose"},
        {"extra_args": ["--temp", 0.7]},
        {"lora": "a.gguf"},
        {"draft": {}},
        {"draft": {"file": "d", "max_tokens": 0}},
        {"draft": {"file": "d", "gpu_layers": -5}},
        {"file": 5},
    ],
)
def test_values_out_of_range_are_refused(model: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate({"file": "a", **model})


@pytest.mark.parametrize("key", ["threads", "gpu_layers", "port", "context", "temperature"])
def test_yes_is_no_number(key: str) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate({"file": "a", key: True})


@pytest.mark.parametrize("name", ["", "a,b", "../../outside", "/absolute", "..", "a\nb", "-code"])
def test_names_of_models_that_break_flags_or_paths_are_refused(name: str) -> None:
    """A name becomes the alias (a list with commas), a log file and the folder of saved slots."""
    with pytest.raises(ValidationError):
        Config.model_validate({"models": {name: {"file": "a.gguf"}}})


@pytest.mark.parametrize("name", ["tiny", "qwen2.5-7b", "Phi_3", "model 1", "größe"])
def test_ordinary_names_of_models_are_taken(name: str) -> None:
    assert list(Config.model_validate({"models": {name: {"file": "a.gguf"}}}).models) == [name]


@pytest.mark.parametrize("hf", ["nonsense", "", "a/b/c", "/b", "a/", "../..", "a/b c", "a/.git", "a/b--c"])
def test_a_hub_reference_is_checked_when_the_file_is_read(hf: str) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate({"hf": hf})


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "soon"])
def test_times_are_finite_and_positive(seconds: object) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"models": {"a": {"file": "a"}}, "budgets": {"seconds": seconds}})


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({}, {"code": "code", "mine": "mine"}),
        ({"general": "mine"}, {"code": "code", "general": "mine"}),
        ({"code": "mine"}, {"code": "mine"}),
        ({"critic": "code"}, {"code": "code", "critic": "code"}),
    ],
)
def test_roles_of_models(roles: dict[str, str], expected: dict[str, str]) -> None:
    models = {"code": {"file": "a"}, "mine": {"file": "b"}}
    assert Config.model_validate({"models": models, "roles": roles}).role_map() == expected


@pytest.mark.parametrize(
    ("roles", "concurrent", "slots", "expected"),
    [
        (["general"], {}, None, 2),
        (["code"], {}, None, 1),
        (["general", "code"], {}, None, 3),
        (["general", "planner", "code", "research"], {}, None, 4),
        (["general"], {"general": 9}, None, 4),
        (["general"], {}, 7, 7),
        ([], {}, None, 1),
    ],
)
def test_slots(roles: list[str], concurrent: dict[str, int], slots: int | None, expected: int) -> None:
    data = {
        "models": {"m": {"file": "a", "slots": slots}, "other": {"file": "b"}},
        "roles": {"other": "other"} | dict.fromkeys(roles, "m"),
        "router": {"max_concurrent": concurrent},
    }
    assert Config.model_validate(data).slots_of("m") == expected


def test_a_configuration_cannot_be_changed() -> None:
    config = Config.model_validate(FULL)
    with pytest.raises(ValidationError):
        config.models["local"].threads = 3


def test_a_single_model_serves_the_roles_that_write_text() -> None:
    roles = Config.model_validate({"models": {"qwen": {"file": "a.gguf"}}}).role_map()
    assert set(roles) == {"general", "planner", "code", "research", "qwen"}
    assert set(roles.values()) == {"qwen"}


def test_a_single_model_named_as_a_role_serves_that_alone() -> None:
    assert Config.model_validate({"models": {"code": {"file": "a.gguf"}}}).role_map() == {"code": "code"}
