"""What a run asks its user, as elicitation: a client that shows forms answers while the run waits, or in its next call.

Clients of the first protocols are asked on the stream of their call. Those of the one without sessions can't be: the
run ends on its thread, and the client calls again with the answers, and the thread as its state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from pydantic import ValidationError

from benchai.bench import Bench
from benchai.graphs.approvals import Approval, every, pending
from benchai.graphs.execution import Approver
from benchai.server.mcp.calls import Context

#: Id and kind of what a user's own graph asks: it takes the answer as it is.
ANSWER, QUESTION = "benchai:answer", "question"
#: Characters of a plan, of a question, or of a call's arguments that are put before a person.
LONGEST = 4_000
DECIDING: dict[str, Any] = {
    "type": "object",
    "properties": {
        "decision": {"type": "string", "title": "Decision", "enum": ["approve", "reject"]},
        "message": {"type": "string", "title": "Message", "description": "What the model is told where you reject"},
    },
    "required": ["decision"],
}
ANSWERING: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "title": "Answer"}},
    "required": ["answer"],
}


def can_ask(context: Context) -> bool:
    """Whether the client shows forms."""
    capabilities = context.session.client_capabilities
    asked = capabilities.elicitation if capabilities is not None else None
    # a client of the first versions names no mode, and means forms
    return asked is not None and (asked.form is not None or asked.url is None)


async def asked_on(bench: Bench, workflow: str, thread: str) -> list[Approval]:
    """What a thread awaits an answer to."""
    state = await bench.graph(workflow).aget_state({"configurable": {"thread_id": thread}})
    asked = every(pending(state.interrupts))
    if asked or len(state.interrupts) != 1:
        return asked
    value = state.interrupts[0].value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return [Approval(ANSWER, QUESTION, text, {}, "")]


def approver(bench: Bench, workflow: str, thread: str, context: Context) -> Approver | None:
    """What asks the client while the run waits; None where that can't be done."""
    if not (can_ask(context) and context.session.can_send_request):
        return None

    async def ask(_: list[Approval]) -> Any:
        given: dict[str, ElicitResult] = {}
        for one in await asked_on(bench, workflow, thread):
            answer = await _elicit(context, one)
            if answer is None or answer.action == "cancel":
                return None
            given[one.id] = answer
        return answers(given)

    return ask


def asked_next(asked: Sequence[Approval], thread: str) -> InputRequiredResult:
    """What a client that can't be asked on the way is given: it calls again, with its answers and the thread."""
    requests: dict[str, Any] = {one.id: ElicitRequest(params=_form(one)) for one in asked}
    return InputRequiredResult(input_requests=requests, request_state=thread)


def answers(responses: Mapping[str, Any] | None) -> Any:
    """What a client answered, as a run takes it; None where it answered nothing, or dismissed a question."""
    given = {id: _answer(one) for id, one in (responses or {}).items() if isinstance(one, ElicitResult)}
    if not given or None in given.values():
        return None
    return given.get(ANSWER, {"decisions": given})


def _answer(result: ElicitResult) -> Any:
    if result.action == "cancel":
        return None
    content = result.content or {}
    if result.action == "decline":
        return "reject"
    if "answer" in content:
        return content["answer"]
    return {name: content[name] for name in ("decision", "message") if content.get(name) is not None}


async def _elicit(context: Context, asked: Approval) -> ElicitResult | None:
    form = _form(asked)
    try:
        return await context.session.elicit_form(form.message, form.requested_schema, context.request_id)
    except (MCPError, ValidationError):
        # it says that it can, and can't: nobody has answered
        return None


def _form(asked: Approval) -> ElicitRequestFormParams:
    schema = ANSWERING if asked.kind == QUESTION else DECIDING
    return ElicitRequestFormParams(message=_question(asked), requested_schema=schema)


def _question(asked: Approval) -> str:
    if asked.kind == QUESTION:
        return _short(asked.subject)
    if asked.kind == "plan":
        return f"May the run work to this plan?\n\n{_short(asked.subject)}"
    why = f"\n\n{asked.reason}" if asked.reason else ""
    arguments = json.dumps(asked.arguments, ensure_ascii=False, indent=2, default=str)
    return f"May the run call {asked.subject}?\n\n{_short(arguments)}{why}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
