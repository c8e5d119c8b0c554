"""Branches in parallel and structured output: three advisers judge a proposal, each for itself, then a vote.

Each adviser is the same node, sent a different view (``Send``); what it says is a pydantic model, checked and, if it
must be, asked for again. The branches run at once as far as the models have slots. The vote is plain code: what can be
counted is left to no model.

    benchai run panel "Should we replace the boiler this year?"     # with workflows: [./examples/panel.py]
    python examples/panel.py "Should we replace the boiler this year?"
"""

import operator
import sys
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import Send
from pydantic import BaseModel, Field

from benchai import workflow
from benchai.agents.role import Request
from benchai.agents.structured import structured
from benchai.events import Step
from benchai.graphs.context import RunContext

VIEWS = {
    "cost": "You look at money alone: what it costs, what it saves.",
    "risk": "You look at what can go wrong, and how bad that would be.",
    "people": "You look at the people who have to live with it.",
}
ANSWER = 'Answer with JSON only: {"vote": "yes" or "no", "reason": one short sentence}.'


class Opinion(BaseModel):
    """What one adviser says."""

    vote: Literal["yes", "no"]
    reason: str = Field(max_length=400)


class State(TypedDict, total=False):
    """``opinions`` is by view: the branches add to it, and a new question on the thread replaces all of them."""

    messages: Annotated[list[AnyMessage], add_messages]
    opinions: Annotated[dict[str, dict[str, Any]], operator.or_]


class Asked(TypedDict):
    """What one branch is given."""

    view: str
    question: str


def advisers(state: State) -> list[Send]:
    question = str(state["messages"][-1].text)
    return [Send("advise", Asked(view=view, question=question)) for view in VIEWS]


async def advise(asked: Asked, runtime: Runtime[RunContext]) -> State:
    """One adviser's opinion."""
    context, view = runtime.context, asked["view"]
    request = Request([SystemMessage(f"{VIEWS[view]} {ANSWER}"), HumanMessage(asked["question"])])
    opinion = await structured(context.answers("general"), request, Opinion, context.emit)
    context.emit(Step(node="advise", detail=f"{view}: {opinion.vote}"))
    return {"opinions": {view: opinion.model_dump()}}


async def vote(state: State) -> State:
    """Count, and tell the reasons."""
    opinions = {view: Opinion.model_validate(state["opinions"][view]) for view in VIEWS}
    for_it = sum(opinion.vote == "yes" for opinion in opinions.values())
    verdict = "yes" if for_it > len(opinions) / 2 else "no"
    reasons = [f"- {view}: {opinion.vote}, {opinion.reason}" for view, opinion in opinions.items()]
    return {"messages": [AIMessage("\n".join([f"{verdict} ({for_it} of {len(opinions)})", *reasons]))]}


@workflow("panel", roles=("general",), steps=6)
def build() -> StateGraph[State, RunContext, State, State]:
    """Three advisers vote on a proposal, each from its own side."""
    graph = StateGraph(State, context_schema=RunContext)
    graph.add_node("advise", advise, input_schema=Asked)
    graph.add_node("vote", vote)
    graph.add_conditional_edges(START, advisers, ["advise"])
    graph.add_edge("advise", "vote")
    return graph


if __name__ == "__main__":
    from benchai.sync import Bench

    with Bench.open() as bench:
        print(bench.run("panel", " ".join(sys.argv[1:]) or "Should we replace the boiler this year?").output)
