"""The workflows beside react and the coding one, on a scripted model: ends, limits, what is kept, second tasks."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchai.agents.prompts import prompt
from benchai.bench import Bench
from benchai.errors import BadStructure, BenchAIError, ConfigError, EndpointError, UsageError
from benchai.events import Event, ModelCall, Notice, Observation, Repair, Result, Step
from benchai.graphs.guards import Budget
from benchai.testing import Reply, ScriptedServer, calls, chosen, contents, error, text
from tests.integration.helpers import loaded

pytestmark = pytest.mark.anyio

ROLES = ("general", "planner", "code", "research", "vision")
Replies = Sequence[str | Reply] | Callable[[dict[str, Any]], Reply]


class Cast:
    """Replies by the system prompt of a request, the last one for all further requests."""

    def __init__(self, **replies: Replies) -> None:
        self.replies = replies
        self.asked: dict[str, list[str]] = {name: [] for name in replies}

    def reply(self, request: dict[str, Any]) -> Reply:
        name = next(name for name in self.replies if contents(request, "system")[0] == prompt(name))
        self.asked[name].append(contents(request, "user")[-1])
        replies = self.replies[name]
        if callable(replies):
            return replies(request)
        one = replies[min(len(self.asked[name]), len(replies)) - 1]
        return text(one) if isinstance(one, str) else one


@asynccontextmanager
async def opened(cast: Cast, tmp_path: Path, roles: Sequence[str] = ROLES) -> AsyncIterator[Bench]:
    """A bench on which every role has a model of its own, all answered by the cast."""
    with ScriptedServer(chosen(cast.reply)) as server:
        data = {
            "models": {f"m-{role}": server.model() for role in roles},
            "roles": {role: f"m-{role}" for role in roles},
        }
        async with Bench.open(loaded(tmp_path, data), workspace=tmp_path) as bench:
            yield bench


async def run_on(
    bench: Bench, workflow: str, task: str, **settings: Any
) -> tuple[Result, list[Event], BenchAIError | None]:
    events: list[Event] = []
    raised = None
    try:
        async for event in bench.stream(workflow, task, **settings):
            events.append(event)
    except BenchAIError as failure:
        raised = failure
    last = events[-1]
    assert isinstance(last, Result)
    return last, events, raised


async def run(
    cast: Cast, tmp_path: Path, workflow: str, task: str, **settings: Any
) -> tuple[Result, list[Event], BenchAIError | None]:
    async with opened(cast, tmp_path) as bench:
        return await run_on(bench, workflow, task, **settings)


def notices(events: Sequence[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Notice))


def nodes(events: Sequence[Event]) -> list[str]:
    return [event.node for event in events if isinstance(event, Step)]


# reflection


async def test_reflection_ends_with_approval(tmp_path: Path) -> None:
    cast = Cast(writer=["First"], critic=["Title: no.\nAdd a title.", "Title: yes.\nAPPROVED"], reviser=["Second"])
    result, events, _ = await run(cast, tmp_path, "reflection", "Write.")
    assert (result.output, result.stop_reason, result.steps) == ("Second", "completed", 4)
    assert nodes(events) == ["draft", "critique", "revise", "critique"]
    assert cast.asked["reviser"] == ["Task: Write.\n\nDraft:\nFirst\n\nCritique:\nAdd a title."]
    assert notices(events) == ""


async def test_reflection_keeps_the_best_draft(tmp_path: Path) -> None:
    critiques = ["One. Two. Three.", "One.", "One. Two.", "One. Two."]
    cast = Cast(writer=["A"], reviser=["B", "C", "D"], critic=critiques)
    result, events, _ = await run(cast, tmp_path, "reflection", "Write.")
    assert (result.output, result.stop_reason) == ("B", "completed")
    assert "not approved after 3 revisions; the best draft has 1 open points" in notices(events)


@pytest.mark.parametrize("refinements", [0, 1])
async def test_reflection_revises_no_more_than_asked(tmp_path: Path, refinements: int) -> None:
    cast = Cast(writer=["A"], reviser=["B"], critic=["Shorter."])
    result, _, _ = await run(cast, tmp_path, "reflection", "Write.", inputs={"refinements": refinements})
    assert len(cast.asked.get("reviser", [])) == refinements
    assert result.output == "AB"[refinements]


async def test_reflection_out_of_steps_gives_its_best_draft(tmp_path: Path) -> None:
    cast = Cast(writer=["A"], reviser=["B"], critic=["Shorter."])
    result, _, raised = await run(cast, tmp_path, "reflection", "Write.", budget=Budget(3, 10_000, 60))
    assert raised is None
    assert (result.output, result.stop_reason) == ("A", "budget_steps")


async def test_reflection_begins_a_second_task_anew(tmp_path: Path) -> None:
    cast = Cast(writer=["A", "B"], reviser=["A2"], critic=["Shorter.", "APPROVED", "APPROVED"])
    async with opened(cast, tmp_path) as bench:
        first, _, _ = await run_on(bench, "reflection", "Write.", thread_id="one")
        second, _, _ = await run_on(bench, "reflection", "Write again.", thread_id="one")
    assert (first.output, second.output, second.steps) == ("A2", "B", 2)
    assert cast.asked["writer"][1] == "Write again.\n\nSaid before:\nuser: Write.\nagent: A2"


# evaluator-optimizer


def scored(*met: bool, score: float, feedback: str = "") -> str:
    checks = [{"criterion": f"c{place}", "met": one} for place, one in enumerate(met)]
    return json.dumps({"checks": checks, "score": score, "feedback": feedback})


async def test_evaluator_rewrites_until_the_score_is_high_enough(tmp_path: Path) -> None:
    replies = [scored(False, score=3, feedback="Add a date."), scored(True, score=9.5)]
    cast = Cast(writer=["A"], reviser=["B"], evaluator=replies)
    result, _, _ = await run(cast, tmp_path, "evaluator-optimizer", "Write.", inputs={"criteria": ["a date"]})
    assert (result.output, result.stop_reason, result.steps) == ("B", "completed", 4)
    assert cast.asked["evaluator"][0] == "Task: Write.\n\nCriteria:\n1. a date\n\nText:\nA"
    assert cast.asked["writer"] == ["Write.\n\nCriteria:\n1. a date"]
    assert cast.asked["reviser"][0].endswith("Draft:\nA\n\nCritique:\nAdd a date.")


async def test_evaluator_stops_at_a_plateau_with_the_best_text(tmp_path: Path) -> None:
    scores = [scored(False, True, score=score) for score in (2, 4, 3, 4)]
    cast = Cast(writer=["A"], reviser=["B", "C", "D", "E"], evaluator=scores)
    result, events, _ = await run(cast, tmp_path, "evaluator-optimizer", "Write.", inputs={"rounds": 9})
    assert (result.output, len(cast.asked["evaluator"])) == ("B", 4)
    assert "the best text has a score of 4, below 9: no better text came" in notices(events)


async def test_evaluator_stops_after_its_rounds(tmp_path: Path) -> None:
    scores = [scored(False, True, score=score) for score in (1, 2, 3)]
    cast = Cast(writer=["A"], reviser=["B", "C"], evaluator=scores)
    result, events, _ = await run(cast, tmp_path, "evaluator-optimizer", "Write.", inputs={"rounds": 3})
    assert result.output == "C"
    assert "below 9: 3 texts were written" in notices(events)


async def test_a_score_that_its_checks_contradict_is_lowered(tmp_path: Path) -> None:
    cast = Cast(writer=["A"], reviser=["B"], evaluator=[scored(False, True, score=10), scored(True, True, score=10)])
    result, _, _ = await run(cast, tmp_path, "evaluator-optimizer", "Write.")
    assert result.output == "B"
    assert cast.asked["reviser"][0].endswith("Critique:\nNot met: c0")


async def test_an_evaluation_of_a_wrong_form_is_asked_for_again(tmp_path: Path) -> None:
    criteria = {"criteria": ["a", "b"]}
    cast = Cast(writer=["A"], evaluator=[scored(True, score=9), scored(True, True, score=9)])
    result, events, _ = await run(cast, tmp_path, "evaluator-optimizer", "Write.", inputs=criteria)
    assert result.output == "A"
    assert [event.detail for event in events if isinstance(event, Repair)] == ["1 checks for 2 criteria"]
    cast = Cast(writer=["A"], evaluator=["no"])
    _, _, raised = await run(cast, tmp_path, "evaluator-optimizer", "Write.")
    assert isinstance(raised, BadStructure)


async def test_evaluator_out_of_steps_gives_its_best_text(tmp_path: Path) -> None:
    cast = Cast(writer=["A"], reviser=["B"], evaluator=[scored(False, score=5)])
    result, _, _ = await run(cast, tmp_path, "evaluator-optimizer", "Write.", budget=Budget(3, 10_000, 60))
    assert (result.output, result.stop_reason) == ("A", "budget_steps")


# orchestrator-worker


def planned(*tasks: tuple[int, str, str, list[int]]) -> str:
    keys = ("id", "role", "task", "depends_on")
    return json.dumps({"tasks": [dict(zip(keys, task, strict=True)) for task in tasks]})


async def test_workers_of_all_models_that_fit_work_at_once_and_are_merged(tmp_path: Path) -> None:
    plan = planned(
        (1, "research", "Find x.", []),
        (2, "code", "Write f.", []),
        (3, "research", "Find y.", []),
        (4, "review", "Review f.", [2]),
        (5, "research", "Compare.", [1, 3]),
    )
    finds = {"Find x.": "x is 1", "Find y.": "y is 2", "Compare.\n\nResults:\n1. x is 1\n2. y is 2": "x is less"}
    cast = Cast(
        orchestrator=[plan],
        react=lambda request: text(finds[contents(request, "user")[-1]]),
        coder=["```python\nf = 1\n```"],
        reviewer=["Name: yes.\nAPPROVED"],
        merge=["Merged"],
    )
    result, events, _ = await run(cast, tmp_path, "orchestrator-worker", "Do all.")
    assert (result.output, result.stop_reason) == ("Merged", "completed")
    models = [event.model for event in events if isinstance(event, ModelCall)]
    # remote models take no memory here: all that is ready begins at once
    began = [event.detail.partition(".")[0] for event in events if isinstance(event, Step) and event.detail]
    assert (began, models[0], models[-1]) == (["1", "2", "3", "4", "5"], "m-planner", "m-general")
    assert (sorted(models[1:4]), sorted(models[4:6])) == (["m-code", *["m-research"] * 2], ["m-code", "m-research"])
    assert cast.asked["reviewer"] == ["Task: Write f.\n\nCode:\n```python\nf = 1\n```"]
    lines = ["1. x is 1", "2. ```python\nf = 1\n```", "3. y is 2", "4. APPROVED", "5. x is less"]
    assert cast.asked["merge"] == ["Task: Do all.\n\nResults:\n" + "\n".join(lines)]


async def test_workers_of_one_wave_run_at_the_same_time(tmp_path: Path) -> None:
    plan = planned((1, "general", "One.", []), (2, "general", "Two.", []))

    with ScriptedServer(text(plan), _both, _both, text("Merged")) as server:
        data = {"models": {"far": server.model()}, "roles": {"general": "far", "planner": "far"}}
        async with Bench.open(loaded(tmp_path, data), workspace=tmp_path) as bench:
            result = await bench.run("orchestrator-worker", "Do both.")
        assert server.most_at_once == 2
    assert result.output == "Merged"


def _both(exchange: Any) -> None:
    assert exchange.server.wait_for_requests(3)
    text("Done")(exchange)


async def test_a_single_result_is_the_answer(tmp_path: Path) -> None:
    cast = Cast(orchestrator=[planned((7, "wizard", "Find x.", []))], react=["x is 1"])
    result, events, _ = await run(cast, tmp_path, "orchestrator-worker", "Find x.")
    assert (result.output, result.steps) == ("x is 1", 2)
    assert [event.model for event in events if isinstance(event, ModelCall)] == ["m-planner", "m-general"]


async def test_a_worker_uses_tools_and_mends_what_they_say(tmp_path: Path) -> None:
    replies: list[str | Reply] = [
        calls(("calculator", '{"expression": "1 / 0"}')),
        calls(("calculator", '{"expression": "6 * 7"}')),
        "It is 42.",
    ]
    cast = Cast(orchestrator=[planned((1, "general", "Compute.", []))], react=replies)
    result, events, raised = await run(cast, tmp_path, "orchestrator-worker", "Compute.")
    assert raised is None
    assert result.output == "It is 42."
    assert [event.ok for event in events if isinstance(event, Observation)] == [False, True]


async def test_a_worker_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    plan = planned((1, "code", "Write f.", []), (2, "research", "Find x.", []), (3, "general", "Tell.", [1, 2]))
    refused = error(400, message="no such adapter", type="invalid_request_error")
    cast = Cast(orchestrator=[plan], coder=[refused], react=["x is 1"], merge=["Merged"])
    result, events, raised = await run(cast, tmp_path, "orchestrator-worker", "Do all.")
    assert raised is None
    assert result.output == "Merged"
    assert "sub-task 1 failed: " in notices(events)
    assert "no such adapter" in cast.asked["merge"][0]
    assert "Results:\n1. Error: " in cast.asked["react"][1]


async def test_workers_that_all_fail_end_the_run(tmp_path: Path) -> None:
    plan = planned((1, "code", "Write f.", []), (2, "research", "Find x.", []))
    refused = error(400, message="no such adapter", type="invalid_request_error")
    _, _, raised = await run(
        Cast(orchestrator=[plan], coder=[refused], react=[refused]), tmp_path, "orchestrator-worker", "Do all."
    )
    assert isinstance(raised, EndpointError)
    assert "all 2 sub-tasks failed" in raised.message
    assert "no such adapter" in raised.message


async def test_a_result_that_reads_like_an_error_is_none(tmp_path: Path) -> None:
    cast = Cast(orchestrator=[planned((1, "general", "Quote the log.", []))], react=["Error: disk full"])
    result, _, raised = await run(cast, tmp_path, "orchestrator-worker", "Quote the log.")
    assert raised is None
    assert result.output == "Error: disk full"


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (planned(), "the plan has no tasks"),
        (planned(*((n, "general", "x", []) for n in range(1000))), "the plan has 1000 tasks, at most 20"),
        (planned((1, "general", "x", [2]), (2, "general", "y", [1])), "the tasks 1, 2 depend on each other"),
        (planned((1, "general", "x", [1])), "task 1 depends on itself"),
        (planned((1, "general", "x", [9])), "task 1 depends on 9, which is not there"),
        (planned((1, "general", "x", []), (1, "general", "y", [])), "the id 1 occurs twice"),
        ('{"tasks": "none"}', "tasks"),
        ("I would rather not.", "no JSON object"),
    ],
)
async def test_a_bad_plan_is_complained_about_once(tmp_path: Path, bad: str, complaint: str) -> None:
    cast = Cast(orchestrator=[bad, planned((1, "general", "Find x.", []))], react=["x is 1"])
    result, _, raised = await run(cast, tmp_path, "orchestrator-worker", "Find x.")
    assert raised is None
    assert result.output == "x is 1"
    assert complaint in cast.asked["orchestrator"][1]
    cast = Cast(orchestrator=[bad])
    _, _, raised = await run(cast, tmp_path, "orchestrator-worker", "Find x.")
    assert isinstance(raised, BadStructure)
    assert complaint in raised.message
    assert len(cast.asked["orchestrator"]) == 2


async def test_orchestrator_out_of_steps_gives_its_results(tmp_path: Path) -> None:
    plan = planned((1, "general", "One.", []), (2, "general", "Two.", [1]))
    cast = Cast(orchestrator=[plan], react=["x is 1", "y is 2"], merge=["Merged"])
    result, _, raised = await run(cast, tmp_path, "orchestrator-worker", "Do.", budget=Budget(3, 10_000, 60))
    assert raised is None
    assert result.stop_reason == "budget_steps"
    assert result.output == "x is 1\ny is 2"


async def test_orchestrator_begins_a_second_task_anew(tmp_path: Path) -> None:
    plans = [planned((1, "general", "One.", []), (2, "general", "Two.", [])), planned((1, "general", "Three.", []))]
    cast = Cast(orchestrator=plans, react=["a", "b", "c"], merge=["ab"])
    async with opened(cast, tmp_path) as bench:
        first, _, _ = await run_on(bench, "orchestrator-worker", "Do.", thread_id="one")
        second, _, _ = await run_on(bench, "orchestrator-worker", "Do more.", thread_id="one")
    assert (first.output, second.output) == ("ab", "c")
    assert "Said before:\nuser: Do.\nagent: ab" in cast.asked["orchestrator"][1]


async def test_a_plan_is_edited_by_the_user(tmp_path: Path) -> None:
    edited = json.loads(planned((1, "general", "Mine.", [])))
    answers = iter([{"decision": "respond", "message": "fewer"}, {"decision": "edit", "arguments": edited}])

    async def approver(asked: Any) -> Any:
        return next(answers)

    cast = Cast(orchestrator=[planned((1, "code", "Theirs.", []))], react=["done"])
    result, _, _ = await run(cast, tmp_path, "orchestrator-worker", "Do.", approver=approver, approve_plan=True)
    assert result.output == "done"
    assert cast.asked["orchestrator"][1].endswith("The last plan was refused: fewer")
    assert cast.asked["react"] == ["Mine."]


# vision


def picture(colour: str) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(encoded, "PNG")
    return encoded.getvalue()


def images(request: dict[str, Any]) -> list[str]:
    parts = [
        part for message in request["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


async def test_vision_hands_on_what_it_saw(tmp_path: Path) -> None:
    replies = (text("A red square."), text("It is red."), text("Blue and red."), text("Both."), text("Still both."))
    with ScriptedServer(*replies) as server:
        data = {"models": {"far": server.model()}, "roles": dict.fromkeys(("general", "code", "vision"), "far")}
        async with Bench.open(loaded(tmp_path, data), workspace=tmp_path) as bench:
            first, events, _ = await run_on(bench, "vision", "Which colour?", images=[picture("red")])
            two = [picture("red"), picture("blue")]
            second, _, _ = await run_on(bench, "vision", "Which?", images=two, inputs={"role": "code"}, thread_id="one")
    assert (first.output, first.steps, nodes(events)) == ("It is red.", 2, ["look", "answer"])
    assert second.output == "Both."
    assert [len(images(request)) for request in server.requests] == [1, 0, 2, 0]
    assert contents(server.requests[0], "system") == [prompt("vision")]
    assert contents(server.requests[1], "user") == ["Which colour?\n\nImage:\nA red square."]


async def test_a_second_question_is_about_the_same_image(tmp_path: Path) -> None:
    replies = (text("A red square."), text("Red."), text("A red square."), text("Square."))
    with ScriptedServer(*replies) as server:
        data = {"models": {"far": server.model()}, "roles": dict.fromkeys(("general", "vision"), "far")}
        async with Bench.open(loaded(tmp_path, data), workspace=tmp_path) as bench:
            await run_on(bench, "vision", "Which colour?", images=[picture("red")], thread_id="one")
            second, _, _ = await run_on(bench, "vision", "Which form?", thread_id="one")
    assert second.output == "Square."
    assert images(server.requests[2]) == images(server.requests[0])
    assert contents(server.requests[3], "user")[0].startswith("Which form?\n\nSaid before:\nuser: Which colour?")


async def test_vision_needs_an_image_and_roles(tmp_path: Path) -> None:
    cast = Cast(vision=["A square."], react=["Square."])
    async with opened(cast, tmp_path, ("general", "vision")) as bench:
        _, _, raised = await run_on(bench, "vision", "Which colour?")
        assert isinstance(raised, UsageError)
        assert "has no image" in raised.message
        with pytest.raises(UsageError, match="no image"):
            await bench.run("vision", "Which?", images=[b"no image"])
        _, _, raised = await run_on(bench, "vision", "Which?", images=[picture("red")], inputs={"role": "wizard"})
        assert isinstance(raised, ConfigError)
    async with opened(cast, tmp_path, ("general",)) as bench:
        with pytest.raises(ConfigError, match="vision"):
            await bench.run("vision", "Which?", images=[picture("red")])


async def test_vision_out_of_steps_gives_what_was_seen(tmp_path: Path) -> None:
    cast = Cast(vision=["A red square."], react=["Red."])
    budget = Budget(1, 10_000, 60)
    result, _, _ = await run(cast, tmp_path, "vision", "Which?", images=[picture("red")], budget=budget)
    assert (result.output, result.stop_reason) == ("A red square.", "budget_steps")


# router


async def test_router_runs_the_workflow_that_fits(tmp_path: Path) -> None:
    cast = Cast(react=["Hello."])
    result, events, _ = await run(cast, tmp_path, "router", "Hello")
    assert result.output == "Hello."
    assert nodes(events) == ["choose"]


@pytest.mark.parametrize("workflow", ["reflection", "evaluator-optimizer", "orchestrator-worker", "vision"])
async def test_unknown_inputs_are_refused(tmp_path: Path, workflow: str) -> None:
    async with opened(Cast(), tmp_path) as bench:
        with pytest.raises(UsageError, match="the input 'colour' is unknown"):
            await bench.run(workflow, "Do.", inputs={"colour": "red"})
