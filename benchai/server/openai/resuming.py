"""Runs that ask their client and go on with its answer, in a later request, after a restart too."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchai.errors import UnknownThread, UsageError
from benchai.events import ApprovalGiven, Event, Result, Usage
from benchai.graphs.approvals import pending
from benchai.server.agent.service import Conflict, UnknownItem
from benchai.server.agent.thread_rows import inner_id
from benchai.server.openai.questions import Answers, Ask, asks_of, call_id, decision_of, mark

if TYPE_CHECKING:
    from benchai.bench import Bench
    from benchai.graphs.checkpoints import Thread

#: How a run ended that had taken the answer, and broke off: it goes on when the answer is given again.
BROKEN_OFF = ("interrupted", "cancelled", "error")
AWAITING = "awaiting_approval"


@contextmanager
def alone(thread: str, under_way: set[str]) -> Iterator[None]:
    """What is asked and its answer are compared, and the run goes on, before anybody else compares.

    Raises:
        Conflict: somebody else is at it.
    """
    if thread in under_way:
        raise Conflict("an answer to this call was given before, its run is under way", hint="wait for its reply")
    under_way.add(thread)
    try:
        yield
    finally:
        under_way.remove(thread)


async def asked_by(bench: Bench, workflow: str, thread: uuid.UUID, owner: str, run_id: str) -> list[Ask]:
    """What a run that has ended asks its client."""
    config: Any = {"configurable": {"thread_id": inner_id(owner, str(thread))}}
    state = await bench.graph(workflow).aget_state(config)
    return asks_of(thread, run_id, state.interrupts, pending(state.interrupts))


@dataclass
class Going:
    """How a thread goes on.

    Attributes:
        decisions: By interrupt; None where it has them already.
        before: The tokens that its client was told of.
        approve_plan: Whether it asks for its plan: who answers that must not be passed over.
    """

    decisions: dict[str, Any] | None
    before: Usage
    approve_plan: bool = False


async def going_on(bench: Bench, workflow: str, answers: Answers, owner: str) -> Going:
    """What the answers mean for their thread.

    Raises:
        UnknownItem: there is no such thread, or it is another key's.
        Conflict: the answer was given before.
        UsageError: the thread is another workflow's, or the answers do not fit.
    """
    inner = inner_id(owner, str(answers.thread))
    thread = await _found(bench, inner, answers)
    if thread.workflow != workflow:
        raise UsageError(f"the call was made by the workflow {thread.workflow!r}, not {workflow!r}")
    events = await bench.threads.events(inner)
    place = _last_asking(events)
    state = await bench.threads.state_of(thread)
    if place is None or mark(events[place]["run_id"]) != answers.run or state not in (AWAITING, *BROKEN_OFF):
        raise Conflict("an answer to this call was given before; it takes effect once")
    asks = await asked_by(bench, workflow, answers.thread, owner, events[place]["run_id"])
    before = Usage(**events[place]["usage"])
    if not asks and state in BROKEN_OFF:
        _check_same(answers, events[place:])
        return Going(None, before)
    _all_known(answers, asks)
    plan = any(ask.approval is not None and ask.approval.kind == "plan" for ask in asks)
    return Going(answers.decisions(asks), before, plan)


async def _found(bench: Bench, inner: str, answers: Answers) -> Thread:
    try:
        return await bench.threads.get(inner)
    except UnknownThread:
        # its own message would name the nearest thread, whose ever that is
        call, hint = next(iter(answers.texts)), "the key must be the one under which the call was made"
        raise UnknownItem(f"no workflow awaits an answer to the call {call!r}", hint=hint) from None


def _check_same(answers: Answers, events: Sequence[Mapping[str, Any]]) -> None:
    """The answers that were taken are those that are given now, as far as is known of them.

    Raises:
        Conflict: one is another.
    """
    taken = [one for one in events if one["type"] == ApprovalGiven.type]
    for one in taken:
        text = answers.texts.get(call_id(answers.thread, events[0]["run_id"], one["id"]))
        if text is not None and decision_of(text)["decision"] != one["decision"]:
            raise Conflict(f"another answer to this call was given before: {one['decision']!r}; it takes effect once")


def _all_known(answers: Answers, asks: list[Ask]) -> None:
    unknown = answers.texts.keys() - {ask.call for ask in asks}
    if unknown:
        raise Conflict(f"the call {min(unknown)!r} awaits no answer any more")


def _last_asking(events: Sequence[Mapping[str, Any]]) -> int | None:
    """Where the result of the run stands that asked last."""
    places = range(len(events) - 1, -1, -1)
    ends = (at for at in places if events[at]["type"] == Result.type and events[at]["stop_reason"] == AWAITING)
    return next(ends, None)


async def resumed(bench: Bench, inner: str, going: Going, user: str | None) -> AsyncGenerator[Event, None]:
    """The events of the run; the result's tokens are those that were not told before."""
    running = bench.stream_resumed(inner, going.decisions, approve_plan=going.approve_plan, user=user)
    async with aclosing(running) as events:
        async for event in events:
            yield _since(event, going.before) if isinstance(event, Result) else event


def _since(result: Result, before: Usage) -> Result:
    data: Mapping[str, Any] = {
        name: max(0, getattr(result.usage, name) - getattr(before, name)) for name in vars(before)
    }
    return Result(**{**vars(result), "usage": Usage(**data)})
