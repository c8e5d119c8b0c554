"""What a run's graph begins with, from the input of a client that knows its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages

from benchai.errors import UsageError
from benchai.graphs.checks import check_task
from benchai.graphs.execution import Graph
from benchai.graphs.names import BUILTIN
from benchai.graphs.registry import Workflow

FORMS = '{"messages": [{"role": "user", "content": "..."}]}, or {"task": "..."}'


def started(workflow: Workflow, graph: Graph, given: Any) -> tuple[dict[str, Any], str]:
    """The state that a new task begins with, and the task in words ("" where a user's graph is given none).

    Args:
        workflow: The workflow.
        graph: Its compiled graph.
        given: A text; or an object with ``messages`` or ``task``, inputs of the workflow, and keys of its state.

    Raises:
        UsageError: it is of another form, a key is unknown or a value wrong, or the last message is no user's.
    """
    data = {"task": given} if isinstance(given, str) else given
    if not isinstance(data, Mapping):
        raise UsageError(f"the input {_shown(given)} is no object", hint=f"for example {FORMS}")
    messages = _messages(workflow, data)
    task = _task(messages)
    own = set(workflow.input.model_fields) - {"task"}
    state = set(graph.builder.schemas.get(graph.builder.input_schema, {}))
    known = own | state | {"messages", "task"}
    for unknown in (key for key in data if key not in known):
        hint = f"it takes {', '.join(sorted(known))}"
        raise UsageError(f"{workflow.name}: the input {_shown(unknown)} is unknown", hint=hint)
    question = HumanMessage(task or "-")
    validated = workflow.start(question, {key: value for key, value in data.items() if key in own})
    beyond = {key: value for key, value in data.items() if key in state - own - {"messages", "task"}}
    return {**validated, **beyond, "messages": messages}, task


def _messages(workflow: Workflow, data: Mapping[str, Any]) -> list[BaseMessage]:
    if "messages" not in data and "task" in data:
        if not isinstance(data["task"], str):
            raise UsageError(f"the input task = {_shown(data['task'])} is no text")
        check_task(data["task"])
        return [HumanMessage(data["task"])]
    given = data.get("messages", [])
    try:
        messages = list(convert_to_messages(given if isinstance(given, list) else [given]))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise UsageError(f"the input messages = {_shown(given)} cannot be read: {error}", hint=FORMS) from error
    if workflow.name in BUILTIN:
        if not messages or not isinstance(messages[-1], HumanMessage):
            hint = f"for example {FORMS}"
            raise UsageError(f"{workflow.name} answers a user: the last message must be of the role 'user'", hint=hint)
        check_task(_task(messages))
    return messages


def _task(messages: list[BaseMessage]) -> str:
    last = next((one for one in reversed(messages) if isinstance(one, HumanMessage)), None)
    return "" if last is None else str(last.text)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
