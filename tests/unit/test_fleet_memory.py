"""Options, refusals and measurements of the memory book."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config.models import ModelConfig
from benchai.errors import ConfigError
from benchai.runtime.placement.memory import Measured, _gpu_options, check_offload
from benchai.runtime.placement.model_info import read_model_info
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("layers", "hybrid", "refused"),
    [
        ("auto", False, False),
        ("all", False, False),
        (0, False, False),
        (1, False, True),
        (4, False, True),
        (5, False, False),
        (99, False, False),
        (3, True, False),
    ],
)
def test_a_part_of_a_model_on_the_gpu_needs_a_word(layers: int | str, hybrid: bool, refused: bool) -> None:
    info = read_model_info(TINY)
    assert info.layers == 5
    model = ModelConfig.model_validate({"file": "m.gguf", "gpu_layers": layers, "hybrid": hybrid})
    if not refused:
        check_offload("m", model, info)
        return
    with pytest.raises(ConfigError, match=f"models.m.gpu_layers = {layers}: a part of its 5 layers") as caught:
        check_offload("m", model, info)
    assert "hybrid: true" in str(caught.value.hint)


def test_an_unknown_file_is_not_refused() -> None:
    check_offload("m", ModelConfig.model_validate({"file": "m.gguf", "gpu_layers": 3}), None)


@pytest.mark.parametrize(
    ("total", "gpus", "totals", "hybrid", "options"),
    [
        (5, [], {}, False, []),
        (5, ["gpu0"], {"gpu0": 10}, False, [{"gpu0": 5}]),
        (15, ["gpu0"], {"gpu0": 10}, False, [{"gpu0": 15}]),
        (15, ["gpu0"], {"gpu0": 10}, True, [{"gpu0": 15}, {"gpu0": 10, "cpu": 5}]),
        (10, ["gpu0"], {"gpu0": 10}, True, [{"gpu0": 10}]),
        (5, ["gpu0"], {}, True, [{"gpu0": 5}]),
        (9, ["gpu0", "gpu1"], {"gpu0": 10, "gpu1": 5}, False, [{"gpu0": 9}, {"gpu1": 9}, {"gpu0": 6, "gpu1": 3}]),
        (
            20,
            ["gpu0", "gpu1"],
            {"gpu0": 10, "gpu1": 5},
            True,
            [{"gpu0": 20}, {"gpu1": 20}, {"gpu0": 14, "gpu1": 7}, {"gpu0": 10, "gpu1": 5, "cpu": 5}],
        ),
    ],
)
def test_where_a_model_may_go(
    total: int, gpus: list[str], totals: dict[str, int], hybrid: bool, options: list[dict[str, int]]
) -> None:
    assert _gpu_options(total, gpus, totals, hybrid) == options


@given(
    total=st.integers(1, 10**6),
    sizes=st.lists(st.integers(0, 10**5), min_size=1, max_size=4),
    hybrid=st.booleans(),
)
def test_every_option_holds_the_whole_model(total: int, sizes: list[int], hybrid: bool) -> None:
    totals = {f"gpu{number}": size for number, size in enumerate(sizes)}
    for option in _gpu_options(total, list(totals), totals, hybrid):
        assert sum(option.values()) >= total
        assert all(mib >= 0 for mib in option.values())
        assert sum(option.values()) <= total + len(totals)


# ---- measurements


def test_what_was_measured_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "measured.json"
    measured = Measured(file)
    assert measured.get("key", "gpu") is None
    measured.put("key", "gpu", 7)
    measured.put("key", "cpu", 8)
    measured.put("other", "gpu", 9)
    measured.put("key", "gpu", 10)
    again = Measured(file)
    assert again.all("key") == {"gpu": 10, "cpu": 8}
    assert again.get("other", "gpu") == 9
    assert again.all("none") == {}
    assert [one.name for one in file.parent.iterdir()] == ["measured.json"]


def test_the_same_measurement_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    Measured(file).put("key", "gpu", 7)
    before = file.stat().st_ino
    Measured(file).put("key", "gpu", 7)
    assert file.stat().st_ino == before


ODD = [
    "",
    "{",
    "null",
    "[]",
    "7",
    '{"key": 5}',
    '{"key": []}',
    '{"key": null}',
    '{"key": {"gpu": "x"}}',
    '{"key": "x"}',
]


@pytest.mark.parametrize("text", ODD)
def test_a_file_that_makes_no_sense_is_empty(tmp_path: Path, text: str) -> None:
    file = tmp_path / "measured.json"
    file.write_text(text, encoding="utf-8")
    measured = Measured(file)
    assert measured.all("key") == {}
    assert measured.get("key", "gpu") is None
    measured.put("key", "gpu", 7)
    assert measured.get("key", "gpu") == 7


def test_a_file_in_another_encoding_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_bytes(b"\xff\xfe{")
    assert Measured(file).all("key") == {}


@pytest.mark.parametrize("mib", [-5, True])
def test_a_figure_that_cannot_be_is_not_used(tmp_path: Path, mib: int) -> None:
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({"key": {"gpu": mib}}), encoding="utf-8")
    # a negative claim is an exception where it is used
    assert Measured(file).get("key", "gpu") is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    measured = Measured(tmp_path / "file" / "measured.json")
    measured.put("key", "gpu", 7)
    assert measured.all("key") == {}


def test_a_folder_in_its_place_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "measured.json").mkdir()
    measured = Measured(tmp_path / "measured.json")
    measured.put("key", "gpu", 7)
    assert measured.all("key") == {}
    assert [one.name for one in tmp_path.iterdir()] == ["measured.json"]


@given(st.dictionaries(st.text(max_size=3), st.dictionaries(st.sampled_from(["gpu", "cpu"]), st.integers(1, 10**6))))
def test_what_is_put_is_got(tmp_path_factory: pytest.TempPathFactory, figures: dict[str, dict[str, int]]) -> None:
    measured = Measured(tmp_path_factory.mktemp("book") / "measured.json")
    for key, kinds in figures.items():
        for kind, mib in kinds.items():
            measured.put(key, kind, mib)
    assert all(measured.all(key) == kinds for key, kinds in figures.items())
