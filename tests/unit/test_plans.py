"""Plans of sub-tasks: which are valid, and in which order their sub-tasks run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchai.errors import UsageError
from benchai.graphs.coding.state import edited_plan as edited_code_plan
from benchai.graphs.orchestrator_worker import edited_plan
from benchai.graphs.plans import (
    MOST_TASKS,
    Plan,
    SubTask,
    complaint_about,
    find_cycle,
    for_review,
    is_review,
    next_wave,
    shown,
    with_results,
    worker_role,
)

# to shrink a plan takes longer than a test may
NO_SHRINKING = (Phase.explicit, Phase.generate)


def plan(*tasks: tuple[int, Sequence[int]], role: str = "general") -> Plan:
    return Plan(tasks=[SubTask(id=one, role=role, task=f"Do {one}", depends_on=list(needs)) for one, needs in tasks])


@pytest.mark.parametrize(
    ("tasks", "complaint"),
    [
        ([(1, [])], None),
        ([(2, [1]), (1, [])], None),
        ([(1, []), (2, [1]), (3, [1]), (4, [2, 3])], None),
        ([(1, []), (2, [1, 1])], None),
        ([], "the plan has no tasks"),
        ([(n, []) for n in range(1000)], f"the plan has 1000 tasks, at most {MOST_TASKS} are allowed"),
        ([(1, []), (1, [])], "the id 1 occurs twice"),
        ([(1, [7])], "task 1 depends on 7, which is not there"),
        ([(1, [1])], "task 1 depends on itself"),
        ([(1, [3]), (2, [1]), (3, [2]), (4, [])], "the tasks 1, 2, 3 depend on each other in a circle"),
    ],
)
def test_complaints(tasks: list[tuple[int, list[int]]], complaint: str | None) -> None:
    assert complaint_about(plan(*tasks)) == complaint


def test_a_plan_that_the_user_edited_is_checked() -> None:
    good = {"tasks": [{"id": 1, "role": "code", "task": "Do"}]}
    assert edited_plan(good).tasks[0].role == "code"
    with pytest.raises(UsageError, match=r"the edited plan is wrong: tasks\.0\.role"):
        edited_plan({"tasks": [{"id": 1, "task": "Do"}]})
    with pytest.raises(UsageError, match="has no tasks"):
        edited_plan({"tasks": []})
    assert edited_code_plan({"goal": "g", "steps": ["a"]}).steps == ["a"]
    with pytest.raises(UsageError, match="the edited plan is wrong: steps"):
        edited_code_plan({"goal": "g", "steps": []})


@pytest.mark.parametrize("task", ["", None, 7])
def test_a_task_is_text(task: object) -> None:
    with pytest.raises(ValidationError):
        SubTask.model_validate({"id": 1, "role": "code", "task": task})


@pytest.mark.parametrize(
    ("name", "served", "role"),
    [
        ("code", {"code", "general"}, "code"),
        (" Coder ", {"code", "general"}, "code"),
        ("search", {"research", "general"}, "research"),
        ("search", {"general"}, "general"),
        ("wizard", {"general"}, "general"),
        ("wizard", {"wizard", "general"}, "wizard"),
        ("review", {"reviewer", "code"}, "reviewer"),
        ("reviewer", {"code", "general"}, "code"),
        ("review", {"general"}, "general"),
    ],
)
def test_worker_roles(name: str, served: set[str], role: str) -> None:
    assert worker_role(name, served.__contains__) == role


def test_reviews() -> None:
    assert [is_review(SubTask(id=1, role=role, task="x")) for role in ("review", "Reviewer", "code")] == [1, 1, 0]
    tasks = [*plan((1, []), role="code").tasks, *plan((2, [1]), role="review").tasks]
    assert for_review(tasks[1], tasks, {1: "CODE"}) == "Task: Do 1\n\nCode:\nCODE"
    assert for_review(tasks[0], tasks, {}) == "Task: Do 1"
    assert with_results(tasks[1], tasks, {1: "CODE"}) == "Do 2\n\nResults:\n1. CODE"
    assert with_results(tasks[0], tasks, {}) == "Do 1"
    assert shown(Plan(tasks=tasks)) == "1. code: Do 1\n2. review: Do 2 (after 1)"


def changes(models: Sequence[str]) -> int:
    return sum(one != two for one, two in itertools.pairwise(models))


def waves(tasks: Sequence[SubTask], models: Mapping[int, str]) -> list[list[SubTask]]:
    done: set[int] = set()
    found: list[list[SubTask]] = []
    current = None
    while wave := next_wave(tasks, done, models, current):
        assert {task.id for task in wave}.isdisjoint(done)
        assert all(done.issuperset(task.depends_on) for task in wave)
        assert len({models[task.id] for task in wave}) == 1
        done |= {task.id for task in wave}
        current = models[wave[0].id]
        found.append(wave)
    return found


def in_plan_order(tasks: Sequence[SubTask]) -> list[SubTask]:
    """One task after the other, always the plan's first that is ready."""
    left, order = list(tasks), list[SubTask]()
    while left:
        done = {task.id for task in order}
        order.append(next(task for task in left if done.issuperset(task.depends_on)))
        left.remove(order[-1])
    return order


