"""What the benchmark of the fleet computes from its measurements, and the model that it makes."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from benchmarks.rows import Row, figure, percentile, rounds, table
from benchmarks.synthetic_model import TINY, synthetic


@pytest.mark.parametrize(("value", "met"), [(0.5, True), (0.6, True), (0.601, False)])
def test_a_goal_is_met_up_to_its_limit(value: float, met: bool) -> None:
    row = Row("native", "swap", value, compared="bare", against=0.3, goal="bare + 0.3 s", limit=0.6)
    assert row.met is met
    assert row.ratio == pytest.approx(value / 0.3)
    assert row.cells()[-1] == ("yes" if met else "NO")
    assert row.as_json()["met"] is met


def test_a_row_without_goal_or_comparison_claims_nothing() -> None:
    row = Row("native", "lease, p99", 0.08, "ms", 5000)
    assert (row.ratio, row.met) == (None, None)
    assert row.cells() == ["native", "lease, p99", "0.0800 ms", "5000", "", "", "", ""]


def test_the_table_has_one_width_for_each_column_and_the_notes_below() -> None:
    text = table([Row("native", "a", 1.0, note="why"), Row("llama-server", "bb", 12.0)])
    lines = text.splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4:] == ["", "- native, a: why"]
    assert "\n\n" not in table([Row("native", "a", 1.0)])


@pytest.mark.parametrize(("value", "text"), [(0.0123456, "0.0123 s"), (1.0, "1.00 s"), (123.4, "123 s")])
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value, "s") == text


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_percentiles_are_measured_values(share: float, expected: int) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], share) == expected


def test_rounds_end_with_their_number_or_with_the_time() -> None:
    assert list(rounds(4, until=10, clock=lambda: 0)) == [0, 1, 2, 3]
    assert list(rounds(9, until=10, least=2, clock=lambda: 11)) == [0, 1]
    assert list(rounds(1, until=10, least=2, clock=lambda: 11)) == [0]


def test_the_synthetic_model_reads_as_a_model_with_the_bundled_tokenizer(tmp_path: Path) -> None:
    made = gguf.GGUFReader(synthetic(tmp_path / "made.gguf", width=64, layers=2))
    bundled = gguf.GGUFReader(TINY)
    keys = [key for key in bundled.fields if key.startswith("tokenizer.")]
    assert {key: made.fields[key].contents() for key in keys} == {key: bundled.fields[key].contents() for key in keys}
    shapes = {tensor.name: tensor.shape.tolist() for tensor in made.tensors}
    assert shapes["blk.1.ffn_down.weight"] == [192, 64]
    assert len(shapes) == 2 + 2 * 11
