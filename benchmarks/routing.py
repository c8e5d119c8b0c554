"""How well requests are routed: precision and recall of each class, the confusion table, and the time of a decision.

    python benchmarks/routing.py --data FILE [--data FILE] [--half dev|test] [--config benchai.yaml] [--errors] [--json]

FILE is CSV with the columns text, label and, if known, complexity (simple, moderate, complex); or JSON, a list of
objects with label and text or messages (OpenAI's wire), and complexity. Labels are code, planner, research, vision,
general and keep (a tool's result, which goes back to the model that called). A text that asks about a picture without
one counts as vision when that was seen in it, though without a picture general would answer.

--half takes one half of each file, by a hash of the text: rules may be mended by looking at dev, never at test.
The repository's own set is benchmarks/data/routing.csv and conversations.json; docs/routing.md tells how it was made.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.config import load_config  # noqa: E402
from benchai.errors import BenchAIError, UsageError, did_you_mean  # noqa: E402
from benchai.runtime.router.route import Route  # noqa: E402
from benchai.runtime.router.rules import Router, Rules  # noqa: E402
from benchai.runtime.router.tables import tables  # noqa: E402

LABELS = ("code", "planner", "research", "vision", "general", "keep")
LEVELS = ("simple", "moderate", "complex")
ROUNDS, REPEATS = 20, 300
#: Of the clock, of the processor.
Seconds = tuple[float, float]


@dataclass(frozen=True)
class Example:
    """A labelled request."""

    messages: list[Any]
    label: str
    complexity: str | None

    @property
    def text(self) -> str:
        """The last message, for reading."""
        content = self.messages[-1].get("content") if self.messages else ""
        return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)

    @property
    def half(self) -> str:
        """dev or test, by what it holds."""
        alone = len(self.messages) == 1 and isinstance(self.messages[0].get("content"), str)
        held = self.text if alone else json.dumps(self.messages, sort_keys=True)
        return ("dev", "test")[hashlib.sha256(held.encode()).digest()[0] & 1]


@dataclass(frozen=True)
class Result:
    """What was found for an example."""

    example: Example
    predicted: str
    complexity: float
    reason: str


def load(file: Path) -> list[Example]:
    """The examples of a file.

    Raises:
        UsageError: it cannot be read, or a row has no text or an unknown label, with the row's number.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error}", hint="UTF-8 text is expected") from error
    rows = (
        _json_rows(text, file)
        if text.lstrip()[:1] in {"[", "{"}
        else list(csv.DictReader(text.splitlines(keepends=True)))
    )
    return [_example(row, f"{file}, row {number}") for number, row in enumerate(rows, 1)]


