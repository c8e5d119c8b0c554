"""Vision: look at the images once, then hand what was seen to another role."""

from __future__ import annotations

from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from pydantic import Field

from benchai import events
from benchai.agents.images import has_image
from benchai.agents.messages import is_question
from benchai.errors import UsageError
from benchai.graphs.context import RunContext
from benchai.graphs.registry import TaskInput, Workflow
from benchai.graphs.tasks import task_of

VISION = "vision"
LOOK = "Describe the picture."


class VisionInput(TaskInput):
    """A task about images, and who goes on with what is seen in them."""

    role: str = Field("general", description="Role that answers from the description")


class VisionState(TypedDict, total=False):
    """``description`` is what the vision model saw."""

    messages: Annotated[list[AnyMessage], add_messages]
    role: str
    description: str


async def look(state: VisionState, runtime: Runtime[RunContext]) -> VisionState:
    """Have the images described.

    Raises:
        UsageError: there is no image on the thread.
    """
    # a second question on a thread may be about the image of the first
    question = next((one for one in reversed(state["messages"]) if is_question(one) and has_image(one)), None)
    if question is None:
        raise UsageError("the task has no image", hint="give one with --image FILE")
    runtime.context.emit(events.Step(node="look"))
    assert isinstance(question.content, list)
    images = [part for part in question.content if isinstance(part, dict) and part.get("type") != "text"]
    seen = await runtime.context.write(VISION, "vision", HumanMessage([*images, {"type": "text", "text": LOOK}]))
    runtime.context.emit(events.Thought(step=runtime.context.ledger.steps, text=seen))
    return {"description": seen}


async def answer(state: VisionState, runtime: Runtime[RunContext]) -> VisionState:
    """Answer from the description."""
    role = state.get("role") or "general"
    runtime.context.emit(events.Step(node="answer", detail=f"role {role}"))
    asked = f"{task_of(state['messages'])}\n\nImage:\n{state['description']}"
    text = await runtime.context.write(role, "react", asked)
    return {"messages": [AIMessage(text)]}


def build() -> StateGraph[VisionState, RunContext, VisionState, VisionState]:
    """The graph: look, then answer."""
    graph = StateGraph(VisionState, context_schema=RunContext)
    graph.add_node("look", look)
    graph.add_node("answer", answer)
    graph.add_edge(START, "look")
    graph.add_edge("look", "answer")
    return graph


WORKFLOW = Workflow(
    name="vision",
    description="Look at an image, then answer from what was seen",
    build=build,
    roles=(VISION, "general"),
    input=VisionInput,
    reset={"description": ""},
    written=lambda state: str(state.get("description", "")),
)
