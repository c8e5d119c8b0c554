"""Orchestrator and workers: split the task, work on its parts in parallel, merge the results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import Send, interrupt
from pydantic import ValidationError

from benchai import events
from benchai.agents.messages import text_of
from benchai.errors import BenchAIError, EmptyReply, EndpointError, UsageError
from benchai.graphs.approvals import Approval, decisions_of
from benchai.graphs.coding.wording import verdict
from benchai.graphs.context import RunContext
from benchai.graphs.execution import last_reply
from benchai.graphs.nested import run_nested
from benchai.graphs.plans import (
    Plan,
    SubTask,
    complaint_about,
    for_review,
    is_review,
    next_wave,
    shown,
    with_results,
    worker_role,
)
from benchai.graphs.registry import Workflow
from benchai.graphs.tasks import task_of

PLANNER, GENERAL = "planner", "general"
WRITERS = {"code": "coder"}


def merged(old: dict[int, str], new: dict[int, str] | None) -> dict[int, str]:
    """Results of workers join those that are there; None begins anew."""
    return {} if new is None else {**old, **new}


class WorkerState(TypedDict):
    """What one worker is given."""

    task: dict[str, Any]
    question: str
    role: str


class OrchestratorState(TypedDict, total=False):
    """``plan`` is the task in parts, ``results`` what came of each, ``wave`` the parts under way.

    ``model`` works on them, or on the first of them. ``failed`` says of parts that came to nothing why.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    plan: dict[str, Any]
    results: Annotated[dict[int, str], merged]
    failed: Annotated[dict[int, str], merged]
    wave: list[WorkerState]
    model: str | None
    wish: str


async def split(state: OrchestratorState, runtime: Runtime[RunContext]) -> OrchestratorState:
    """Split the task."""
    context = runtime.context
    context.emit(events.Step(node="split"))
    task = task_of(state["messages"]) + (f"\n\nThe last plan was refused: {state['wish']}" if state.get("wish") else "")
    plan = await context.decide(PLANNER, "orchestrator", task, Plan, complaint_about)
    context.emit(events.Thought(step=context.ledger.steps, text=shown(plan)))
    return {"plan": plan.model_dump(), "wish": ""}


async def approve(state: OrchestratorState, runtime: Runtime[RunContext]) -> OrchestratorState:
    """Put the plan to the user, where the run asks for that."""
    if not runtime.context.approve_plan:
        return {}
    plan = Plan.model_validate(state["plan"])
    asked = [Approval("plan", "plan", shown(plan), state["plan"], "--approve-plan")]
    decision = decisions_of(interrupt({"requests": [one.as_json() for one in asked]}), asked)["plan"]
    runtime.context.emit(events.ApprovalGiven(id="plan", decision=decision.kind, message=decision.message))
    if decision.kind in ("reject", "respond"):
        return {"wish": decision.message or "make another plan"}
    return {"plan": edited_plan(decision.arguments).model_dump()} if decision.kind == "edit" else {}


def edited_plan(arguments: Mapping[str, Any]) -> Plan:
    """The plan as the user wrote it.

    Raises:
        UsageError: it is none.
    """
    try:
        plan = Plan.model_validate(arguments)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(map(str, first["loc"]))
        raise UsageError(f"the edited plan is wrong: {what}: {first['msg']}") from error
    complaint = complaint_about(plan)
    if complaint is not None:
        raise UsageError(f"the edited plan is wrong: {complaint}")
    return plan


async def dispatch(state: OrchestratorState, runtime: Runtime[RunContext]) -> OrchestratorState:
    """Choose the sub-tasks that run next: those that are ready, of one model unless all models fit together."""
    context = runtime.context
    plan, results = Plan.model_validate(state["plan"]), state["results"]
    roles = {task.id: worker_role(task.role, context.served) for task in plan.tasks}
    models = {task: context.model_of(role) for task, role in roles.items()}
    left = {role for task, role in roles.items() if task not in results}
    together = len({context.model_of(role) for role in left}) > 1 and await context.fit_together(left)
    wave = next_wave(plan.tasks, results.keys(), models, state.get("model"), together)
    if not wave:
        return {"wave": []}
    return {"wave": [_for_worker(task, plan, results, context) for task in wave], "model": models[wave[0].id]}


