"""What is made of measured figures, on plain data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import EngineError
from benchai.runtime.placement.gauge import mib, not_released, shortfall, used_by, with_descendants
from benchai.runtime.placement.gpu import Held


@pytest.mark.parametrize(
    ("needed", "free", "expected"),
    [
        ({}, {}, {}),
        ({"gpu0": 5}, {"gpu0": 5, "cpu": 1}, {}),
        ({"gpu0": 5, "cpu": 2}, {"gpu0": 4, "cpu": 2}, {"gpu0": 1}),
        ({"gpu1": 5}, {"gpu0": 9}, {"gpu1": 5}),
        ({"gpu1": 0}, {}, {}),
    ],
)
def test_shortfall(needed: dict[str, int], free: dict[str, int], expected: dict[str, int]) -> None:
    assert shortfall(needed, free) == expected


PARENTS = {1: 0, 10: 1, 11: 10, 12: 10, 13: 12, 20: 1, 21: 20}


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ([], set()),
        ([10], {10, 11, 12, 13}),
        ([12, 20], {12, 13, 20, 21}),
        ([10, 12, 10], {10, 11, 12, 13}),
        ([99], {99}),
    ],
)
def test_with_descendants(pids: list[int], expected: set[int]) -> None:
    assert with_descendants(pids, PARENTS) == expected


@given(st.lists(st.integers(0, 9)), st.dictionaries(st.integers(0, 9), st.integers(0, 9)))
def test_any_figures_of_parents_come_to_an_end(pids: list[int], parents: dict[int, int]) -> None:
    family = with_descendants(pids, parents)
    assert set(pids) <= family
    assert all(pid in family for pid, parent in parents.items() if parent in family)


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([Held(1, 5), Held(2, 7), Held(9, 100)], 12, id="ours alone"),
        pytest.param([Held(1, 5), Held(1, 6)], 6, id="listed twice: compute and graphics"),
        pytest.param([Held(1, 5, (1, 0)), Held(1, 6, (2, 0))], 11, id="two instances"),
        pytest.param([Held(1, 5), Held(2, None)], None, id="one of ours unknown"),
        pytest.param([Held(1, 5), Held(9, None)], 5, id="a foreign one unknown"),
    ],
)
def test_used_by(processes: list[Held], expected: int | None) -> None:
    assert used_by({1, 2}, processes) == expected


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 1), (2**20, 1), (2**20 + 1, 2)])
def test_mib(size: int, expected: int) -> None:
    assert mib(size) == expected


def test_the_error_tells_both_figures() -> None:
    error = not_released({"gpu0": 5000, "gpu1": 100, "cpu": 1}, {"gpu0": 3000, "cpu": 8}, 15)
    assert isinstance(error, EngineError)
    assert error.message == (
        "memory did not come back within 15 s: gpu0 has 3000 of 5000 MiB free, gpu1 tells no figures (100 MiB needed)"
    )
    assert error.hint is not None
    assert error.needed == {"gpu0": 5000, "gpu1": 100, "cpu": 1}
    assert error.free == {"gpu0": 3000, "cpu": 8}
