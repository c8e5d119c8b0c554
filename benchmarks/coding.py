"""The workflow planner-coder-reviewer on HumanEval-style tasks: does a failing test's message reach the coder?

For each task a scripted coder is wrong first. It is right only once a request holds what its wrong code said when the
task's own test ran it in the sandbox: a word made up for this run that stands nowhere else. All other parts are real:
graph, threads, HTTP, sandbox. A task is fixed when the run ends with ``completed`` and a diff of the right code.

    python benchmarks/coding.py --data FOLDER [--only N] [--json]
    python benchmarks/coding.py --synthesise N --data FOLDER

FOLDER holds HumanEval.jsonl or HumanEval.jsonl.gz: lines of JSON with task_id, prompt, entry_point, canonical_solution
and test. Nothing is fetched; --synthesise writes N simple functions in the same form there, if it holds no tasks yet.
Exit code 0: every task was fixed.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.agents.prompts import prompt  # noqa: E402
from benchai.bench import Bench  # noqa: E402
from benchai.errors import BenchAIError  # noqa: E402
from benchai.testing import Reply, ScriptedServer, chosen, contents, text  # noqa: E402

NAMES = ("HumanEval.jsonl", "HumanEval.jsonl.gz")
SYNTHETIC = "synthetic/"
PLAN = json.dumps({"goal": "Write the function", "steps": ["Write it", "Run the tests"]})
HOW = (
    "give --data FOLDER with HumanEval.jsonl or HumanEval.jsonl.gz, from github.com/openai/human-eval, folder data; "
    "or --synthesise 164 --data FOLDER for made-up tasks in the same form"
)


@dataclass(frozen=True)
class Task:
    """One task in the form of HumanEval."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    @property
    def right(self) -> str:
        """The whole code that passes."""
        return self.prompt + self.canonical_solution

    def wrong(self, word: str) -> str:
        """Code that returns a word, or raises it where the test computes with the result."""
        first = re.search(r"assert.*", self.test)
        plain = first is not None and re.match(r"assert candidate\(.*\) == ", first.group()) is not None
        last = f"return {word!r}" if plain else f"raise ValueError({word!r})"
        return f"{self.prompt.rstrip()}\n    {last}\n"


@dataclass(frozen=True)
class Outcome:
    """What became of a task; seconds from the task to the diff."""

    task_id: str
    fixed: bool
    why: str
    seconds: float


