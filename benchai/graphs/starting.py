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
    state = set(graph.builder.schemas.get(graph.builder.input_schema, {}))
    own = set(workflow.input.model_fields) - {"task"}
    _check_keys(workflow, data, own | state | {"messages", "task"})
    words = data["task"] if "task" in data and "task" not in state else None
    given = _messages(workflow, data, words)
    ours = _adds_messages(graph)
    read = _read(given, strict=ours)
    if workflow.name in BUILTIN:
        _check_question(workflow, read)
    inputs = {key: value for key, value in data.items() if key in own}
    validated = workflow.start(HumanMessage(_task(read) or "-"), inputs)
    begins = {**validated, **{key: value for key, value in data.items() if key in state - own - {"messages"}}}
    if given is None:
        # what the thread has stays, whatever its graph does with a list
        del begins["messages"]
    else:
        begins["messages"] = read if ours else given
    return begins, _task(read)


def _check_keys(workflow: Workflow, data: Mapping[str, Any], known: set[str]) -> None:
    for unknown in (key for key in data if key not in known):
        hint = f"it takes {', '.join(sorted(known))}"
        raise UsageError(f"{workflow.name}: the input {_shown(unknown)} is unknown", hint=hint)


def _messages(workflow: Workflow, data: Mapping[str, Any], words: Any) -> list[Any] | None:
    """The messages as they were given; None where there are none."""
    if words is None:
        given = data.get("messages")
        return given if isinstance(given, list | None) else [given]
    if "messages" in data:
        raise UsageError(f"{workflow.name} is given messages and a task", hint=f"give one of them: {FORMS}")
    if not isinstance(words, str):
        raise UsageError(f"the input task = {_shown(words)} is no text")
    check_task(words)
    return [HumanMessage(words)]


def _read(given: list[Any] | None, *, strict: bool) -> list[BaseMessage]:
    """LangChain's messages; a graph that keeps others may have some that are none."""
    try:
        return list(convert_to_messages(given or []))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        if not strict:
            return []
        told = str(error).partition("\n")[0]
        raise UsageError(f"the input messages = {_shown(given)} cannot be read: {told}", hint=FORMS) from error


def _check_question(workflow: Workflow, messages: list[BaseMessage]) -> None:
    if not messages or not isinstance(messages[-1], HumanMessage):
        hint = f"for example {FORMS}"
        raise UsageError(f"{workflow.name} answers a user: the last message must be of the role 'user'", hint=hint)
    check_task(_task(messages))


def _adds_messages(graph: Graph) -> bool:
    """Whether the state's messages are LangChain's: the reducer makes them so."""
    reducer = getattr(graph.channels.get("messages"), "operator", None)
    return "add_messages" in getattr(reducer, "__name__", "")


def _task(messages: list[BaseMessage]) -> str:
    last = next((one for one in reversed(messages) if isinstance(one, HumanMessage)), None)
    return "" if last is None else str(last.text)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
