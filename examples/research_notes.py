"""Tools and an approval: read what the workspace holds on a question, write notes, save them if the user agrees.

The model looks around with whatever tools are enabled, in a loop of its own; a second role writes the notes; the
graph itself then calls ``write_file``. Writing asks first, as the permissions of BenchAI say: on a terminal there,
over HTTP by an interrupted thread, in this script by ``ask``. Whoever kills the run in between loses nothing:
``benchai run --resume THREAD`` asks again.

It needs the tool that it calls; in benchai.yaml::

    workflows: [./examples/research_notes.py]
    tools:
      enabled: [list_files, read_file, search_files, write_file]

    benchai run research-notes "What do we know about the heating?" --input file=heating.md --workspace ~/papers
    python examples/research_notes.py "What do we know about the heating?"
"""

import sys
from typing import Annotated, Any, Literal, TypedDict
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from benchai import workflow
from benchai.events import Step
from benchai.graphs.context import RunContext

LOOK = SystemMessage(
    "Find what the files say about the question. Call one tool at a time. When you know enough, answer with the facts "
    "and the file that each one is from."
)
NOTE = SystemMessage("Write notes of at most ten lines in Markdown from these findings. Add nothing of your own.")
MOST_LOOKS = 8


class Input(BaseModel):
    """What the workflow is given; ``file`` becomes a key of the state."""

    task: str = Field(description="The question")
    file: str = Field("notes.md", description="Where the notes go, inside the workspace")


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    file: str
    looks: int
    notes: str


async def look(state: State, runtime: Runtime[RunContext]) -> State:
    """One thought: call a tool, or say what was found."""
    context = runtime.context
    looks = state.get("looks", 0) + 1
    reply = await context.call(
        "research",
        [LOOK, *state["messages"]],
        context.tools.schemas(),
        tool_choice="none" if looks > MOST_LOOKS else None,
    )
    return {"messages": [reply], "looks": looks}


async def act(state: State, runtime: Runtime[RunContext]) -> State:
    """Run the tools that the model called."""
    *before, reply = state["messages"]
    assert isinstance(reply, AIMessage)
    return {"messages": list(await runtime.context.act(reply, before))}


def next_node(state: State) -> Literal["act", "note"]:
    last = state["messages"][-1]
    return "act" if isinstance(last, AIMessage) and last.tool_calls else "note"


async def note(state: State, runtime: Runtime[RunContext]) -> State:
    """Make notes of what was found, and the call that saves them."""
    runtime.context.emit(Step(node="note", detail=f"notes for {state['file']}"))
    findings = HumanMessage(str(state["messages"][-1].text))
    written = await runtime.context.call("general", [NOTE, findings])
    notes = str(written.text).strip()
    save = {"name": "write_file", "args": {"path": state["file"], "content": notes}, "id": f"call_{uuid4().hex[:12]}"}
    # in a node of its own: what a node did before a question to the user is done again after the answer
    return {"messages": [AIMessage("", tool_calls=[save])], "notes": notes}


async def save(state: State, runtime: Runtime[RunContext]) -> State:
    """Save the notes, if the user agrees."""
    *before, call = state["messages"]
    assert isinstance(call, AIMessage)
    [result] = await runtime.context.act(call, before)
    told = f"Saved as {state['file']}." if result.status == "success" else f"Not saved: {result.text}"
    return {"messages": [result, AIMessage(f"{state['notes']}\n\n{told}")]}


@workflow("research-notes", input=Input, roles=("research", "general"), steps=20, reset={"looks": 0, "notes": ""})
def build() -> StateGraph[State, RunContext, State, State]:
    """Read the workspace, write notes on a question, save them after approval."""
    graph = StateGraph(State, context_schema=RunContext)
    for node in (look, act, note, save):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "look")
    graph.add_conditional_edges("look", next_node)
    graph.add_edge("act", "look")
    graph.add_edge("note", "save")
    return graph


if __name__ == "__main__":
    from benchai.sync import Bench

    def ask(questions: list[Any]) -> str:
        for question in questions:
            print(f"{question.subject}({question.arguments})", file=sys.stderr)
        return "approve" if input("save? [y/n] ").strip().lower() == "y" else "reject"

    with Bench.open() as bench:
        print(bench.run("research-notes", " ".join(sys.argv[1:]), approver=ask).output)
