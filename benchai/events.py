"""What happens in a run, as plain data: the CLI renders these, ``--json`` prints them, streams carry them.

Each event has a ``type`` and the seconds since the epoch at which it happened (``time``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

StopReason = Literal[
    "completed",
    "budget_steps",
    "budget_tokens",
    "budget_time",
    "loop",
    "cancelled",
    "error",
    "awaiting_approval",
]
#: What follows a call of a model that failed: the same call again; another one, or a way without it; neither.
Then = Literal["called_again", "repaired", "given_up"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events."""

    type: ClassVar[str]
    time: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, Any]:
        """The event as plain data, ``type`` first."""
        return {"type": self.type} | asdict(self)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run begins on a thread."""

    type: ClassVar[str] = "run"
    workflow: str
    thread_id: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class ModelLoading(Event):
    """A model is being started, because ``role`` was asked for."""

    type: ClassVar[str] = "model_loading"
    model: str
    role: str
    engine: str
    file: str


@dataclass(frozen=True, kw_only=True)
class ModelReady(Event):
    """A model answers; ``seconds`` from its spawn, ``n_ctx`` in tokens."""

    type: ClassVar[str] = "model_ready"
    model: str
    pid: int
    n_ctx: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ModelStopped(Event):
    """A model's process has ended; a negative exit code is a signal."""

    type: ClassVar[str] = "model_stopped"
    model: str
    exit_code: int | None


@dataclass(frozen=True, kw_only=True)
class ModelState(Event):
    """A model's process goes from one state to another.

    ``cause`` says why in words; ``exit_code`` is there when a process has ended, negative for a signal.
    """

    type: ClassVar[str] = "model_state"
    model: str
    previous: str
    state: str
    cause: str
    pid: int | None = None
    exit_code: int | None = None


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """A node of the workflow's graph begins; ``detail`` says what it works on."""

    type: ClassVar[str] = "step"
    node: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelCall(Event):
    """A model has answered a call, or the call has failed.

    Tokens as its engine counted them; ``cached_tokens`` of the prompt came from its cache. ``seconds`` from the request
    to its end; 0 for a request that was never sent. A call that failed has ``error``, the name of its class (mostly of
    ``benchai.errors``; "cancelled" when the run ended meanwhile), ``detail``, what it says, and ``then``, what follows.
    A call that is made again is told once for each time.
    """

    type: ClassVar[str] = "model_call"
    step: int
    role: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds: float
    finish_reason: str = ""
    error: str | None = None
    detail: str = ""
    then: Then | None = None


@dataclass(frozen=True, kw_only=True)
class Repair(Event):
    """A reply was mended: on which rung of the ladder (markup, name, json, grammar, empty, cut, ...), and how."""

    type: ClassVar[str] = "repair"
    rung: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Compacted(Event):
    """A conversation was made shorter to fit the model's context: what was done, tokens before and after (about)."""

    type: ClassVar[str] = "compacted"
    done: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class BudgetLow(Event):
    """The run is near a limit (``budget_steps``, ...), or in a loop: the model is asked to wrap up."""

    type: ClassVar[str] = "budget"
    reason: StopReason
    detail: str


@dataclass(frozen=True, kw_only=True)
class ApprovalRequested(Event):
    """The run waits for a decision: ``kind`` is "tool" or "plan", ``subject`` the tool's name or the plan."""

    type: ClassVar[str] = "approval_requested"
    id: str
    kind: str
    subject: str
    arguments: dict[str, Any]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ApprovalGiven(Event):
    """A decision was taken: approve, edit, reject or respond."""

    type: ClassVar[str] = "approval_given"
    id: str
    decision: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Delta(Event):
    """A piece of text as the model writes it; ``id`` is that of the message it belongs to."""

    type: ClassVar[str] = "delta"
    role: str
    text: str
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Thought(Event):
    """What the model wrote beside its tool calls."""

    type: ClassVar[str] = "thought"
    step: int
    text: str


@dataclass(frozen=True, kw_only=True)
class ToolCall(Event):
    """The model calls a tool."""

    type: ClassVar[str] = "tool_call"
    step: int
    id: str
    name: str
    arguments: dict[str, Any] | str


@dataclass(frozen=True, kw_only=True)
class Observation(Event):
    """What the tool answered.

    ``error`` names why a call failed: ``ToolError``, it can't do what the model asked; ``UsageError``, there is no such
    tool or its arguments are wrong; ``Refused``, the permissions or the user did not allow it; ``TimeoutError``, it
    took too long; else the class of what the tool raised.
    """

    type: ClassVar[str] = "observation"
    step: int
    id: str
    name: str
    ok: bool
    text: str
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer(Event):
    """The final text of a run, and the model that gave it where that is known."""

    type: ClassVar[str] = "answer"
    text: str
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """A limit that was hit, a fallback that was taken, a repair that was made."""

    type: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens as the engine counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Result(Event):
    """The end of a run, always the last event; ``error`` says why where ``stop_reason`` is ``error``."""

    type: ClassVar[str] = "result"
    output: str
    stop_reason: StopReason
    steps: int
    usage: Usage
    thread_id: str
    workflow: str
    error: str | None = None


Emit = Callable[[Event], None]
