"""Plans of sub-tasks: what makes one valid, and in which order its sub-tasks run. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from pydantic import BaseModel, Field

MOST_TASKS = 20
#: What a planner may call a worker, and the role that works.
WORKERS: Mapping[str, str] = {
    "general": "general",
    "research": "research",
    "search": "research",
    "code": "code",
    "coder": "code",
    "review": "review",
    "reviewer": "review",
    "planner": "planner",
    "vision": "vision",
}


class SubTask(BaseModel):
    """One part of a task: who does it, and which parts it needs first."""

    id: int
    role: str
    task: str = Field(min_length=1)
    depends_on: list[int] = Field(default_factory=list)


class Plan(BaseModel):
    """A task split into parts."""

    tasks: list[SubTask]


def complaint_about(plan: Plan) -> str | None:
    """What is wrong with a plan, in words for its planner; None when nothing is."""
    ids = [task.id for task in plan.tasks]
    if not ids:
        return "the plan has no tasks"
    if len(ids) > MOST_TASKS:
        return f"the plan has {len(ids)} tasks, at most {MOST_TASKS} are allowed"
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        return f"the id {twice[0]} occurs twice"
    for task in plan.tasks:
        for needed in task.depends_on:
            if needed not in ids:
                return f"task {task.id} depends on {needed}, which is not there"
        if task.id in task.depends_on:
            return f"task {task.id} depends on itself"
    circle = find_cycle(plan)
    return f"the tasks {', '.join(map(str, circle))} depend on each other in a circle" if circle else None


def find_cycle(plan: Plan) -> list[int]:
    """The ids of tasks that wait for each other; empty when the plan can be worked through."""
    left = {task.id: set(task.depends_on) for task in plan.tasks}
    while True:
        ready = [one for one, needs in left.items() if not needs & left.keys()]
        if not ready:
            return sorted(left)
        for one in ready:
            del left[one]


def is_review(task: SubTask) -> bool:
    """Whether a sub-task judges what others made."""
    return WORKERS.get(task.role.strip().lower()) == "review"


def worker_role(name: str, served: Callable[[str], bool]) -> str:
    """The role of a worker: the one that the plan names, or general where that is unknown or has no model."""
    role = WORKERS.get(name.strip().lower(), name.strip().lower())
    if role == "review":
        return next((one for one in ("reviewer", "code", "general") if served(one)), "general")
    return role if served(role) else "general"


def next_wave(
    tasks: Sequence[SubTask],
    done: Collection[int],
    models: Mapping[int, str],
    current: str | None,
    together: bool = False,
) -> list[SubTask]:
    """The sub-tasks that run next, at the same time: all that are ready and, unless ``together``, share a model.

    Args:
        tasks: All of the plan.
        done: Ids of those that are finished.
        models: The model that works on each task.
        current: The model that worked last; it goes on for as long as it has work, because another one may have to
            be swapped in. After it comes the model after which the fewest changes follow.
        together: Whether all models can run at the same time, so that nothing has to be swapped.

    Raises:
        ValueError: tasks wait for each other, or for unknown ones; see ``complaint_about``.
    """
    ready = [task for task in tasks if task.id not in done and set(task.depends_on) <= set(done)]
    if not ready or together:
        return ready
    at_hand = [models[task.id] for task in ready]
    chosen = current if current in at_hand else _fewest_changes(tasks, frozenset(done), models)
    return [task for task in ready if models[task.id] == chosen]


def _fewest_changes(tasks: Sequence[SubTask], done: frozenset[int], models: Mapping[int, str]) -> str:
    """The model to begin with so that the fewest follow; the plan's first at a tie.

    Breadth first over the sets of finished tasks: a model that has begun works off all that it can.
    """
    seen = {done}
    frontier: list[tuple[frozenset[int], str | None]] = [(done, None)]
    while frontier:
        following: list[tuple[frozenset[int], str | None]] = []
        for finished, first in frontier:
            for model, after in _choices(tasks, finished, models):
                if len(after) == len(tasks):
                    return first or model
                if after not in seen:
                    seen.add(after)
                    following.append((after, first or model))
        frontier = following
    raise ValueError("the tasks wait for each other or for unknown ones")


def _choices(
    tasks: Sequence[SubTask], done: frozenset[int], models: Mapping[int, str]
) -> list[tuple[str, frozenset[int]]]:
    """The models that have work, in the plan's order, and what is finished after each.

    One that can finish all of its tasks is the only choice: it has to work once anyway, and does not come again.
    """
    ready = dict.fromkeys(models[task.id] for task in tasks if task.id not in done and done.issuperset(task.depends_on))
    found = []
    for model in ready:
        after = _worked_off(tasks, done, models, model)
        if all(task.id in after for task in tasks if models[task.id] == model):
            return [(model, after)]
        found.append((model, after))
    return found


def _worked_off(
    tasks: Sequence[SubTask], done: frozenset[int], models: Mapping[int, str], model: str
) -> frozenset[int]:
    """What is finished once a model has done all that it can."""
    finished = set(done)
    mine = [task for task in tasks if models[task.id] == model]
    while ready := [task.id for task in mine if task.id not in finished and finished.issuperset(task.depends_on)]:
        finished.update(ready)
    return frozenset(finished)


def with_results(task: SubTask, tasks: Sequence[SubTask], results: Mapping[int, str]) -> str:
    """A sub-task as its worker reads it: with the results that it depends on."""
    if not task.depends_on:
        return task.task
    lines = [f"{place}. {results.get(needed, '')}" for place, needed in enumerate(task.depends_on, 1)]
    return f"{task.task}\n\nResults:\n" + "\n".join(lines)


def for_review(task: SubTask, tasks: Sequence[SubTask], results: Mapping[int, str]) -> str:
    """A review as the reviewer reads it: the tasks that it is about, and what came of them."""
    about = [one for one in tasks if one.id in task.depends_on]
    if not about:
        return f"Task: {task.task}"
    asked = "\n".join(one.task for one in about)
    made = "\n\n".join(results.get(one.id, "") for one in about)
    return f"Task: {asked}\n\nCode:\n{made}"


def shown(plan: Plan) -> str:
    """A plan in words, one line for each sub-task."""
    lines = []
    for task in plan.tasks:
        after = f" (after {', '.join(map(str, task.depends_on))})" if task.depends_on else ""
        lines.append(f"{task.id}. {task.role}: {task.task}{after}")
    return "\n".join(lines)
