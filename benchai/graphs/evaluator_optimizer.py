"""Evaluator and optimizer: a text is scored against stated criteria and rewritten until the score is high enough."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict, Field

from benchai import events
from benchai.graphs.context import RunContext
from benchai.graphs.registry import TaskInput, Workflow
from benchai.graphs.tasks import numbered, task_of

ROLE = "general"
PLATEAU = 2


class Check(BaseModel):
    """One criterion; what the text has for it is asked for before the verdict, which small models judge better then."""

    # engines put what may be left out behind all that may not: the evidence must come before the verdict
    model_config = ConfigDict(json_schema_extra={"required": ["criterion", "evidence", "met"]})

    criterion: str
    evidence: str = ""
    met: bool


class Evaluation(BaseModel):
    """What the evaluator says of a text."""

    checks: list[Check] = Field(min_length=1, max_length=50)
    score: float = Field(ge=0, le=10)
    feedback: str = ""


class EvaluatorInput(TaskInput):
    """A task, what its text must meet, and when to stop."""

    criteria: list[str] = Field(
        default_factory=list, max_length=50, description="What the text must meet; default: the task's requirements"
    )
    threshold: float = Field(9, ge=0, le=10, description="A text with this score is good enough")
    rounds: int = Field(4, ge=1, le=20, description="Texts at most")


class EvaluatorState(TypedDict, total=False):
    """``best`` is the text with the highest score, ``plateau`` how many rounds brought no higher one."""

    messages: Annotated[list[AnyMessage], add_messages]
    criteria: list[str]
    threshold: float
    rounds: int
    text: str
    evaluation: dict[str, Any]
    round: int
    best: str
    best_score: float
    plateau: int


async def generate(state: EvaluatorState, runtime: Runtime[RunContext]) -> EvaluatorState:
    """Write a text, or rewrite it as the feedback says."""
    number = state["round"] + 1
    runtime.context.emit(events.Step(node="generate", detail=f"text {number}"))
    task = with_criteria(state)
    if number == 1:
        return {"text": await runtime.context.write(ROLE, "writer", task), "round": 1}
    feedback = feedback_of(Evaluation.model_validate(state["evaluation"]))
    asked = f"Task: {task}\n\nDraft:\n{state['text']}\n\nCritique:\n{feedback}"
    return {"text": await runtime.context.write(ROLE, "reviser", asked), "round": number}


async def evaluate(state: EvaluatorState, runtime: Runtime[RunContext]) -> EvaluatorState:
    """Score the text against the criteria."""
    runtime.context.emit(events.Step(node="evaluate", detail=f"text {state['round']}"))
    parts = [f"Task: {task_of(state['messages'])}", f"Text:\n{state['text']}"]
    if state["criteria"]:
        parts.insert(1, "Criteria:\n" + numbered(state["criteria"]))
    said = await runtime.context.decide(ROLE, "evaluator", "\n\n".join(parts), Evaluation, complaint_for(state))
    found = of_criteria(said, state["criteria"])
    unmet = [check.criterion for check in found.checks if not check.met]
    runtime.context.emit(
        events.Thought(step=runtime.context.ledger.steps, text=f"score {found.score:g}: {found.feedback or 'good'}")
    )
    # a score that contradicts its own checks is no reason to stop
    score = min(found.score, 10 * (1 - len(unmet) / len(found.checks))) if unmet else found.score
    better = score > state["best_score"]
    update: EvaluatorState = {"evaluation": found.model_dump(), "plateau": 0 if better else state["plateau"] + 1}
    return update | {"best": state["text"], "best_score": score} if better else update


def complaint_for(state: EvaluatorState) -> Any:
    """What is wrong with an evaluation: it must speak of every stated criterion."""

    def complaint(found: Evaluation) -> str | None:
        wanted = len(state["criteria"])
        return f"{len(found.checks)} checks for {wanted} criteria" if len(found.checks) < wanted else None

    return complaint


def of_criteria(found: Evaluation, criteria: list[str]) -> Evaluation:
    """An evaluation without checks that nobody asked for; small models add some of their own."""
    if not criteria or len(found.checks) == len(criteria):
        return found
    stated = {" ".join(one.lower().split()) for one in criteria}
    named = [check for check in found.checks if " ".join(check.criterion.lower().split()) in stated]
    checks = named if len(named) == len(criteria) else found.checks[: len(criteria)]
    met = sum(check.met for check in checks)
    return Evaluation(checks=checks, score=10 * met / len(checks), feedback=found.feedback if met < len(checks) else "")


async def finish(state: EvaluatorState, runtime: Runtime[RunContext]) -> EvaluatorState:
    """Answer with the best text."""
    if state["best_score"] < state["threshold"]:
        why = "no better text came" if state["plateau"] >= PLATEAU else f"{state['round']} texts were written"
        text = f"the best text has a score of {state['best_score']:g}, below {state['threshold']:g}: {why}"
        runtime.context.emit(events.Notice(text=text))
    return {"messages": [AIMessage(state["best"])]}


def with_criteria(state: EvaluatorState) -> str:
    """The task, and the criteria where the user stated some."""
    task = task_of(state["messages"])
    return f"{task}\n\nCriteria:\n{numbered(state['criteria'])}" if state["criteria"] else task


def feedback_of(found: Evaluation) -> str:
    """What must change: the evaluator's words, or the criteria that are not met."""
    unmet = [check.criterion for check in found.checks if not check.met]
    return found.feedback or "\n".join(f"Not met: {one}" for one in unmet) or "It can be better."


def _after_evaluation(state: EvaluatorState) -> Literal["generate", "finish"]:
    done = state["best_score"] >= state["threshold"] or state["plateau"] >= PLATEAU or state["round"] >= state["rounds"]
    return "finish" if done else "generate"


def build() -> StateGraph[EvaluatorState, RunContext, EvaluatorState, EvaluatorState]:
    """The graph: generate and evaluate by turns."""
    graph = StateGraph(EvaluatorState, context_schema=RunContext)
    graph.add_node("generate", generate)
    graph.add_node("evaluate", evaluate)
    graph.add_node("finish", finish)
    graph.add_edge(START, "generate")
    graph.add_edge("generate", "evaluate")
    graph.add_conditional_edges("evaluate", _after_evaluation)
    return graph


def _written(state: Any) -> str:
    return str(state.get("best") or state.get("text") or "")


WORKFLOW = Workflow(
    name="evaluator-optimizer",
    description="Write, score against criteria and rewrite until the score is high enough",
    build=build,
    roles=(ROLE,),
    input=EvaluatorInput,
    reset={"text": "", "evaluation": {}, "round": 0, "best": "", "best_score": -1.0, "plateau": 0},
    written=_written,
)