class Coder:
    """Wrong until the failing test's message, with the word that only the wrong code knows, is in the request."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.word = f"wrong-{secrets.token_hex(8)}"
        self.told = False

    def reply(self, request: dict[str, Any]) -> Reply:
        role, asked = contents(request, "system")[0], contents(request, "user")[-1]
        if role == prompt("planner"):
            return text(PLAN)
        if role == prompt("reviewer"):
            return text("APPROVED" if self.task.right.strip() in asked else "REJECTED: it is not the right code.")
        message = asked.partition("Failing test:\n")[2]
        self.told = self.told or self.word in message
        code = self.task.right if self.word in message else self.task.wrong(self.word)
        return text(f"```python\n{code.rstrip()}\n```")


def load(folder: Path) -> list[Task]:
    """The tasks of a folder."""
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        raise SystemExit(f"there are no tasks in {str(folder)!r}: {HOW}")
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    fields = Task.__dataclass_fields__
    lines = (json.loads(line) for line in data.decode().splitlines() if line.strip())
    return [Task(**{name: line[name] for name in fields}) for line in lines]


async def measure(task: Task) -> Outcome:
    """Run one task in a workspace of its own."""
    coder = Coder(task)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="benchai-coding-") as folder:
        workspace = Path(folder)
        # the code is generated, and a data set is not ours: what is run is run in the sandbox alone
        (workspace / "test_solution.py").write_text(f"{task.test}\n\ncheck({task.entry_point})\n", encoding="utf-8")
        try:
            with ScriptedServer(chosen(coder.reply)) as server:
                why = await ended(server, workspace, task)
        except BenchAIError as error:
            why = error.message
    seconds = time.perf_counter() - began
    if not why and not coder.told:
        why = "the coder was never told of the failing test"
    return Outcome(task.task_id, not why, why, round(seconds, 3))


async def ended(server: ScriptedServer, workspace: Path, task: Task) -> str:
    """Why the run did not mend the code; "" when it did."""
    models = {"models": {"far": server.model()}, "roles": dict.fromkeys(("general", "planner", "code"), "far")}
    file = workspace.with_suffix(".yaml")
    file.write_text(json.dumps(models), encoding="utf-8")
    try:
        async with Bench.open(file, workspace=workspace) as bench:
            inputs = {"tests": ["test_solution.py"], "fixes": 2}
            result = await bench.run("planner-coder-reviewer", task.prompt, inputs=inputs)
    finally:
        file.unlink()
    last = task.canonical_solution.rstrip().splitlines()[-1]
    if result.stop_reason != "completed":
        return f"ended with {result.stop_reason}"
    return "" if f"+{last}\n" in result.output else "the diff does not hold the right code"


def synthetic(count: int) -> Iterator[Task]:
    """Simple functions with tests, in the form of HumanEval."""
    kinds = [
        ("n: int", "int", "{k} more than n", "n + {k}", [0, 7, -3]),
        ("n: int", "int", "n times {k}", "n * {k}", [1, 4, -2]),
        ("n: int", "bool", "whether {k} divides n", "n % {k} == 0", [0, 1, 30]),
        ("values: list", "list", "the values above {k}", "[v for v in values if v > {k}]", [[], [1, 99, 200]]),
        ("values: list", "list", "every value plus {k}", "[v + {k} for v in values]", [[], [1, 2]]),
        ("text: str", "str", "the text repeated {k} times", "text * {k}", ["", "ab"]),
        ("text: str", "str", "the text without its first {k} letters", "text[{k}:]", ["a", "abcdef" * 30]),
        ("n: float", "float", "n divided by {k}", "n / {k}", [1.0, 2.5]),
    ]
    for number in range(count):
        head, result, words, body, inputs = kinds[number % len(kinds)]
        k = number // len(kinds) + 2
        name = f"function_{number}"
        signature = f"def {name}({head}) -> {result}:\n"
        argument = head.partition(":")[0]
        space = {"__builtins__": {}}
        values = [eval(body.format(k=k), space, {argument: one}) for one in inputs]
        form = "abs(candidate({one!r}) - {value!r}) < 1e-6" if result == "float" else "candidate({one!r}) == {value!r}"
        asserts = [f"    assert {form.format(one=one, value=v)}\n" for one, v in zip(inputs, values, strict=True)]
        yield Task(
            task_id=f"{SYNTHETIC}{number}",
            prompt=f'{signature}    """Return {words.format(k=k)}."""\n',
            entry_point=name,
            canonical_solution=f"    return {body.format(k=k)}\n",
            test="METADATA = {}\n\n\ndef check(candidate):\n" + "".join(asserts),
        )


def write_synthetic(folder: Path, count: int) -> None:
    """Write made-up tasks, never over others."""
    taken = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if taken is not None:
        raise SystemExit(f"{str(taken)!r} is there already: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(task)) for task in synthetic(count)]
    (folder / NAMES[0]).write_text("\n".join(lines) + "\n", encoding="utf-8")


async def measure_all(tasks: list[Task]) -> list[Outcome]:
    """One task after the other; what fails is told at once."""
    outcomes = []
    for task in tasks:
        outcomes.append(await measure(task))
        if not outcomes[-1].fixed:
            print(f"{task.task_id}: {outcomes[-1].why}", file=sys.stderr)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where HumanEval.jsonl or HumanEval.jsonl.gz lies")
    parser.add_argument("--synthesise", type=int, metavar="N", help="write N made-up tasks into FOLDER first")
    parser.add_argument("--only", type=int, metavar="N", help="the first N tasks alone")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen_options = parser.parse_args()
    if chosen_options.data is None:
        print(f"there is no data: {HOW}", file=sys.stderr)
        return 2
    if chosen_options.synthesise:
        write_synthetic(chosen_options.data, chosen_options.synthesise)
    tasks = load(chosen_options.data)[: chosen_options.only]
    with tempfile.TemporaryDirectory(prefix="benchai-home-") as home:
        os.environ["BENCHAI_HOME"] = home
        began = time.perf_counter()
        outcomes = asyncio.run(measure_all(tasks))
        seconds = time.perf_counter() - began
    fixed = sum(one.fixed for one in outcomes)
    made_up = all(task.task_id.startswith(SYNTHETIC) for task in tasks)
    median = statistics.median(one.seconds for one in outcomes) if outcomes else 0.0
    if chosen_options.json:
        figures = {"fixed": fixed, "tasks": len(tasks), "synthetic": made_up, "seconds": round(seconds, 1)}
        print(json.dumps(figures | {"median": median, "outcomes": [asdict(one) for one in outcomes]}))
    else:
        kind = "synthetic tasks" if made_up else "tasks"
        print(
            f"{fixed} of {len(tasks)} {kind} fixed after the failing test, {seconds:.1f} s, median {median:.2f} s each"
        )
    return 0 if outcomes and fixed == len(outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
