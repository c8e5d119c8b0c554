"""What a workflow asks, as tool calls of OpenAI's wire, and what the client's tool messages say to it.

The id of such a call leads back to its thread without a table: it holds the thread's random id, a mark of the run that
asked, and one of the question. A thread bears the name of its API key, so that under another key the same id leads
nowhere; who cannot see the call cannot guess its 122 random bits.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from benchai.errors import UsageError
from benchai.graphs.approvals import KINDS, Approval, Question

#: Ids of calls have at most 40 characters, as OpenAI checks them.
PREFIX = "call_"
#: Bytes of a mark; it need only tell the runs of one thread, or the questions of one run, from each other.
MARK = 4
#: Names of the calls that ask neither for a tool: a plan, or what a user's graph wants to know.
PLAN, OTHER = "approve_plan", "answer_question"
HOW = 'approve, reject, "reject: why", or JSON as {"decision": "edit", "arguments": {...}}'


@dataclass(frozen=True)
class Call:
    """An id of a call, taken apart; the marks are those of the run and of the question."""

    id: str
    thread: uuid.UUID
    run: bytes
    question: bytes


@dataclass(frozen=True)
class Ask:
    """One question as a call: ``approval`` is None where a user's graph interrupts with a value of its own."""

    call: str
    interrupt: str
    approval: Approval | None
    value: Any = None

    def as_call(self) -> dict[str, Any]:
        """As it stands in ``tool_calls``."""
        function = {"name": self._name(), "arguments": as_text(self._arguments())}
        return {"id": self.call, "type": "function", "function": function}

    def about(self) -> dict[str, Any]:
        """What a program may want to know of it beside the call."""
        kind = self.approval.kind if self.approval is not None else "question"
        reason = self.approval.reason if self.approval is not None else ""
        return {"call": self.call, "kind": kind, "reason": reason}

    def _name(self) -> str:
        if self.approval is None:
            return OTHER
        return PLAN if self.approval.kind == "plan" else self.approval.subject

    def _arguments(self) -> Any:
        return {"question": self.value} if self.approval is None else self.approval.arguments


@dataclass(frozen=True)
class Answers:
    """The tool messages at a conversation's end: what is said to each call, all of one run's questions."""

    thread: uuid.UUID
    run: bytes
    texts: Mapping[str, str]

    def decisions(self, asks: Sequence[Ask]) -> dict[str, Any]:
        """What the run goes on with, by interrupt.

        Raises:
            UsageError: a call is left without an answer, or an answer cannot be read.
        """
        left = [ask.call for ask in asks if ask.call not in self.texts]
        if left:
            hint = "send a tool message for each call of the last reply"
            raise UsageError(f"the call {left[0]!r} is not answered", hint=hint)
        found: dict[str, Any] = {}
        for ask in asks:
            text = self.texts[ask.call]
            if ask.approval is None:
                found[ask.interrupt] = _value(text)
            else:
                found.setdefault(ask.interrupt, {"decisions": {}})["decisions"][ask.approval.id] = decision_of(text)
        return found


def call_id(thread: uuid.UUID, run_id: str, question: str) -> str:
    """The id of a call: 37 characters."""
    marks = mark(run_id) + mark(f"{run_id}/{question}")
    return PREFIX + base64.urlsafe_b64encode(thread.bytes + marks).decode()


def mark(text: str) -> bytes:
    """A few bytes that tell a text from others."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:MARK]


def read_call(id: Any) -> Call | None:
    """An id taken apart; None where it is none of ours."""
    if not isinstance(id, str) or not id.startswith(PREFIX) or not id.isascii():
        return None
    try:
        data = base64.b64decode(id.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    if len(data) != 16 + 2 * MARK:
        return None
    return Call(id, uuid.UUID(bytes=data[:16]), data[16 : 16 + MARK], data[16 + MARK :])


def asks_of(thread: uuid.UUID, run_id: str, interrupts: Iterable[Any], questions: Sequence[Question]) -> list[Ask]:
    """What a run asks, as calls.

    Args:
        thread: Its id on the wire.
        run_id: The run that asked.
        interrupts: LangGraph's, for their values.
        questions: ``graphs.approvals.pending`` of them.
    """
    values = {str(one.id): one.value for one in interrupts}
    found: list[Ask] = []
    for one in questions:
        if not one.asked:
            found.append(Ask(call_id(thread, run_id, one.interrupt), one.interrupt, None, values[one.interrupt]))
        found += [Ask(call_id(thread, run_id, it.id), one.interrupt, it) for it in one.asked]
    return found


def answers_in(messages: Sequence[tuple[Mapping[str, Any], str]]) -> Answers | None:
    """The answers that a conversation ends with; None where its last message is no tool's.

    Args:
        messages: The conversation, each message with its words.

    Raises:
        UsageError: one answers no call of a workflow, calls of several runs, or a call twice.
    """
    texts: dict[str, str] = {}
    calls: list[Call] = []
    for message, words in reversed(messages):
        if message.get("role") != "tool":
            break
        calls.append(_known(message.get("tool_call_id")))
        if calls[-1].id in texts:
            raise UsageError(f"the call {calls[-1].id!r} is answered twice", hint="one tool message for each call")
        texts[calls[-1].id] = words
    if not calls:
        return None
    if len({(call.thread, call.run) for call in calls}) > 1:
        raise UsageError("the tool messages answer calls of several replies", hint="answer those of the last one")
    return Answers(calls[0].thread, calls[0].run, texts)


def _known(id: Any) -> Call:
    call = read_call(id)
    if call is None:
        shown = repr(id)[:100]
        hint = "give back the id of the call as it stood in the reply"
        raise UsageError(f"tool_call_id = {shown}: a workflow has made no such call", hint=hint)
    return call


def decision_of(text: str) -> dict[str, Any]:
    """A decision from a word, from a word with a message after a colon, or from JSON; not yet checked further.

    Raises:
        UsageError: it is none of these.
    """
    given, data = text.strip(), None
    if given[:1] in ("{", '"'):
        try:
            data = orjson.loads(given)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"the decision {given[:60]!r} is no JSON: {error}", hint=HOW) from None
        given = data if isinstance(data, str) else ""
    if isinstance(data, dict) and isinstance(data.get("decision"), str):
        return data
    word, _, message = given.partition(":")
    if word.strip().lower() not in KINDS:
        raise UsageError(f"{text.strip()[:60]!r} is no decision", hint=HOW)
    return {"decision": word.strip().lower(), "message": message.strip()}


def as_text(value: Any) -> str:
    """A value as JSON; what JSON does not know as text."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # half a surrogate pair: escaped it is JSON all the same
        return json.dumps(value, default=str)


def _value(text: str) -> Any:
    """What a user's graph gets: JSON as what it says, else the words."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
