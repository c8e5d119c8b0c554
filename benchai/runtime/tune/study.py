"""The trials of a tune, kept in an SQLite file of Optuna's, so that a killed one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from benchai.config import ModelConfig, paths
from benchai.errors import BenchAIError, Conflict
from benchai.runtime.tune.pruning import pruner
from benchai.runtime.tune.space import Change, Knob, change_of, labels_of

if TYPE_CHECKING:
    import optuna

#: So many proposals in a row that were tried already: nothing new is left.
MOST_REPEATS = 12
STARTUP_TRIALS = 8
NAME = "tune"


@dataclass(frozen=True)
class Attempt:
    """One trial: ``cost`` in seconds where it was measured to the end, else ``reason`` says why not."""

    number: int
    change: Change
    cost: float | None
    reason: str | None = None


def folder() -> Path:
    """Where studies and recommendations are kept."""
    return paths.data_dir() / "tune"


def study_file(model: str, key: Mapping[str, Any]) -> Path:
    """The file of the study of one model; ``key`` is all that makes figures comparable."""
    text = json.dumps(key, sort_keys=True, default=str)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", model)[:60]
    return folder() / f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.sqlite"


@contextmanager
def opened(file: Path, space: Sequence[Knob], model: ModelConfig, seed: int, *, fresh: bool) -> Iterator[Study]:
    """Open a study, make it where it is not there (or ``fresh``), and take up what a killed tune left.

    Raises:
        Conflict: another process works on it.
        BenchAIError: the file cannot be written, or holds no study.
    """
    with _locked(file):
        if fresh:
            _forget(file)
        with _storage(file) as storage:
            yield Study(file, _loaded(storage, seed), space, model)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    lock = FileLock(f"{file}.lock", blocking=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise Conflict("another 'benchai tune' works on these trials", hint="wait for it, or end it") from error
    except OSError as error:
        raise _unusable(file, error) from error
    try:
        yield
    finally:
        lock.release()


def _forget(file: Path) -> None:
    try:
        for part in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))):
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(file, error) from error


def _unusable(file: Path, error: BaseException) -> BenchAIError:
    cause = error.__cause__ or error
    why = str(cause).splitlines()[0] if str(cause) else repr(cause)
    hint = "check the permissions and the space of that folder; --fresh begins anew"
    return BenchAIError(f"the trials {str(file)!r} cannot be used: {why}", hint=hint)


@contextmanager
def _storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        kwargs = {"creator": lambda: _connection(file)}
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}", engine_kwargs=kwargs)
        yield storage
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error, RuntimeError) as e:
        if isinstance(e, RuntimeError) and storage is not None:
            raise
        raise _unusable(file, e) from e
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _connection(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=30, check_same_thread=False)
    try:
        # each value is a transaction of its own: waiting for the disk at each would take longer than the trials
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _loaded(storage: optuna.storages.RDBStorage, seed: int) -> optuna.Study:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(storage=storage, study_name=NAME, load_if_exists=True, pruner=pruner())
    # the same seed again would propose what it proposed before the end
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=STARTUP_TRIALS)
    return study


class Study:
    """The trials of one model, goal and load; costs in seconds."""

    def __init__(self, file: Path, study: optuna.Study, space: Sequence[Knob], model: ModelConfig) -> None:
        self.file = file
        self._study = study
        self._space = space
        self._model = model
        self.taken_up = self._take_up()

    def _take_up(self) -> int:
        """End the trials that a killed process left running; each is tried once more. Returns how many."""
        from optuna.trial import TrialState

        # the lock says that nobody runs them
        left = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in left:
            self._study.set_user_attr(f"ended_{trial.number}", "the tune ended in the middle of it")
            self._study.tell(trial.number, state=TrialState.FAIL)
            # it may have ended before it had asked for all of them
            params = trial.system_attrs.get("fixed_params", {}) | trial.params
            # only settings that are tried may be what killed it
            if not trial.user_attrs.get("again") or not change_of(params, self._model):
                self._study.enqueue_trial(params, user_attrs={"again": True})
        return len(left)

    def enqueue(self, changes: Sequence[Change]) -> None:
        """Try these first; where there are trials already, nothing."""
        if not self._study.get_trials(deepcopy=False):
            for change in changes:
                self._study.enqueue_trial(labels_of(self._space, change))

    def next(self) -> Trial | None:
        """The next trial that is not one that was measured before; None when nothing new is proposed.

        The model as it is comes before all others: they are measured beside it.
        """
        from optuna.trial import TrialState

        for _ in range(MOST_REPEATS):
            trial = self._study.ask()
            labels = {knob.name: str(trial.suggest_categorical(knob.name, knob.labels)) for knob in self._space}
            change = change_of(labels, self._model)
            if change and self._base_waits():
                self._study.tell(trial, state=TrialState.FAIL)
                self._study.enqueue_trial(labels)
                continue
            known = self._known(change)
            if known is None:
                return Trial(self._study, trial, change)
            self._tell_again(trial, known)
        return None

    def _base_waits(self) -> bool:
        from optuna.trial import TrialState

        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return any(not change_of(one.system_attrs.get("fixed_params", {}), self._model) for one in waiting)

    def _known(self, change: Change) -> Attempt | None:
        return next((one for one in self.attempts() if one.change == change), None)

    def _tell_again(self, trial: optuna.Trial, known: Attempt) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("repeats", known.number)
        if known.cost is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, known.cost)

    def costs_of(self, change: Change) -> dict[int, float]:
        """The costs of a trial that was measured to the end, by step; none where there is no such trial."""
        from optuna.trial import TrialState

        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        same = (one for one in done if "repeats" not in one.user_attrs and change_of(one.params, self._model) == change)
        return dict(next((one.intermediate_values for one in same), {}))

    def attempts(self) -> list[Attempt]:
        """All trials that were measured or given up, without those that a process left behind."""
        from optuna.trial import TrialState

        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [
            Attempt(
                trial.number,
                change_of(trial.params, self._model),
                trial.value if trial.state is TrialState.COMPLETE else None,
                trial.user_attrs.get("reason"),
            )
            for trial in done
            if "repeats" not in trial.user_attrs
        ]


class Trial:
    """One trial that runs."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial, change: Change) -> None:
        self._study = study
        self._trial = trial
        self.number = trial.number
        self.change = change
        self._end: Attempt | None = None

    def report(self, step: int, cost: float) -> bool:
        """Note the cost of a step in seconds; True when the rest is not worth measuring."""
        self._trial.report(cost, step)
        return self._trial.should_prune()

    def done(self, cost: float) -> Attempt:
        """It was measured to the end."""
        assert math.isfinite(cost)
        self._study.tell(self._trial, cost)
        self._end = Attempt(self.number, self.change, cost)
        return self._end

    def given_up(self, reason: str) -> Attempt:
        """It was not measured to the end, and will not be."""
        from optuna.trial import TrialState

        # what happens while its engine is stopped changes nothing
        if self._end is None:
            self._trial.set_user_attr("reason", reason)
            self._study.tell(self._trial, state=TrialState.PRUNED)
            self._end = Attempt(self.number, self.change, None, reason)
        return self._end

    def broken_off(self) -> None:
        """The tune ends now; a trial that was under way comes again when it goes on."""
        from optuna.trial import TrialState

        if self._end is not None:
            return
        self._study.tell(self._trial, state=TrialState.FAIL)
        self._study.enqueue_trial(self._trial.params)
