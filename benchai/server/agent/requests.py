"""What clients ask of runs; unknown fields are ignored, as the reference server does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from benchai.errors import Unprocessable

if TYPE_CHECKING:
    from benchai.graphs.guards import Budget

Mode = Literal["values", "messages", "messages-tuple", "updates", "events", "tasks", "checkpoints", "debug", "custom"]
Strategy = Literal["reject", "rollback", "interrupt", "enqueue"]
Action = Literal["interrupt", "rollback"]
Nodes = Literal["*"] | list[str]
#: Keys of ``config.configurable`` that are ours to read, not the graph's.
OWN_KEYS = ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "budget", "priority", "run_id")
LONGEST_WAIT = 30 * 24 * 3600.0
_INTERRUPT = re.compile(r"[0-9a-f]{32}")


class Body(BaseModel):
    """A body; what is not known is ignored."""

    model_config = ConfigDict(extra="ignore")


class SendTo(Body):
    """A node and what it is given."""

    node: str
    input: Any = None


class CommandBody(Body):
    """LangGraph's ``Command``."""

    update: dict[str, Any] | list[Any] | None = None
    resume: Any = None
    goto: SendTo | str | list[SendTo | str] | None = None


class BudgetBody(BaseModel):
    """What a run may spend: calls of a model, tokens, seconds."""

    model_config = ConfigDict(extra="forbid")

    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    seconds: Annotated[float, Field(gt=0, le=LONGEST_WAIT)] | None = None

    def over(self, budget: Budget) -> Budget:
        """``budget`` with what is set here in its place."""
        return replace(budget, **self.model_dump(exclude_none=True))


class RunConfig(Body):
    """LangGraph's configuration of a run; ``configurable`` holds ``budget`` and ``priority``, too."""

    tags: list[str] = Field(default_factory=list)
    recursion_limit: Annotated[int, Field(ge=1, le=100_000)] | None = None
    configurable: dict[str, Any] = Field(default_factory=dict)

    @property
    def budget(self) -> BudgetBody:
        """What the run may spend.

        Raises:
            Unprocessable: it is malformed.
        """
        try:
            return BudgetBody.model_validate(self.configurable.get("budget") or {})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(("config.configurable.budget", *map(str, first["loc"])))
            hint = '{"steps": 5, "tokens": 10000, "seconds": 60}, each of them if it is needed'
            raise Unprocessable(f"{place}: {first['msg']}", hint=hint) from error

    @property
    def priority(self) -> int:
        """Runs of a higher one begin first, of those of the same owner.

        Raises:
            Unprocessable: it is no whole number from -100 to 100.
        """
        found = self.configurable.get("priority", 0)
        if not isinstance(found, int) or isinstance(found, bool) or not -100 <= found <= 100:
            raise Unprocessable(
                f"config.configurable.priority = {str(found)[:100]!r} is no whole number from -100 to 100"
            )
        return found

    @property
    def own(self) -> dict[str, Any]:
        """What the graph's nodes get."""
        return {k: v for k, v in self.configurable.items() if k not in OWN_KEYS and not k.startswith("__")}


class CheckpointBody(Body):
    """Where a run begins."""

    checkpoint_id: str | None = None
    checkpoint_ns: str | None = None


class RunBody(Body):
    """A run that is asked for."""

    assistant_id: str
    input: Any = None
    command: CommandBody | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    config: RunConfig = Field(default_factory=RunConfig)
    context: dict[str, Any] | None = None
    stream_mode: list[Mode] = Field(default_factory=lambda: ["values"])  # type: ignore[arg-type]
    stream_subgraphs: bool = False
    interrupt_before: Nodes | None = None
    interrupt_after: Nodes | None = None
    checkpoint: CheckpointBody | None = None
    checkpoint_id: str | None = None
    webhook: str | None = Field(None, max_length=8_000)
    multitask_strategy: Strategy = "enqueue"
    if_not_exists: Literal["create", "reject"] = "reject"
    on_disconnect: Literal["cancel", "continue"] = "continue"
    on_completion: Literal["delete", "keep"] = "delete"
    after_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT)] | None = None

    @field_validator("config", "metadata", "stream_mode", mode="before")
    @classmethod
    def _given(cls, value: Any, info: Any) -> Any:
        if info.field_name != "stream_mode":
            return {} if value is None else value
        if value is None or value == []:
            return ["values"]
        return [value] if isinstance(value, str) else value

    @property
    def begins_at(self) -> str | None:
        """The checkpoint that it begins at; None: the thread's last."""
        named = self.checkpoint.checkpoint_id if self.checkpoint else None
        found = self.checkpoint_id or named or self.config.configurable.get("checkpoint_id")
        if found is not None and not isinstance(found, str):
            raise Unprocessable(f"config.configurable.checkpoint_id = {str(found)[:100]!r} is no text")
        return found


class CancelBody(Body):
    """Runs to cancel: some of a thread, or all of a status."""

    thread_id: str | None = None
    run_ids: list[str] | None = None
    status: Literal["pending", "running", "all"] | None = None


def merged(assistant: Mapping[str, Any], body: RunBody) -> RunBody:
    """What is asked for, with what the assistant brings where nothing else is said."""
    config = assistant.get("config") or {}
    configurable = {**(config.get("configurable") or {}), **body.config.configurable}
    tags = [*(config.get("tags") or []), *body.config.tags]
    limit = body.config.recursion_limit or config.get("recursion_limit")
    try:
        settings = RunConfig(configurable=configurable, tags=tags, recursion_limit=limit)
    except ValidationError as error:
        raise Unprocessable(f"the config of the assistant: {error.errors(include_url=False)[0]['msg']}") from error
    _ = settings.budget, settings.priority
    context = {**(assistant.get("context") or {}), **(body.context or {})} or None
    return body.model_copy(update={"config": settings, "context": context})


def mode_of(name: str) -> tuple[str, ...]:
    """The modes that an event may be of; nothing for those that every client gets."""
    head = name.partition("|")[0]
    if head in ("metadata", "error", "end"):
        return ()
    return ("messages-tuple",) if head == "messages" else (head.partition("/")[0],)


def are_interrupts(resume: Any) -> bool:
    """Whether a decision is one for each of some interrupts, by their ids: 32 hexadecimal digits."""
    return isinstance(resume, Mapping) and bool(resume) and all(map(_INTERRUPT.fullmatch, resume))