def _json_rows(text: str, file: Path) -> list[Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{str(file)!r} is no JSON: {error}", hint="a list of objects is expected") from error
    return data if isinstance(data, list) else [data]


def _example(row: Any, place: str) -> Example:
    if not isinstance(row, dict):
        raise UsageError(f"{place}: {row!r} is no object", hint="text or messages, and label, are needed")
    label, level = row.get("label"), row.get("complexity") or None
    if label not in LABELS:
        raise UsageError(f"{place}: the label is {label!r}", hint=did_you_mean(str(label), LABELS))
    if level is not None and level not in LEVELS:
        raise UsageError(f"{place}: the complexity is {level!r}", hint=did_you_mean(str(level), LEVELS))
    messages = row.get("messages") or (
        [{"role": "user", "content": row["text"]}] if isinstance(row.get("text"), str) else None
    )
    if not isinstance(messages, list):
        raise UsageError(f"{place}: neither text nor messages", hint="one of them is needed")
    return Example(messages, str(label), level)


def predicted(route: Route) -> str:
    """The class that a route stands for."""
    return "vision" if route.intent == "vision" and route.role != "keep" else route.role


def timed(router: Router, messages: list[Any]) -> tuple[Route, Seconds]:
    """A route, and the time that it took."""
    cpu, wall = time.thread_time(), time.perf_counter()
    route = router.route(messages)
    return route, (time.perf_counter() - wall, time.thread_time() - cpu)


def run(router: Router, examples: Sequence[Example]) -> tuple[list[Result], list[Seconds]]:
    """The results, and the time of each decision over several rounds."""
    results, seconds = [], []
    for round_ in range(ROUNDS):
        for example in examples:
            route, spent = timed(router, example.messages)
            seconds.append(spent)
            if round_ == 0:
                results.append(Result(example, predicted(route), route.complexity, route.reason))
    return results, seconds


def measures(results: Sequence[Result]) -> dict[str, Any]:
    """Accuracy, and precision, recall and F1 of each class; None where nothing can be divided by."""
    pairs = Counter((one.example.label, one.predicted) for one in results)
    classes = {}
    for label in LABELS:
        support = sum(count for (true, _), count in pairs.items() if true == label)
        given = sum(count for (_, said), count in pairs.items() if said == label)
        right = pairs[label, label]
        precision, recall = _ratio(right, given), _ratio(right, support)
        if support or given:
            f1 = 2 * right / (support + given)
            classes[label] = {"n": support, "precision": precision, "recall": recall, "f1": f1}
    right = sum(count for (true, said), count in pairs.items() if true == said)
    confusion = {true: {said: pairs[true, said] for said in classes} for true in classes}
    return {"n": len(results), "accuracy": _ratio(right, len(results)), "classes": classes, "confusion": confusion}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def levels(results: Sequence[Result], simple: float, research: float) -> dict[str, dict[str, int]]:
    """Labelled level -> computed level -> count, of the examples that have one."""
    found = {level: dict.fromkeys(LEVELS, 0) for level in LEVELS}
    for one in results:
        if one.example.complexity is not None:
            score = one.complexity
            computed = "simple" if score < simple else "complex" if score > research else "moderate"
            found[one.example.complexity][computed] += 1
    return found


def times(seconds: Sequence[Seconds]) -> dict[str, float]:
    """Median and 99th percentile in ms, by the clock and of the processor: others' work shows in the clock alone."""
    found = {}
    for name, several in zip(("wall", "cpu"), zip(*seconds, strict=True), strict=True):
        ordered = sorted(several)
        found[f"{name}_p50_ms"] = statistics.median(ordered) * 1000
        found[f"{name}_p99_ms"] = ordered[int(len(ordered) * 0.99)] * 1000
    return found


def large(router: Router) -> dict[str, dict[str, float]]:
    """The time for a conversation of 200 messages, and for a text of 1 MB."""
    said = "Then the server reads its file, and we look at what came of it. " * 20
    talk = [{"role": ("user", "assistant")[turn % 2], "content": said} for turn in range(199)]
    cases = {
        "200 messages, follow-up": [*talk, {"role": "user", "content": "and now with error handling"}],
        "200 messages, new request": [
            *talk,
            {"role": "user", "content": "write a python function that adds two numbers"},
        ],
        "text of 1 MB": [{"role": "user", "content": (said * 800)[:1_000_000]}],
    }
    found = {}
    for name, messages in cases.items():
        found[name] = times([timed(router, messages)[1] for _ in range(REPEATS)])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--half", choices=("dev", "test"))
    parser.add_argument("--config", type=Path)
    parser.add_argument("--errors", action="store_true", help="print what was routed otherwise than labelled")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        report = _report(given)
    except BenchAIError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    if given.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report, given.errors)
    return 0


def _report(given: argparse.Namespace) -> dict[str, Any]:
    known = tables(load_config(given.config).config.routing if given.config else None)
    router = Rules(known)
    examples = [one for file in given.data for one in load(file) if given.half in (None, one.half)]
    if not examples:
        raise UsageError("there is no example", hint="check the file, and --half")
    results, seconds = run(router, examples)
    limits = known.thresholds
    wrong = [
        {"label": one.example.label, "predicted": one.predicted, "text": one.example.text[:200], "reason": one.reason}
        for one in results
        if one.predicted != one.example.label
    ]
    return measures(results) | {
        "complexity": levels(results, limits.simple, limits.research),
        "time": times(seconds),
        "large": large(router),
        "wrong": wrong,
    }


def _print(report: dict[str, Any], errors: bool) -> None:
    print(f"{report['n']} examples, accuracy {report['accuracy']:.3f}\n")
    print("| class | n | precision | recall | F1 |\n| --- | --- | --- | --- | --- |")
    for label, one in report["classes"].items():
        print(f"| {label} | {one['n']} | {_shown(one['precision'])} | {_shown(one['recall'])} | {_shown(one['f1'])} |")
    _matrix("labelled, routed to", report["confusion"])
    _matrix("complexity labelled, computed", report["complexity"])
    print("\n| time of a decision, ms | p50 | p99 | processor p50 | p99 |\n| --- | --- | --- | --- | --- |")
    for name, one in {"these examples": report["time"], **report["large"]}.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in one.values())} |")
    for one in report["wrong"] if errors else []:
        print(f"\n{one['label']} -> {one['predicted']}: {one['text']!r}\n  {one['reason']}")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _matrix(head: str, rows: dict[str, dict[str, int]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n| {head} | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(str(row[column]) for column in columns)} |")


if __name__ == "__main__":
    sys.exit(main())
