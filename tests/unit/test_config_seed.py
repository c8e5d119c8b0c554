"""The configuration of the seed document, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchai.config import ROLES, Config, LoadedConfig, default_config, load_config
from benchai.config.models import TokenCaps
from benchai.runtime.engine.argv import build_flags, resolve_files

SEED = Path(__file__).parent.parent / "fixtures" / "seed.md"


def checklist() -> str:
    """The first YAML block under the heading, character for character."""
    text = SEED.read_text(encoding="utf-8").split("### Configuration Checklist\n", 1)[1]
    found = re.match(r"\s*```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.fixture
def seed(tmp_path: Path) -> LoadedConfig:
    file = tmp_path / "benchai.yaml"
    file.write_text(checklist(), encoding="utf-8")
    return load_config(file, {})


def flags_of(seed: LoadedConfig, name: str) -> list[str]:
    model, file = seed.config.models[name], seed.model_file(name)
    assert file is not None
    files = resolve_files(name, model, seed.resolve, file, seed.folder)
    return build_flags(name, model, files, seed.config.slots_of(name))


def value_of(flags: list[str], flag: str) -> str:
    assert flags.count(flag) == 1, flag
    return flags[flags.index(flag) + 1]


def test_the_code_model_is_set_as_written(seed: LoadedConfig) -> None:
    code = seed.config.models["code"]
    assert code.file == "deepseek-coder-6.7b-instruct.Q5_K_M.gguf"
    assert (code.gpu_layers, code.context, code.threads, code.batch_size) == (35, 8192, 8, 512)
    assert code.flash_attn is True


def test_general_and_planner_stay_on_the_cpu(seed: LoadedConfig) -> None:
    general, planner = seed.config.models["general"], seed.config.models["planner"]
    assert general.file == "phi-3-mini-4k-instruct.Q4_K_M.gguf"
    assert planner.file == "qwen2.5-7b-instruct.Q5_K_M.gguf"
    assert (general.gpu_layers, general.context, general.threads) == (0, 4096, 12)
    assert (planner.gpu_layers, planner.context, planner.threads) == (0, 8192, 12)


def test_each_model_serves_the_role_of_its_name(seed: LoadedConfig) -> None:
    assert seed.config.role_map() == {"code": "code", "general": "general", "planner": "planner"}
    assert [seed.model_for(role)[0] for role in ("code", "general", "planner")] == ["code", "general", "planner"]


def test_router_settings(seed: LoadedConfig) -> None:
    router = seed.config.router
    assert router.health_check_interval == 60
    assert router.max_concurrent == {"general": 2, "planner": 2, "code": 1}
    assert (router.timeouts.gpu, router.timeouts.cpu) == (90, 300)


def test_flags_of_the_code_model(seed: LoadedConfig) -> None:
    flags = flags_of(seed, "code")
    expected = {
        "--gpu-layers": "35",
        "--ctx-size": "8192",
        "--threads": "8",
        "--batch-size": "512",
        "--flash-attn": "on",
        "--parallel": "1",
        "--alias": "code",
    }
    assert {flag: value_of(flags, flag) for flag in expected} == expected
    assert value_of(flags, "--model").endswith("/deepseek-coder-6.7b-instruct.Q5_K_M.gguf")


@pytest.mark.parametrize("name", ["general", "planner"])
def test_flags_of_a_cpu_model(seed: LoadedConfig, name: str) -> None:
    flags = flags_of(seed, name)
    assert value_of(flags, "--gpu-layers") == "0"
    assert value_of(flags, "--threads") == "12"
    assert value_of(flags, "--parallel") == "2"
    assert "--batch-size" not in flags


def test_missing_files_are_warnings_that_name_their_lines(seed: LoadedConfig) -> None:
    lines = checklist().splitlines()
    places = [f"{seed.path}:{number}:5: " for number, line in enumerate(lines, 1) if line.startswith("    file:")]
    assert [warning[: len(place)] for warning, place in zip(seed.warnings, places, strict=True)] == places
    assert all("missing" in warning for warning in seed.warnings)


def test_defaults_of_the_seed_where_the_file_says_nothing() -> None:
    config = Config.model_validate({"models": {"x": {"file": "x.gguf"}}})
    wanted = {"general": 2, "planner": 2, "research": 1, "code": 1, "vision": 1, "embed": 1, "own": 1}
    assert {role: config.concurrency(role) for role in wanted} == wanted
    assert (config.router.timeouts.gpu, config.router.timeouts.cpu) == (90, 300)
    assert config.router.health_check_interval == 60
    assert config.router.port == 8085
    caps = config.router.max_tokens
    assert (caps.gpu, caps.cpu, caps.cpu_reasoning) == (1024, 512, 768)
    assert TokenCaps() == caps


def test_the_built_in_configuration_serves_every_role_of_the_seed() -> None:
    config = default_config()
    assert {"general", "planner", "code", "research", "vision"} <= set(ROLES)
    assert config.role_map() == dict.fromkeys(ROLES, "tiny") | {"vision": "tiny-vision"}
    assert Config.model_validate(config.model_dump()) == config
