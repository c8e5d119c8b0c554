"""RAG: look up what the question needs, and answer with citations that hold, or say that the sources do not."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict, Field

from benchai import events
from benchai.errors import BadStructure, ContextExceeded, ToolError
from benchai.graphs.citations import Grounded, complaint, shown
from benchai.graphs.context import RunContext
from benchai.graphs.registry import TaskInput, Workflow
from benchai.graphs.tasks import task_of
from benchai.tools.memory import Recalled
from benchai.tools.results import fence, neutralise, sanitise

ROLE = "research"
NOT_THERE = "Not in the sources."
#: Of the context, that passages may take where not all fit: a reply, and a complaint about it, need room, too.
SHARE = 0.6


class Plan(BaseModel):
    """What to look up, the reason first."""

    model_config = ConfigDict(json_schema_extra={"required": ["reason", "queries"]})

    reason: str = ""
    # without them there is no plan: to look nothing up must have been said
    queries: list[str] = Field(max_length=10)


class RagInput(TaskInput):
    """A question, and how much is looked up for it."""

    passages: int = Field(6, ge=1, le=20, description="Passages at most that the answer is made from")
    always: bool = Field(False, description="Look up the question itself, without asking whether that is needed")


class RagState(TypedDict, total=False):
    """``queries`` are looked up, ``found`` is what came of it."""

    messages: Annotated[list[AnyMessage], add_messages]
    passages: int
    always: bool
    queries: list[str]
    found: list[list[str]]


async def plan(state: RagState, runtime: Runtime[RunContext]) -> RagState:
    """Decide what to look up, if anything."""
    question = task_of(state["messages"])
    if state["always"]:
        return {"queries": [question]}
    runtime.context.emit(events.Step(node="plan", detail="what to look up"))
    try:
        said = await runtime.context.decide(ROLE, "rag_plan", question, Plan)
    except BadStructure:
        # looking up too much costs a moment, too little an answer
        return {"queries": [question]}
    queries = list(dict.fromkeys(query.strip() for query in said.queries if query.strip()))[:3]
    runtime.context.emit(events.Thought(step=runtime.context.ledger.steps, text=f"look up: {queries or 'nothing'}"))
    return {"queries": queries}


async def retrieve(state: RagState, runtime: Runtime[RunContext]) -> RagState:
    """Look it up; the best of each query by turns, each passage once."""
    memory = runtime.context.tool_context.memory
    if memory is None:
        raise ToolError("this run has no memory to look into", hint="memory.enabled in benchai.yaml switches it on")
    rankings = [await memory.search(query, state["passages"]) for query in state["queries"]]
    found: dict[str, Recalled] = {}
    for place in range(state["passages"]):
        for ranking in rankings:
            if place < len(ranking):
                found.setdefault(ranking[place].id, ranking[place])
    chosen = list(found.values())[: state["passages"]]
    runtime.context.emit(events.Step(node="retrieve", detail=f"{len(chosen)} passages"))
    return {"found": [list(one) for one in chosen]}


async def answer(state: RagState, runtime: Runtime[RunContext]) -> RagState:
    """Answer from the passages, with quotes that stand there; without any, say so."""
    passages = [Recalled(*one) for one in state["found"]]
    if not passages:
        return {"messages": [AIMessage(f"{NOT_THERE} Nothing that was kept matches the question.")]}
    runtime.context.emit(events.Step(node="answer", detail=f"from {len(passages)} passages"))
    try:
        said, passages = await _grounded(runtime.context, task_of(state["messages"]), passages)
    except BadStructure as error:
        runtime.context.emit(events.Notice(text=f"no answer is held up by the sources: {error.message}"))
        said = Grounded(found=False)
    if not said.found:
        looked = "\n".join(f"- {one.place}" for one in passages)
        return {"messages": [AIMessage(f"{NOT_THERE} These were looked at:\n{looked}")]}
    return {"messages": [AIMessage(shown(said.answer, passages))]}


async def direct(state: RagState, runtime: Runtime[RunContext]) -> RagState:
    """Answer a question that needs no documents."""
    text = await runtime.context.write(ROLE, "rag_direct", task_of(state["messages"]))
    return {"messages": [AIMessage(text)]}


async def _grounded(context: RunContext, question: str, passages: list[Recalled]) -> tuple[Grounded, list[Recalled]]:
    """What is said from the passages, and those of them that fit the model's context, the best first."""
    asked = "\n\n".join([f"Question: {question}", *(_numbered(*one) for one in enumerate(passages, 1))])
    try:
        said = await context.decide(ROLE, "rag_answer", asked, Grounded, lambda it: complaint(it, passages, question))
    except ContextExceeded as error:
        count = _fitting(len(passages), error)
        if not count:
            raise
        context.emit(events.Notice(text=f"only {count} of {len(passages)} passages fit the model's context"))
        return await _grounded(context, question, passages[:count])
    return said, passages


def _fitting(count: int, error: ContextExceeded) -> int:
    """How many passages may fit where so many do not."""
    known = error.n_ctx and error.n_prompt_tokens
    share = SHARE * error.n_ctx / error.n_prompt_tokens if known else 0.5  # type: ignore[operator]
    return min(max(int(count * share), 1), count - 1)


def _numbered(place: int, passage: Recalled) -> str:
    # a document may hold text that looks like a call, or like an order to the model
    return f"Passage {place}. " + fence(neutralise(sanitise(passage.text)), passage.place)


def _after_plan(state: RagState) -> Literal["retrieve", "direct"]:
    return "retrieve" if state["queries"] else "direct"


def build() -> StateGraph[RagState, RunContext, RagState, RagState]:
    """The graph: plan, then retrieve and answer, or answer at once."""
    graph = StateGraph(RagState, context_schema=RunContext)
    graph.add_node("plan", plan)
    graph.add_node("retrieve", retrieve)
    graph.add_node("answer", answer)
    graph.add_node("direct", direct)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", _after_plan)
    graph.add_edge("retrieve", "answer")
    return graph


def _written(state: Any) -> str:
    messages = state.get("messages") or []
    return str(messages[-1].text) if messages and isinstance(messages[-1], AIMessage) else ""


WORKFLOW = Workflow(
    name="rag",
    description="Answer from the user's documents, with citations that are checked",
    build=build,
    roles=(ROLE,),
    input=RagInput,
    reset={"queries": [], "found": []},
    written=_written,
)