@st.composite
def plans(draw: st.DrawFn, most: int) -> tuple[list[SubTask], dict[int, str]]:
    """A valid plan in any order, and the models of its tasks."""
    ids = draw(st.lists(st.integers(0, 99), min_size=1, max_size=most, unique=True))
    tasks = []
    for place, one in enumerate(ids):
        needs = draw(st.lists(st.sampled_from(ids[:place]), unique=True, max_size=3)) if place else []
        tasks.append(SubTask(id=one, role="r", task="t", depends_on=needs))
    models = {one: draw(st.sampled_from("ABCD")) for one in ids}
    return draw(st.permutations(tasks)), models


@settings(max_examples=60, phases=NO_SHRINKING)
@given(plans(MOST_TASKS))
def test_every_task_runs_once_and_models_change_no_more_than_in_the_plans_order(
    made: tuple[list[SubTask], dict[int, str]],
) -> None:
    tasks, models = made
    assert complaint_about(Plan(tasks=tasks)) is None
    found = waves(tasks, models)
    assert sorted(task.id for wave in found for task in wave) == sorted(task.id for task in tasks)
    grouped = [models[wave[0].id] for wave in found]
    assert changes(grouped) <= changes([models[task.id] for task in in_plan_order(tasks)])


@settings(max_examples=60, phases=NO_SHRINKING)
@given(plans(5))
def test_no_order_changes_models_less_often(made: tuple[list[SubTask], dict[int, str]]) -> None:
    tasks, models = made
    least = min(
        changes([models[task.id] for task in order])
        for order in itertools.permutations(tasks)
        if all(set(task.depends_on) <= {one.id for one in order[:place]} for place, task in enumerate(order))
    )
    assert changes([models[wave[0].id] for wave in waves(tasks, models)]) == least


def test_the_model_that_works_goes_on() -> None:
    tasks = plan((1, []), (2, []), (3, [])).tasks
    models = {1: "A", 2: "B", 3: "A"}
    assert [task.id for task in next_wave(tasks, (), models, "B")] == [2]
    assert [task.id for task in next_wave(tasks, (), models, None)] == [1, 3]
    assert next_wave(tasks, (1, 2, 3), models, "A") == []


def test_where_all_models_fit_all_that_is_ready_runs() -> None:
    tasks = plan((1, []), (2, []), (3, [1]), (4, [])).tasks
    models = {1: "A", 2: "B", 3: "B", 4: "A"}
    assert [task.id for task in next_wave(tasks, (), models, "B", together=True)] == [1, 2, 4]
    assert [task.id for task in next_wave(tasks, (1, 2), models, "B", together=True)] == [3, 4]
    assert next_wave(tasks, (1, 2, 3, 4), models, None, together=True) == []


def test_the_largest_group_need_not_be_first() -> None:
    # two of B are ready at once, but a third waits for A
    tasks = plan((1, []), (2, []), (3, []), (4, [3])).tasks
    assert [[task.id for task in wave] for wave in waves(tasks, {1: "B", 2: "B", 3: "A", 4: "B"})] == [[3], [1, 2, 4]]


def test_a_plan_of_many_models_is_ordered_in_time() -> None:
    # ten models, each with a task that waits for another model's
    tasks = [SubTask(id=n, role="r", task="t", depends_on=[(n - 7) % 10] if n >= 10 else []) for n in range(20)]
    assert sum(map(len, waves(tasks, {task.id: str(task.id % 10) for task in tasks}))) == 20


def test_a_circle_ends() -> None:
    tasks = plan((1, []), (2, [3]), (3, [2]))
    assert find_cycle(tasks) == [2, 3]
    with pytest.raises(ValueError, match="wait for each other"):
        next_wave(tasks.tasks, (), {1: "A", 2: "B", 3: "B"}, None)
