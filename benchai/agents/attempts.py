"""The attempts to make one call of a model: those that fail are told when it is known what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchai.errors import BenchAIError
from benchai.events import Then

CANCELLED = "cancelled"


@dataclass(frozen=True)
class Failure:
    """An attempt that failed.

    Attributes:
        error: Why.
        model: The model of benchai.yaml that was asked; None where nothing was sent to one.
        seconds: From the request to its end; 0 where none was sent.
        time: When it failed, in seconds since the epoch.
    """

    error: BaseException
    model: str | None
    seconds: float
    time: float = field(default_factory=time.time)

    @property
    def kind(self) -> str:
        """The name of the error's class."""
        return CANCELLED if isinstance(self.error, asyncio.CancelledError) else type(self.error).__name__

    @property
    def detail(self) -> str:
        """What the error says."""
        return self.error.message if isinstance(self.error, BenchAIError) else str(self.error)


def _to_nobody(_: Failure, __: Then) -> None:
    pass


@dataclass(eq=False)
class Attempts:
    """Follows one call; ``tell`` takes each attempt that failed, and what follows it.

    One that was never sent, because no model was to be had yet, is told only where it is the last.
    """

    tell: Callable[[Failure, Then], None] = _to_nobody
    _failed: Failure | None = None
    _model: str | None = None
    _sent: float = 0.0

    def begin(self) -> None:
        """An attempt begins: the one before it was not the last."""
        if self._failed is not None and self._failed.model is not None:
            self.tell(self._failed, "called_again")
        self._failed = self._model = None

    def send(self, model: str) -> None:
        """The request goes out to a model."""
        self._model, self._sent = model, time.monotonic()

    def fail(self, error: BaseException) -> None:
        """The attempt has failed."""
        self._failed = Failure(error, self._model, time.monotonic() - self._sent if self._model is not None else 0.0)

    def end(self, then: Then) -> None:
        """The call has failed: no attempt follows."""
        if self._failed is not None:
            self.tell(self._failed, then)
