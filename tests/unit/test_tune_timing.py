"""How the minutes of a tune are shared out, for quick models and for slow ones."""

from __future__ import annotations

import pytest

from benchai.runtime.tune.timing import Timing

QUICK = Timing(whole=600, start=2, step=1, steps=8, rounds=6)
# a model of 7B on a CPU
SLOW = Timing(whole=600, start=6, step=13, steps=8, rounds=6)
HOPELESS = Timing(whole=60, start=30, step=30, steps=8, rounds=6)


@pytest.mark.parametrize(("timing", "steps", "proof"), [(QUICK, 8, 120), (SLOW, 2, 384), (HOPELESS, 2, 1080)])
def test_a_round_has_fewer_steps_where_they_take_long(timing: Timing, steps: int, proof: float) -> None:
    assert timing.round_steps == steps
    assert timing.proof_seconds == proof


@pytest.mark.parametrize(
    ("timing", "spent", "search", "finalists", "take_back"),
    [
        (QUICK, 0, True, 3, True),
        # three finalists and the proof are kept back: 180 s
        (QUICK, 419, True, 3, True),
        (QUICK, 421, False, 2, True),
        (QUICK, 461, False, 1, False),
        (SLOW, 239, True, 1, False),
        (SLOW, 241, False, 1, False),
        (HOPELESS, 23, True, 1, False),
        (HOPELESS, 25, False, 1, False),
    ],
)
def test_the_search_ends_so_that_there_is_time_for_the_proof(
    timing: Timing, spent: float, search: bool, finalists: int, take_back: bool
) -> None:
    assert timing.may_search(spent) is search
    assert timing.finalists(spent) == finalists
    assert timing.may_take_back(spent) is take_back
