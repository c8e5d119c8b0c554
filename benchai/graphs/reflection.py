"""Reflection: draft, critique, revise, until the critique approves; the best draft is kept, not only the last."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from pydantic import Field

from benchai import events
from benchai.graphs.context import RunContext
from benchai.graphs.registry import TaskInput, Workflow
from benchai.graphs.tasks import task_of

ROLE = "general"
# "Approved once the title is right" is none
APPROVED = re.compile(
    r"\W*APPROVED\b(?!.*\b(?:after|but|except|however|if|once|provided|unless|when)\b)", re.IGNORECASE
)
_NO = re.compile(r":\s*no\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?](?:\s|$)|\n")


class ReflectionInput(TaskInput):
    """A task, and how often its draft is revised."""

    refinements: int = Field(3, ge=0, le=20, description="Revisions at most")


class ReflectionState(TypedDict, total=False):
    """``open`` is how many points the critique of ``draft`` names, ``best`` the draft with the fewest so far."""

    messages: Annotated[list[AnyMessage], add_messages]
    refinements: int
    draft: str
    critique: str
    round: int
    best: str
    best_open: int | None


async def draft(state: ReflectionState, runtime: Runtime[RunContext]) -> ReflectionState:
    """Write the first draft."""
    runtime.context.emit(events.Step(node="draft"))
    text = await runtime.context.write(ROLE, "writer", task_of(state["messages"]))
    return {"draft": text, "round": 0, "best": text, "best_open": None}


async def criticise(state: ReflectionState, runtime: Runtime[RunContext]) -> ReflectionState:
    """Check the draft against the task."""
    runtime.context.emit(events.Step(node="critique", detail=f"of draft {state['round'] + 1}"))
    task = f"Task: {task_of(state['messages'])}\n\nDraft:\n{state['draft']}"
    critique = await runtime.context.write(ROLE, "critic", task)
    found = open_points(critique)
    runtime.context.emit(events.Thought(step=runtime.context.ledger.steps, text=critique))
    best_open = state.get("best_open")
    if best_open is None or found <= best_open:
        return {"critique": critique, "best": state["draft"], "best_open": found}
    return {"critique": critique}


async def revise(state: ReflectionState, runtime: Runtime[RunContext]) -> ReflectionState:
    """Make the changes that the critique asks for."""
    runtime.context.emit(events.Step(node="revise", detail=f"draft {state['round'] + 2}"))
    critique = what_to_change(state["critique"])
    task = f"Task: {task_of(state['messages'])}\n\nDraft:\n{state['draft']}\n\nCritique:\n{critique}"
    text = await runtime.context.write(ROLE, "reviser", task)
    return {"draft": text, "round": state["round"] + 1}


async def finish(state: ReflectionState, runtime: Runtime[RunContext]) -> ReflectionState:
    """Answer with the best draft."""
    if state.get("best_open"):
        left = f"not approved after {state['round']} revisions; the best draft has {state['best_open']} open points"
        runtime.context.emit(events.Notice(text=left))
    return {"messages": [AIMessage(state["best"])]}


def open_points(critique: str) -> int:
    """How many points a critique names; 0 when it approves."""
    if is_approved(critique):
        return 0
    said_no = len(_NO.findall(critique))
    return said_no or max(len([part for part in _SENTENCE.split(what_to_change(critique)) if part.strip()]), 1)


def is_approved(critique: str) -> bool:
    """Whether the last line of a critique begins with APPROVED and names no condition."""
    lines = [line for line in critique.splitlines() if line.strip()]
    return bool(lines) and APPROVED.match(lines[-1]) is not None


def what_to_change(critique: str) -> str:
    """A critique without the lines that only say yes or no to each requirement."""
    lines = [line for line in critique.splitlines() if line.strip()]
    rest = lines[1:] if len(lines) > 1 and re.search(r":\s*(yes|no)\b", lines[0], re.IGNORECASE) else lines
    return "\n".join(rest)


def _after_critique(state: ReflectionState) -> Literal["revise", "finish"]:
    return "finish" if is_approved(state["critique"]) or state["round"] >= state["refinements"] else "revise"


def build() -> StateGraph[ReflectionState, RunContext, ReflectionState, ReflectionState]:
    """The graph: draft, then critique and revise by turns."""
    graph = StateGraph(ReflectionState, context_schema=RunContext)
    graph.add_node("draft", draft)
    graph.add_node("criticise", criticise)
    graph.add_node("revise", revise)
    graph.add_node("finish", finish)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "criticise")
    graph.add_conditional_edges("criticise", _after_critique)
    graph.add_edge("revise", "criticise")
    return graph


def _written(state: Any) -> str:
    return str(state.get("best") or state.get("draft") or "")


WORKFLOW = Workflow(
    name="reflection",
    description="Write, criticise and revise until the critique approves (draft, critique, revision)",
    build=build,
    roles=(ROLE,),
    input=ReflectionInput,
    reset={"draft": "", "critique": "", "round": 0, "best": "", "best_open": None},
    written=_written,
)
