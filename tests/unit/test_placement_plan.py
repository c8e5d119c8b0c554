"""What the fleet would run: the plan of every model, without starting any."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchai.config import LoadedConfig, ModelConfig, load_config, paths
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.gpu import Gpu
from benchai.runtime.placement.plan import ModelPlan, place, plan_fleet, plan_model

SERVER = Engine("llama-server", Path("/opt/llama-server"))
NATIVE = Engine("native", Path(sys.executable))
GPU = Gpu(index=0, name="RTX 3060", total_mib=12288, free_mib=11000, driver="580.0")
KEYS = ["model", "roles", "engine", "argv", "host", "port", "placement", "file", "missing", "slot_dir"]


def load(tmp_path: Path, text: str) -> LoadedConfig:
    file = tmp_path / "benchai.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, {})


def value_of(plan: ModelPlan, flag: str) -> str:
    return plan.argv[plan.argv.index(flag) + 1]


@pytest.mark.parametrize(
    ("layers", "gpus", "expected"),
    [
        (0, [GPU], "cpu"),
        (35, [GPU], "gpu"),
        ("auto", [GPU], "gpu"),
        ("all", [GPU, GPU], "gpu"),
        (35, [], "cpu"),
        ("auto", [], "cpu"),
    ],
)
def test_place(layers: int | str, gpus: list[Gpu], expected: str) -> None:
    assert place(ModelConfig.model_validate({"file": "a", "gpu_layers": layers}), gpus, SERVER) == expected


def test_the_embedded_engine_runs_on_the_cpu() -> None:
    assert place(ModelConfig(file="a"), [GPU], Engine("native", Path("python"))) == "cpu"


def test_a_remote_model_is_placed_nowhere_here() -> None:
    assert place(ModelConfig(endpoint="http://x/v1", model="m"), [GPU], None) == "remote"


def test_the_plan_of_a_fleet(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    text = """
models:
  code: {file: a.gguf, gpu_layers: 35, port: 8093}
  general: {file: no.gguf, gpu_layers: 0, mmproj: p.gguf, draft: {file: d.gguf}, lora: [l.gguf]}
  far: {endpoint: 'http://127.0.0.1:1/v1', model: big}
roles: {planner: general, critic: far}
"""
    loaded = load(tmp_path, text)
    code, general, far = plan_fleet(loaded, SERVER, [GPU])
    assert [code.model, general.model, far.model] == list(loaded.config.models)
    assert (code.placement, general.placement, far.placement) == ("gpu", "cpu", "remote")
    assert (code.roles, general.roles, far.roles) == (["code"], ["general", "planner"], ["critic"])
    assert (code.host, code.port, general.port) == ("127.0.0.1", 8093, 0)
    assert code.missing == []
    assert general.missing == [str(tmp_path / name) for name in ("no.gguf", "p.gguf", "d.gguf", "l.gguf")]
    assert code.argv[-len(code.argv) + 4] == str(SERVER.program)
    assert value_of(code, "--model") == code.file == str(tmp_path / "a.gguf")
    assert (value_of(code, "--parallel"), value_of(general, "--parallel")) == ("1", "4")


def test_a_remote_endpoint_in_the_plan(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models: {far: {endpoint: 'http://127.0.0.1:1/v1', model: big}}\n")
    (far,) = plan_fleet(loaded, SERVER, [GPU])
    assert (far.engine, far.argv, far.port, far.file, far.missing) == ("remote", [], None, None, [])
    assert far.host == "http://127.0.0.1:1/v1"
    assert far.roles == ["general", "planner", "code", "research", "far"]


def test_the_plan_as_json(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    loaded = load(tmp_path, "models: {code: {file: a.gguf}, general: {file: no.gguf}}\n")
    code, general = (json.loads(json.dumps(plan.as_json())) for plan in plan_fleet(loaded, NATIVE, []))
    assert list(general) == KEYS
    assert list(code) == [key for key in KEYS if key != "missing"]
    assert code["engine"] == "native"
    assert all(isinstance(text, str) for text in code["argv"])


def test_slots_are_saved_in_the_users_cache_by_model(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models: {code: {file: a.gguf}, own: {file: a.gguf, slot_save_path: kept}}\n")
    code, own = plan_fleet(loaded, NATIVE, [])
    assert code.slot_dir == str(paths.cache_dir() / "slots" / "code")
    assert own.slot_dir == str(tmp_path / "kept")
    assert value_of(own, "--slot-save-path") == f"{tmp_path / 'kept'}/"
    assert not paths.cache_dir().exists()


def test_planning_makes_no_folder_and_needs_no_file(tmp_path: Path, own_home: Path) -> None:
    loaded = load(tmp_path, "models: {code: {file: a.gguf}}\n")
    before = sorted(tmp_path.rglob("*"))
    plan_model(loaded, "code", NATIVE, [])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_hub_model_that_is_not_cached_is_missing(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models: {code: {hf: 'owner/name:Q5_K_M'}}\n")
    (plan,) = plan_fleet(loaded, NATIVE, [])
    assert plan.missing == ["hf:owner/name:Q5_K_M"]


@pytest.mark.parametrize(
    ("claim", "layers", "fit"), [({"gpu0": 900}, "all", ["--fit", "off"]), ({"cpu": 900}, "0", []), (None, "auto", [])]
)
def test_the_flags_of_a_plan_are_those_that_the_fleet_would_start_with(
    tmp_path: Path, claim: dict[str, int] | None, layers: str, fit: list[str]
) -> None:
    loaded = load(tmp_path, "models: {code: {file: code.gguf}}")
    (plan,) = plan_fleet(loaded, SERVER, ["gpu0"], {"code": claim} if claim else {})
    assert value_of(plan, "--gpu-layers") == layers
    assert [word for word in plan.argv if word in ("--fit", "off")] == fit