async def work(state: WorkerState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Work on one sub-task; what fails is its result, so that the others go on."""
    context, task = runtime.context, SubTask.model_validate(state["task"])
    context.emit(events.Step(node="work", detail=f"{task.id}. {state['role']}: {task.task}"))
    try:
        return {"results": {task.id: await _worked(state, task, context)}}
    except BenchAIError as error:
        context.emit(events.Notice(text=f"sub-task {task.id} failed: {error.message}"))
        return {"results": {task.id: f"Error: {error.message}"}, "failed": {task.id: error.message}}


async def _worked(state: WorkerState, task: SubTask, context: RunContext) -> str:
    if is_review(task):
        return verdict(await context.write(state["role"], "reviewer", state["question"]))
    if state["role"] in WRITERS:
        return await context.write(state["role"], WRITERS[state["role"]], state["question"])
    ended = await run_nested("react", {"messages": [HumanMessage(state["question"])], "role": state["role"]}, context)
    reply = last_reply(ended["messages"])
    if reply is None or not text_of(reply):
        raise EmptyReply(f"there is no result ({ended.get('stop_reason') or 'the model answered nothing'})")
    return text_of(reply)


async def merge(state: OrchestratorState, runtime: Runtime[RunContext]) -> OrchestratorState:
    """Merge the results; a single one is the answer.

    Raises:
        EndpointError: every sub-task failed.
    """
    plan, results = Plan.model_validate(state["plan"]), state["results"]
    runtime.context.emit(events.Step(node="merge"))
    texts = [results[task.id] for task in plan.tasks]
    if len(failed := state["failed"]) == len(texts):
        raise EndpointError(f"all {len(texts)} sub-tasks failed: {failed[plan.tasks[0].id]}")
    if len(texts) == 1:
        return {"messages": [AIMessage(texts[0])]}
    lines = "\n".join(f"{place}. {text}" for place, text in enumerate(texts, 1))
    merged_text = await runtime.context.write(
        GENERAL, "merge", f"Task: {task_of(state['messages'])}\n\nResults:\n{lines}"
    )
    return {"messages": [AIMessage(merged_text)]}


def _after_approval(state: OrchestratorState) -> str:
    return "split" if state.get("wish") else "dispatch"


def _after_dispatch(state: OrchestratorState) -> list[Send] | str:
    return [Send("work", one) for one in state["wave"]] or "merge"


def _for_worker(task: SubTask, plan: Plan, results: Mapping[int, str], context: RunContext) -> WorkerState:
    question = for_review if is_review(task) else with_results
    return {
        "task": task.model_dump(),
        "question": question(task, plan.tasks, results),
        "role": worker_role(task.role, context.served),
    }


def build() -> StateGraph[OrchestratorState, RunContext, OrchestratorState, OrchestratorState]:
    """The graph: split, then waves of workers, then merge."""
    graph = StateGraph(OrchestratorState, context_schema=RunContext)
    graph.add_node("split", split)
    graph.add_node("approve", approve)
    graph.add_node("dispatch", dispatch)
    graph.add_node("work", work)
    graph.add_node("merge", merge)
    graph.add_edge(START, "split")
    graph.add_edge("split", "approve")
    graph.add_conditional_edges("approve", _after_approval, ["split", "dispatch"])
    graph.add_conditional_edges("dispatch", _after_dispatch, ["work", "merge"])
    graph.add_edge("work", "dispatch")
    return graph


def _written(state: Mapping[str, Any]) -> str:
    return "\n".join(state.get("results", {}).values())


WORKFLOW = Workflow(
    name="orchestrator-worker",
    description="Split the task, work on its parts in parallel by role, merge the results",
    build=build,
    roles=(PLANNER, GENERAL),
    steps=60,
    reset={"plan": {}, "results": None, "failed": None, "wave": [], "model": None, "wish": ""},
    written=_written,
)
