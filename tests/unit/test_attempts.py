"""Calls of models that fail: what is told of each attempt, and whether callers mend what they say they can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

from benchai.agents.attempts import Attempts
from benchai.agents.ladder import next_action
from benchai.agents.role import Request
from benchai.agents.structured import structured
from benchai.agents.whole import whole_reply
from benchai.errors import (
    BenchAIError,
    EmptyReply,
    EndpointError,
    EndpointLost,
    EndpointNotReady,
    Unavailable,
    UnreadableCall,
)
from tests.unit.listed import Listed, as_json, called, said
from tests.unit.test_ladder import TOOLS

LOST = EndpointLost("the model 'far' cannot be reached")


class Told:
    """What was told of the attempts of a call."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str | None, str]] = []
        self.seconds: list[float] = []
        self.attempts = Attempts(self._tell)

    def _tell(self, failure: Any, then: str) -> None:
        self.found.append((failure.kind, failure.model, then))
        self.seconds.append(failure.seconds)

    def attempt(self, error: BaseException | None, model: str | None = "far") -> None:
        self.attempts.begin()
        if model is not None:
            self.attempts.send(model)
        if error is not None:
            self.attempts.fail(error)


def test_an_attempt_is_told_when_the_next_one_begins() -> None:
    told = Told()
    told.attempt(LOST)
    assert told.found == []
    told.attempt(EndpointNotReady("loading"), "near")
    assert told.found == [("EndpointLost", "far", "called_again")]
    told.attempt(None)
    assert told.found[1:] == [("EndpointNotReady", "near", "called_again")]
    assert all(seconds >= 0 for seconds in told.seconds)


@pytest.mark.parametrize("then", ["repaired", "given_up"])
def test_the_last_attempt_is_told_with_what_follows(then: Any) -> None:
    told = Told()
    told.attempt(LOST)
    told.attempt(LOST)
    told.attempts.end(then)
    assert [one[2] for one in told.found] == ["called_again", then]


def test_what_was_never_sent_is_told_only_at_the_end() -> None:
    told = Told()
    for _ in range(3):
        told.attempt(Unavailable("it restarts"), None)
    assert told.found == []
    told.attempts.end("given_up")
    assert (told.found, told.seconds) == ([("Unavailable", None, "given_up")], [0.0])


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (LOST, "EndpointLost", "the model 'far' cannot be reached"),
        (asyncio.CancelledError(), "cancelled", ""),
        (KeyError("k"), "KeyError", "'k'"),
    ],
)
def test_an_error_is_named_by_its_class(error: BaseException, kind: str, detail: str) -> None:
    found: list[Any] = []
    attempts = Attempts(lambda failure, _: found.append((failure.kind, failure.detail)))
    attempts.begin()
    attempts.fail(error)
    attempts.end("given_up")
    assert found == [(kind, detail)]


def test_a_call_that_succeeds_tells_nothing() -> None:
    told = Told()
    told.attempt(None)
    told.attempts.end("given_up")
    assert told.found == []


# ---- what callers say they can mend


class House(BaseModel):
    """A form."""

    floors: int


EMPTY, UNREADABLE, REFUSED = EmptyReply("nothing"), UnreadableCall("unread"), EndpointError("refused")
CHOICE, NOTE = as_json(action="note"), as_json(text="a")
Caller = Callable[[Listed], Awaitable[Any]]


def asked(**settings: Any) -> Request:
    return Request([SystemMessage("Be brief."), HumanMessage("Say it.")], **settings)


def words(answer: Listed) -> Awaitable[Any]:
    return whole_reply(answer, asked(), answer.emit)


def ladder(answer: Listed) -> Awaitable[Any]:
    return next_action(answer, asked(tools=TOOLS.schemas()), TOOLS, answer.emit)


def form(answer: Listed) -> Awaitable[Any]:
    return structured(answer, asked(), House, answer.emit)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("caller", "replies", "mends"),
    [
        (words, [EMPTY, said("Well.")], [True]),
        (words, [EMPTY, EMPTY], [True, False]),
        (words, [UNREADABLE, UNREADABLE], [True, False]),
        (words, [REFUSED], [False]),
        (words, [said("The first half", cut=True), REFUSED], [True]),
        (words, [said("The first half", cut=True), TimeoutError("late")], [True]),
        (ladder, [EMPTY, UNREADABLE, CHOICE, NOTE], [True, True]),
        (ladder, [EMPTY, EMPTY], [True, False]),
        (ladder, [UNREADABLE, EMPTY], [True, False]),
        (ladder, [UNREADABLE, UNREADABLE], [True, False]),
        (ladder, [UNREADABLE, CHOICE, EMPTY], [True, True]),
        (ladder, [UNREADABLE, as_json(action="answer"), EMPTY, EMPTY], [True, True, False]),
        (ladder, [called(("note", "text is a")), UNREADABLE], [True]),
        (ladder, [called(("note", "text is a")), REFUSED], [False]),
        (form, [EMPTY, as_json(floors=1)], [True]),
        (form, [UNREADABLE, EMPTY], [True, False]),
        (form, [said("Three."), EMPTY], [False]),
    ],
)
async def test_what_is_said_to_be_mended_is(caller: Caller, replies: list[AIMessage | Exception], mends: Any) -> None:
    answer = Listed(*replies)
    failed = False
    try:
        await caller(answer)
    except BenchAIError:
        failed = True
    assert answer.left == []
    raised = [(reply, request) for reply, request in zip(replies, answer.requests, strict=True)]
    claims = [isinstance(reply, request.mendable) for reply, request in raised if isinstance(reply, Exception)]
    assert claims == mends
    assert failed is not claims[-1]
