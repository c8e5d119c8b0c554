"""Planner, coder, reviewer: plan, write tests, write code, run the tests, review, fix, until both are content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from benchai import events
from benchai.agents.messages import last_question
from benchai.errors import ToolError
from benchai.events import StopReason
from benchai.graphs.approvals import Approval, decisions_of
from benchai.graphs.coding import wording
from benchai.graphs.coding.branch import make_branch
from benchai.graphs.coding.overlay import applied, diff, mentioned, text_of_file
from benchai.graphs.coding.state import CodePlan, CodingInput, CodingState, checked_input, edited_plan
from benchai.graphs.coding.testing import check_tests, comparable, run_tests
from benchai.graphs.context import RunContext
from benchai.graphs.plans import worker_role
from benchai.graphs.reflection import is_approved
from benchai.graphs.registry import Workflow
from benchai.graphs.tasks import numbered, task_of

PLANNER, CODE = "planner", "code"
# the same failure so often in a row ends the run
SAME_FAILURES = 2


async def plan(state: CodingState, runtime: Runtime[RunContext]) -> CodingState:
    """Plan the work, once it is sure that it can be tested and delivered."""
    context = runtime.context
    context.emit(events.Step(node="plan"))
    places = await checked_input(state, context.tool_context.workspace)
    task = wording.with_wish(task_of(state["messages"]), state["wish"])
    made = await context.decide(PLANNER, "planner", task, CodePlan)
    context.emit(events.Thought(step=context.ledger.steps, text=numbered(made.steps)))
    return places | {"plan": made.model_dump(), "wish": "", "given": bool(state["tests"] or state["command"])}


async def approve(state: CodingState, runtime: Runtime[RunContext]) -> CodingState:
    """Put the plan to the user, where the run asks for that."""
    if not runtime.context.approve_plan:
        return {}
    asked = [Approval("plan", "plan", numbered(state["plan"]["steps"]), state["plan"], "--approve-plan")]
    decision = decisions_of(interrupt({"requests": [one.as_json() for one in asked]}), asked)["plan"]
    runtime.context.emit(events.ApprovalGiven(id="plan", decision=decision.kind, message=decision.message))
    if decision.kind in ("reject", "respond"):
        return {"wish": decision.message or "make another plan"}
    return {"plan": edited_plan(decision.arguments).model_dump()} if decision.kind == "edit" else {}


async def write_tests(state: CodingState, runtime: Runtime[RunContext]) -> CodingState:
    """Have the tests written first, from the plan, and freeze them; given ones stay as they are."""
    context = runtime.context
    if state["given"]:
        return {}
    context.emit(events.Step(node="write tests"))
    path = _new_tests(state, context)
    task = wording.for_tests(task_of(state["messages"]), state["plan"]["steps"])
    reply = await context.write(CODE, "coder", task)
    try:
        return _frozen(reply, path, context)
    except ToolError as error:
        context.emit(events.Repair(rung="tests", detail=error.message))
        task = f"{task}\n\nYour last answer could not be used: {error.message}"
    return _frozen(await context.write(CODE, "coder", task), path, context)


def _new_tests(state: CodingState, context: RunContext) -> str:
    """A path for generated tests at which no file is."""
    stem = state["file"].rpartition("/")[2].removesuffix(".py")
    paths = (f"test_{stem}{number}.py" for number in ("", *(f"_{place}" for place in range(2, 1_000))))
    return next(path for path in paths if not (context.tool_context.workspace / path).exists())


def _frozen(reply: str, path: str, context: RunContext) -> CodingState:
    texts = applied(reply, {}, context.tool_context.workspace, path, ())
    tests = texts.get(path) or next(iter(texts.values()))
    check_tests(tests)
    return {"changed": {path: tests}, "tests": [path]}


async def write_code(state: CodingState, runtime: Runtime[RunContext]) -> CodingState:
    """Write the code, or repair it after a failing test, a review or an edit that did not match."""
    context = runtime.context
    number = state["round"]
    context.emit(events.Step(node="write code", detail=f"fix {number}" if number else ""))
    reply = await context.write(CODE, "coder", _to_fix(state, context) if number else _to_write(state, context))
    try:
        changed = applied(reply, state["changed"], context.tool_context.workspace, state["file"], state["tests"])
    except ToolError as error:
        context.emit(events.Repair(rung="edit", detail=error.message))
        failure = f"{error.message}; {error.hint}" if error.hint else error.message
        return {"failure": failure, "passed": False, "round": number + 1} | _counted(state, failure)
    return {"changed": changed, "failure": "", "round": number + 1}


async def test(state: CodingState, runtime: Runtime[RunContext]) -> CodingState:
    """Run the tests; an edit that did not match has failed already."""
    context = runtime.context
    if state["failure"]:
        return {}
    context.emit(events.Step(node="test"))
    workspace = context.tool_context.workspace
    # tests may lie in a folder that is not copied
    files = {path: text_of_file(path, {}, workspace) or "" for path in state["tests"]} | state["changed"]
    outcome = await run_tests(workspace, files, state["file"], state["tests"], state["command"])
    context.emit(
        events.Observation(step=context.ledger.steps, id="tests", name="tests", ok=outcome.passed, text=outcome.message)
    )
    if outcome.passed:
        return {"passed": True, "failure": "", "best": state["changed"]}
    return {"passed": False, "failure": outcome.message} | _counted(state, outcome.message)


async def review(state: CodingState, runtime: Runtime[RunContext]) -> CodingState:
    """Have the code that passes its tests reviewed."""
    context = runtime.context
    role = worker_role("reviewer", context.served)
    context.emit(events.Step(node="review", detail=f"role {role}"))
    said = await context.write(role, "reviewer", wording.to_review(task_of(state["messages"]), _code(state, context)))
    context.emit(events.Thought(step=context.ledger.steps, text=said))
    if is_approved(said):
        return {"approved": True, "review": ""}
    fault = wording.verdict(said)
    return {"approved": False, "review": fault} | _counted(state, fault)


async def finish(state: CodingState, runtime: Runtime[RunContext]) -> CodingState:
    """Answer with the diff; of a branch, its commit comes before it.

    Raises:
        UsageError: the branch can't be made any more; the changes stay with the thread.
    """
    context = runtime.context
    reason = _reason(state)
    # code that passes its tests is better than what a later fix made of it
    files = state["changed"] if state["passed"] else state["best"] or state["changed"]
    answer = diff(context.tool_context.workspace, files) or "nothing to change"
    if reason is not None:
        context.emit(events.Notice(text=_why(state) + ("; no branch is made" if state["branch"] else "")))
    elif state["branch"] and answer.startswith("diff "):
        answer = f"{await _branch(state, state['branch'], context)}\n\n{answer}"
    return {"messages": [AIMessage(answer)], "stop_reason": reason}


async def _branch(state: CodingState, name: str, context: RunContext) -> str:
    asked = str(state["messages"][last_question(state["messages"])].text)
    message = wording.commit_message(asked, state["plan"]["goal"])
    made = await make_branch(context.tool_context.workspace, name, state["changed"], message)
    if made.uncommitted:
        held = f"the branch {name!r} also holds what was not committed in: {', '.join(made.uncommitted)}"
        context.emit(events.Notice(text=held))
    return f"branch {name}: commit {made.commit} on {made.base}"


def _to_write(state: CodingState, context: RunContext) -> str:
    workspace = context.tool_context.workspace
    tests = [text_of_file(path, state["changed"], workspace) or "" for path in state["tests"]]
    return wording.to_write(task_of(state["messages"]), state["plan"]["steps"], _seen(state, context), tests)


def _to_fix(state: CodingState, context: RunContext) -> str:
    return wording.to_fix(task_of(state["messages"]), _code(state, context), state["failure"], state["review"])


def _code(state: CodingState, context: RunContext) -> str:
    written = {path: text for path, text in state["changed"].items() if path not in state["tests"]}
    return wording.shown(_seen(state, context) | written, state["file"])


def _seen(state: CodingState, context: RunContext) -> dict[str, str]:
    """The files of the workspace that the coder is shown."""
    workspace = context.tool_context.workspace
    named = [*state["files"], *mentioned(task_of(state["messages"]), workspace)]
    paths = dict.fromkeys(path for path in named if path not in state["tests"])
    texts = {path: text_of_file(path, state["changed"], workspace) for path in paths}
    return {path: text for path, text in texts.items() if text is not None}


def _counted(state: CodingState, failure: str) -> CodingState:
    return {"failures": [*state["failures"], comparable(failure)]}


def _stuck(state: CodingState) -> bool:
    last = state["failures"][-SAME_FAILURES:]
    return len(last) == SAME_FAILURES and len(set(last)) == 1


def _reason(state: CodingState) -> StopReason | None:
    if state["passed"] and state["approved"]:
        return None
    return "loop" if _stuck(state) else "budget_steps"


def _why(state: CodingState) -> str:
    what = f"the tests fail: {state['failure']}" if not state["passed"] else f"the review rejects: {state['review']}"
    if not state["passed"] and state["best"]:
        what += "; the answer is the last code that passed its tests"
    if _stuck(state):
        return f"the same failure {SAME_FAILURES} times; {what}"
    return f"not done after {state['round'] - 1} fixes (fixes); {what}"


def _after_approval(state: CodingState) -> Literal["plan", "write_tests"]:
    return "plan" if state.get("wish") else "write_tests"


def _after_test(state: CodingState) -> Literal["review", "write_code", "finish"]:
    if state["passed"] and not state["failure"]:
        return "review"
    return "finish" if _given_up(state) else "write_code"


def _after_review(state: CodingState) -> Literal["write_code", "finish"]:
    return "finish" if state["approved"] or _given_up(state) else "write_code"


def _given_up(state: CodingState) -> bool:
    return _stuck(state) or state["round"] > state["fixes"]


def build() -> StateGraph[CodingState, RunContext, CodingState, CodingState]:
    """The graph: plan, tests, then code, test and review by turns."""
    graph = StateGraph(CodingState, context_schema=RunContext)
    for node in (plan, approve, write_tests, write_code, test, review, finish):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "approve")
    graph.add_conditional_edges("approve", _after_approval)
    graph.add_edge("write_tests", "write_code")
    graph.add_edge("write_code", "test")
    graph.add_conditional_edges("test", _after_test)
    graph.add_conditional_edges("review", _after_review)
    return graph


def _written(state: Mapping[str, Any]) -> str:
    return "\n".join(wording.fenced(path, text) for path, text in state.get("changed", {}).items())


WORKFLOW = Workflow(
    name="planner-coder-reviewer",
    description="Plan, write tests and code, run the tests in a sandbox, review and fix; the result is a diff",
    build=build,
    roles=(PLANNER, CODE),
    input=CodingInput,
    steps=40,
    reset={
        "plan": {},
        "wish": "",
        "changed": {},
        "best": {},
        "given": False,
        "failure": "",
        "review": "",
        "failures": [],
        "passed": False,
        "approved": False,
        "round": 0,
        "stop_reason": None,
    },
    written=_written,
    exact=True,
)
