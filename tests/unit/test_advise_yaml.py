"""An advice as benchai.yaml."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchai.config import load_config
from benchai.config.hub_fetch import HubFile
from benchai.errors import ModelFileError
from benchai.runtime.advise.advise import Advice, Budget, advise
from benchai.runtime.advise.at_hand import files_at_hand
from benchai.runtime.advise.catalogue import catalogue
from benchai.runtime.advise.downloads import downloads
from benchai.runtime.advise.fit import File, Wanted
from benchai.runtime.advise.rules import concurrency
from benchai.runtime.advise.sizes import estimated_info
from benchai.runtime.advise.yaml_text import as_yaml
from tests.shapes import SHAPES, write_shape

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "rtx3060.yaml"
SEED = Budget((12288,), 47104, 12)


def made(advice: Advice, folder: Path, files: dict[str, File] | None = None) -> str:
    return as_yaml(advice, folder / "models", files or {})


def test_the_seeds_machine_gets_what_the_example_has(tmp_path: Path) -> None:
    """Names, files and the settings that the seed gives; the example's remaining settings are matters of taste."""
    file = tmp_path / "benchai.yaml"
    file.write_text(made(advise(SEED, catalogue()), tmp_path), encoding="utf-8")
    ours, theirs = load_config(file, {}).config, load_config(EXAMPLE, {}).config
    assert ours.role_map() == theirs.role_map()
    assert set(ours.models) == set(theirs.models)
    for name, model in ours.models.items():
        other = theirs.models[name]
        assert (model.file, model.mmproj, model.context) == (other.file, other.mmproj, other.context)
        assert (model.placement, model.threads) == (other.placement, other.threads)
        assert (model.gpu_layers == 0) == (other.gpu_layers == 0)
    code = ours.models["deepseek-coder"]
    assert (code.gpu_layers, code.batch_size, code.flash_attn, code.cache_type_k) == ("all", 512, True, None)
    assert ours.fleet.core == theirs.fleet.core


@pytest.mark.parametrize(
    ("budget", "roles", "context"),
    [
        (Budget((), 8192), None, None),
        (Budget((13312,), 47104), None, None),
        (Budget((24576, 24576), 131072), None, 32768),
        (Budget((12288,), 47104), ["embed", "rerank"], None),
        (Budget((), 4096), None, None),
        (Budget((4096,), 8192), None, None),
        (Budget((24576,), 4096), None, None),
        (Budget((24576,), 512), ["embed", "rerank"], None),
    ],
)
def test_every_advice_loads(budget: Budget, roles: list[str] | None, context: int | None, tmp_path: Path) -> None:
    advice = advise(budget, catalogue(), roles or ("code", "general", "planner", "vision"), Wanted(context))
    file = tmp_path / "benchai.yaml"
    file.write_text(made(advice, tmp_path), encoding="utf-8")
    loaded = load_config(file, {})
    assert all("missing" in warning for warning in loaded.warnings)
    for choice in advice.choices:
        for role in choice.roles:
            name, model = loaded.model_for(role)
            assert model.file == choice.file
            assert (model.gpu_layers == 0) == (choice.place == "cpu")
            assert model.context == choice.context
            assert model.cache_type_v == (None if choice.cache_type == "f16" else choice.cache_type)
            assert loaded.config.slots_of(name) == concurrency(choice.roles)
            assert (model.embedding, model.rerank) == (role == "embed", role == "rerank")


def test_every_reason_is_a_comment(tmp_path: Path) -> None:
    advice = advise(Budget((), 4096), catalogue())
    text = made(advice, tmp_path)
    comments = [line.strip().removeprefix("#").strip() for line in text.splitlines() if line.strip().startswith("#")]
    for choice in advice.choices:
        assert all(f"- {reason}" in comments for reason in choice.reasons)
    assert advice.missing
    assert all(f"{role}: {reason}" in comments for role, reason in advice.missing.items())


def test_names_that_yaml_would_read_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "a: b #c"
    text = as_yaml(advise(SEED, catalogue()), folder, {})
    assert yaml.safe_load(text)["models_dir"] == str(folder)


def test_two_sizes_of_one_family_keep_names_apart(tmp_path: Path) -> None:
    advice = advise(Budget((8192,), 16384), catalogue())
    assert [one.entry.short for one in advice.choices].count("qwen2.5") == 2
    data = yaml.safe_load(made(advice, tmp_path))
    assert {"qwen2.5-7b-instruct", "qwen2.5-3b-instruct"} <= set(data["models"])
    assert set(data["roles"].values()) == set(data["models"])


