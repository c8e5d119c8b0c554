"""Tasks for each workflow whose words and numbers training never showed, each with its judge."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchai.errors import BenchAIError
from benchai.graphs.coding.testing import run_tests
from benchmarks.workflow_parts.judging import added, blocks, function_of, gives, meets, same_code
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks import calculate, coding, files, planning, writing
from scripts.tiny_model.tasks.coding import Function
from scripts.tiny_model.tasks.turn import Turn
from scripts.tiny_vision import questions

Judge = Callable[[str], Awaitable[bool]]
REACT, ORCHESTRATOR, CODER = "react", "orchestrator-worker", "planner-coder-reviewer"


@dataclass(frozen=True)
class Task:
    """A task: what the workspace holds for it, its inputs and images, whether an answer is right.

    ``fits`` are the workflows that the router may choose: two calculations are a task for an agent, or for two workers.
    """

    text: str
    judge: Judge
    fits: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[bytes] = ()


def sure(decide: Callable[[str], bool]) -> Judge:
    """A judge that has nothing to wait for."""

    async def judge(output: str) -> bool:
        return decide(output)

    return judge


# ---- react


def called(turn: Turn) -> list[tuple[str, dict[str, Any], str]]:
    """The calls that a turn expects: name, arguments, result."""
    messages = turn.talk.messages
    functions = [call["function"] for message in messages for call in message.get("tool_calls", [])]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    pairs = zip(functions, results, strict=True)
    return [(function["name"], json.loads(function["arguments"]), result) for function, result in pairs]


CALCULATIONS = (calculate.one_step, calculate.one_step, calculate.two_steps, calculate.two_questions)


def calculation(draw: Draw) -> Task:
    """One calculation, two, or two of which the second needs the first."""
    while True:
        maker = draw.rng.choice(CALCULATIONS)
        turn = maker(draw)
        if not any(result.startswith("Error") for _, _, result in called(turn)):
            return calculated(turn, both=maker is calculate.two_questions)


def calculated(turn: Turn, both: bool) -> Task:
    """The task of a turn: its last result is the answer, or ``both`` are."""
    results = [calculate.value_in(result) for _, _, result in called(turn)]
    values = results if both else results[-1:]
    fits = (REACT, ORCHESTRATOR) if both else (REACT,)
    return Task(turn.talk.messages[0]["content"], sure(lambda output: gives(output, values)), fits)


def listing(draw: Draw) -> Task:
    """Which files are in a folder."""
    while True:
        turn = files.listing(draw)
        [(_, arguments, result)] = called(turn)
        names = result.splitlines()
        if names and "(empty)" not in names and not result.startswith("Error"):
            break
    folder = arguments.get("path", "")
    made = {f"{folder}/{name}".lstrip("/") + ("inside.txt" if name.endswith("/") else ""): "x\n" for name in names}

    def right(output: str) -> bool:
        return all(name in output for name in names)

    return Task(turn.talk.messages[0]["content"], sure(right), (REACT,), made)


def reading(draw: Draw) -> Task:
    """What a file says."""
    while True:
        turn = files.reading(draw)
        [(_, arguments, result)] = called(turn)
        # from a certain line on, a made-up result can't be what a real file would give
        if set(arguments) == {"path"} and not result.startswith("Error"):
            break
    first = result.split("\n")[0].strip()
    task = turn.talk.messages[0]["content"]
    return Task(task, sure(lambda output: first in output), (REACT,), {arguments["path"]: result})


def react(draw: Draw) -> Task:
    """Calculations and files."""
    return draw.rng.choice((calculation, calculation, listing, reading))(draw)


# ---- code


async def passes(code: str, wanted: Sequence[Function]) -> bool:
    """Whether code does what its functions must do on the inputs of their families; run in the sandbox."""
    if len(wanted) == 1 and same_code(code, wanted[0]):
        return True
    tests = "\n".join(line for one in wanted for line in coding.asserts(one))
    made = {"solution.py": code + "\n", "test_solution.py": tests + "\n"}
    try:
        return (await run_tests(Path("/nowhere"), made, "solution.py", ["test_solution.py"], None)).passed
    except BenchAIError:
        return False


def coded(draw: Draw) -> Task:
    """A function, without tests: the coder writes them."""
    wanted = coding.function(draw)

    async def right(output: str) -> bool:
        code = [text for path, text in added(output).items() if "test" not in path]
        return len(code) == 1 and await passes(code[0], [wanted])

    return Task(coding.task(draw, wanted), right, (CODER,))


# ---- orchestrator-worker


def calculations(draw: Draw) -> Task:
    """Two or three calculations, sometimes added up."""
    while True:
        text, parts = planning.split_calculations(draw)
        wanted = [what[len("Calculate ") : -1] for _, what, needs in parts if not needs]
        values = [calculate.evaluated(one) for one in wanted]
        if not any(value.startswith("Error") for value in values):
            break
    if len(parts) > len(wanted):
        values.append(calculate.evaluated(" + ".join(values)))
    fits = (ORCHESTRATOR,) if len(parts) > 2 else (ORCHESTRATOR, REACT)
    return Task(text, sure(lambda output: gives(output, values)), fits)


def functions(draw: Draw) -> Task:
    """One function or two, and their reviews."""
    text, parts = planning.split_functions(draw)
    wanted = [function_of(what) for role, what, _ in parts if role == "code"]

    async def right(output: str) -> bool:
        return await passes("\n\n".join(blocks(output)), wanted)

    return Task(text, right, (ORCHESTRATOR,) if len(wanted) > 1 else (CODER,))


def orchestrated(draw: Draw) -> Task:
    """Calculations or functions."""
    return draw.rng.choice((calculations, functions))(draw)


# ---- texts


def written(draw: Draw) -> Task:
    """A short text."""
    item = writing.piece(draw)
    return Task(writing.asked(draw, item), sure(lambda output: meets(output, item)), ("reflection",))


def scored(draw: Draw) -> Task:
    """A short text, most often with stated criteria."""
    item = writing.piece(draw)
    stated = [writing.criterion(draw, item, slot) for _, slot in writing.requirements(item)]
    inputs = {"criteria": stated} if draw.chance(0.7) else {}
    text = writing.asked(draw, item)
    return Task(text, sure(lambda output: meets(output, item)), ("reflection",), inputs=inputs)


def criteria_in_words(draw: Draw) -> Task:
    """A short text whose criteria stand in the task itself."""
    item = writing.piece(draw)
    named = " and ".join(item.values[slot] for slot in item.kind.slots)
    text = f"{writing.asked(draw, item).rstrip('.')}. It must contain {named}."
    return Task(text, sure(lambda output: meets(output, item)), ("evaluator-optimizer",))


# ---- pictures


def painted(scene: Any) -> bytes:
    """The picture as a file."""
    import base64

    from scripts.tiny_vision.paint import data_url

    return base64.b64decode(data_url(scene).partition("base64,")[2])


def seen(draw: Draw) -> Task:
    """What is in a picture: shapes or a number."""
    kind = draw.rng.choice(("one shape", "two shapes", "number"))
    asked = questions.question(draw, kind, agent=True)
    assert asked.scene is not None
    number = asked.scene.number
    words = [number.text] if number else [questions.described(shape) for shape in asked.scene.shapes]

    def right(output: str) -> bool:
        return all(word in output.lower() for word in words)

    return Task(asked.text, sure(right), ("vision",), images=[painted(asked.scene)])


# ---- all of them

ROUTED = (calculation, reading, coded, calculations, written, criteria_in_words, seen)


def routed(draw: Draw) -> Task:
    """A task of any kind, for the workflow that fits it."""
    return draw.rng.choice(ROUTED)(draw)


TASKS: dict[str, Callable[[Draw], Task]] = {
    "react": react,
    "orchestrator-worker": orchestrated,
    "reflection": written,
    "evaluator-optimizer": scored,
    "planner-coder-reviewer": coded,
    "vision": seen,
    "router": routed,
}


def held_out(workflow: str, count: int, seed: int = 0) -> list[Task]:
    """The first ``count`` tasks of a workflow; the same for the same seed."""
    draw = Draw(random.Random(zlib.crc32(f"workflow {workflow}:{seed}".encode())), held_out=True)
    made = []
    for _ in range(count):
        draw.begin()
        made.append(TASKS[workflow](draw))
    return made
