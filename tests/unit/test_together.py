"""Whether models fit into memory at the same time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchai.runtime.placement.decide import Claim, Wanted
from benchai.runtime.placement.together import Stays, fit_together

GPU = {"gpu0": 12, "cpu": 32}
EITHER = ({"gpu0": 7}, {"cpu": 7})
TWO = {"gpu0": 12, "gpu1": 12, "cpu": 32}
ON_ONE = ({"gpu0": 8}, {"gpu1": 8}, {"gpu0": 4, "gpu1": 4}, {"cpu": 8})


@pytest.mark.parametrize(
    ("budget", "staying", "wanted", "fit"),
    [
        (GPU, {}, {}, True),
        (GPU, {}, {"a": ({"gpu0": 6},), "b": ({"gpu0": 6},)}, True),
        (GPU, {}, {"a": ({"gpu0": 6},), "b": ({"gpu0": 7},)}, False),
        (GPU, {"a": {"gpu0": 6}}, {"b": ({"gpu0": 6},)}, True),
        (GPU, {"a": {"gpu0": 6}}, {"b": ({"gpu0": 7},)}, False),
        # what runs already stays where it is
        (GPU, {"a": {"gpu0": 7}, "b": {"gpu0": 7}}, {}, True),
        (GPU, {}, {"a": ({"gpu0": 8},), "b": ({"cpu": 30},)}, True),
        # the fleet would rather swap than put a model where it is slow
        (GPU, {}, {"a": EITHER, "b": EITHER}, False),
        # too large for the GPU at all: it has its own place
        (GPU, {}, {"a": ({"gpu0": 20}, {"cpu": 20}), "b": ({"gpu0": 8}, {"cpu": 8})}, True),
        (GPU, {}, {"a": ({"gpu0": 20}, {"cpu": 20}), "b": ({"gpu0": 20}, {"cpu": 20})}, False),
        # each has a GPU of its own
        (TWO, {}, {"a": ON_ONE, "b": ON_ONE}, True),
        (TWO, {"a": {"gpu0": 8}}, {"b": ON_ONE}, True),
        (TWO, {"a": {"gpu1": 8}}, {"b": ON_ONE}, True),
        (TWO, {}, {"a": ON_ONE, "b": ON_ONE, "c": ON_ONE}, False),
        # never fits
        (GPU, {}, {"a": ({"gpu0": 20},)}, False),
        ({}, {}, {"a": ({"cpu": 1},)}, False),
    ],
)
def test_what_fits(
    budget: Mapping[str, int], staying: Mapping[str, Claim], wanted: Mapping[str, tuple[Claim, ...]], fit: bool
) -> None:
    there = [Stays(model, claim) for model, claim in staying.items()]
    asked = [Wanted(model, options) for model, options in wanted.items()]
    assert fit_together(budget, there, asked) is fit
    assert fit_together(budget, there, asked[::-1]) is fit
