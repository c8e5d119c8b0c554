"""One node, one role: the smallest workflow.

In a script of your own, as it stands::

    python examples/haiku.py "rain on a tin roof"

From the command line, with ``workflows: [./examples/haiku.py]`` in benchai.yaml (or, under another name,
``workflows: {poet: ./examples/haiku.py:build}``)::

    benchai run haiku "rain on a tin roof"

The bundled model writes no haiku worth reading; name a real one in benchai.yaml.
"""

import sys
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, SystemMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from benchai import workflow
from benchai.graphs.context import RunContext

PROMPT = SystemMessage("Answer every task with a haiku.")


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def write(state: State, runtime: Runtime[RunContext]) -> dict[str, Any]:
    return {"messages": [await runtime.context.call("general", [PROMPT, *state["messages"]])]}


@workflow("haiku", roles=("general",), steps=4)
def build() -> StateGraph[State, RunContext, State, State]:
    """Answer in seventeen syllables."""
    graph = StateGraph(State, context_schema=RunContext)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    return graph


if __name__ == "__main__":
    from benchai.sync import Bench

    with Bench.open() as bench:
        print(bench.run("haiku", " ".join(sys.argv[1:]) or "rain on a tin roof").output)
