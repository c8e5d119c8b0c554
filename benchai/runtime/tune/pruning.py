"""When a trial is given up: its steps beside the same steps of the best one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchai.runtime.measure.paired import LEAST_PAIRS, compare

if TYPE_CHECKING:
    import optuna

#: A trial is given up when its steps were more than so much dearer than those of the best one, beyond doubt: what was
#: measured at another time may differ by less for other reasons.
WORSE = 1.1
#: ... or each of them by so much from the beginning.
HOPELESS, LEAST_STEPS = 2.0, 3


def pruner() -> optuna.pruners.BasePruner:
    """What tells a study which trials to give up."""
    import optuna

    class PairedPruner(optuna.pruners.BasePruner):
        """Compares the steps of a trial with the same steps of the best one."""

        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            with contextlib.suppress(ValueError):
                return is_hopeless(study.best_trial.intermediate_values, trial.intermediate_values)
            return False

    return PairedPruner()


def is_hopeless(best: Mapping[int, float], now: Mapping[int, float]) -> bool:
    """Whether the steps of a trial so far say that it will not become the best one; costs by step."""
    shared = sorted(best.keys() & now.keys())
    if len(shared) < LEAST_STEPS:
        return False
    ratio = compare([best[step] for step in shared], [now[step] for step in shared])
    if len(shared) < LEAST_PAIRS:
        return min(now[step] / best[step] for step in shared) > HOPELESS
    return ratio.low > WORSE