def test_files_that_are_there_are_found_by_any_spelling(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    small = SHAPES["Qwen2.5-0.5B"].smaller(2, 1024)
    mine = write_shape(folder / "Qwen2.5-7B-Instruct-Q5_K_M.gguf", small)
    write_shape(folder / "phi-3-mini-4k-instruct.Q4_K_M.gguf", small)
    (folder / "deepseek-coder-6.7b-instruct.Q5_K_M.gguf").write_bytes(mine.read_bytes()[:2000])
    (folder / "unknown-Q5_K_M.gguf").write_bytes(mine.read_bytes())
    files = files_at_hand(catalogue(), [tmp_path / "nowhere", folder])
    assert set(files) == {"qwen2.5-7b-instruct.Q5_K_M.gguf", "phi-3-mini-4k-instruct.Q4_K_M.gguf"}
    advice = advise(SEED, catalogue(), wanted=Wanted(files=files))
    text = as_yaml(advice, folder, files)
    assert "file: Qwen2.5-7B-Instruct-Q5_K_M.gguf #" in text
    assert "exactly" in text
    assert "estimated" in text
    assert f"file: {mine} #" in as_yaml(advice, tmp_path / "elsewhere", files)


def listing(repo: str) -> list[HubFile]:
    names = ["README.md", "X-Q8_0.gguf", "X-Q4_K_M.gguf", "mmproj-X-bf16.gguf", "mmproj-X-f16.gguf"]
    names += [f"X-Q5_K_M-0000{part}-of-00002.gguf" for part in (1, 2)]
    return [HubFile(repo, name, 10, "0" * 64) for name in names]


def test_what_has_to_be_fetched(tmp_path: Path) -> None:
    advice = advise(SEED, catalogue())
    code = advice.choice("code")
    assert code is not None
    there = {code.file: File(tmp_path / code.file, estimated_info(code.entry, code.quantisation))}
    needed = downloads(advice, tmp_path, there, listing)
    assert [(one.file.name, one.target.name, one.missing) for one in needed] == [
        ("X-Q5_K_M-00001-of-00002.gguf", "qwen2.5-7b-instruct.Q5_K_M-00001-of-00002.gguf", 10),
        ("X-Q5_K_M-00002-of-00002.gguf", "qwen2.5-7b-instruct.Q5_K_M-00002-of-00002.gguf", 10),
        ("X-Q4_K_M.gguf", "phi-3-mini-4k-instruct.Q4_K_M.gguf", 10),
        ("X-Q4_K_M.gguf", "qwen2-vl-7b-instruct.Q4_K_M.gguf", 10),
        ("mmproj-X-f16.gguf", "qwen2-vl-7b-instruct.mmproj-f16.gguf", 10),
    ]


def test_a_damaged_file_is_not_written_over(tmp_path: Path) -> None:
    advice = advise(SEED, catalogue(), ["general"])
    (tmp_path / "phi-3-mini-4k-instruct.Q4_K_M.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelFileError, match="is damaged or not whole"):
        downloads(advice, tmp_path, {}, listing)


def test_a_repository_that_lacks_the_file(tmp_path: Path) -> None:
    advice = advise(SEED, catalogue(), ["general", "vision"])
    with pytest.raises(ModelFileError, match=r"no GGUF of .* matches 'Q4_K_M'"):
        downloads(advice, tmp_path, {}, lambda repo: [HubFile(repo, "X-Q2_K.gguf", 1, None)])
    with pytest.raises(ModelFileError, match="has no projector"):
        downloads(advice, tmp_path, {}, lambda repo: [HubFile(repo, "X-Q4_K_M.gguf", 1, None)])


def test_one_model_in_two_places_has_two_names(tmp_path: Path) -> None:
    advice = advise(SEED, catalogue())
    planner = advice.choice("planner")
    assert planner is not None
    twice = replace(advice, choices=(planner, replace(planner, roles=("general",), context=4096)))
    data = yaml.safe_load(made(twice, tmp_path))
    assert len(data["models"]) == 2
    assert data["roles"]["planner"] != data["roles"]["general"]


def test_the_licence_stands_beside_each_model(tmp_path: Path) -> None:
    advice = advise(Budget((), 8192), catalogue())
    assert "# - licence: Qwen research licence" in made(advice, tmp_path)


def test_an_encoder_on_a_gpu_has_a_batch_for_its_longest_input(tmp_path: Path) -> None:
    advice = advise(Budget((24576,), 512), catalogue(), ["embed"])
    [model] = yaml.safe_load(made(advice, tmp_path))["models"].values()
    assert model["gpu_layers"] == "all"
    assert model["ubatch_size"] == 1024
    assert "batch_size" not in model
