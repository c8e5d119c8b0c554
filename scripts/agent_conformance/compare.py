"""Makes answers of two servers alike where they must differ (ids, times), and tells what still differs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

Answer = Mapping[str, Any]
#: What is another one in each run, and what stands in its place.
PATTERNS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<hex>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "<time>"),
)
LATE_MS = 1.5e12
SHOWN = 160


@dataclass(frozen=True)
class Difference:
    """One place where the answers differ; ABSENT is what one of them has not."""

    step: str
    path: str
    reference: str
    ours: str

    def __str__(self) -> str:
        return f"{self.step}\n  at        {self.path}\n  reference {self.reference}\n  ours      {self.ours}"


ABSENT = "(absent)"


def alike(answer: Answer, kept: Mapping[str, str], url: str) -> Any:
    """An answer without what is different in every run: kept values by their names, ids, times, the words of errors."""
    names = sorted(((value, name) for name, value in kept.items() if len(value) >= 8), key=lambda one: -len(one[0]))

    def made(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return text(value, key)
        if isinstance(value, dict):
            return {text(name): made(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [made(one) for one in value]
        late = isinstance(value, int | float) and not isinstance(value, bool) and value > LATE_MS
        return "<ms>" if late else value

    def text(value: str, key: str = "") -> str:
        if key == "content-type":
            return value.partition(";")[0]
        value = value.replace(url, "<server>")
        for known, name in names:
            value = value.replace(known, f"<{name}>")
        for pattern, instead in PATTERNS:
            value = pattern.sub(instead, value)
        return value

    result = made(dict(answer))
    if answer.get("status", 0) >= 400 and isinstance(result.get("body", {}).get("detail"), str):
        result["body"]["detail"] = "<words>"
    for event in result.get("events", ()):
        event.update({"id": "<id of an event>"} if "id" in event else {})
    return result


def differences(step: str, reference: Any, ours: Any, path: str = "") -> Iterator[Difference]:
    """All places where two answers that were made alike differ; of answers with different status, that alone."""
    if not path and "status" in reference and "status" in ours and reference["status"] != ours["status"]:
        yield Difference(step, "status", *(f"{one['status']} {shown(_content(one))}" for one in (reference, ours)))
    elif isinstance(reference, dict) and isinstance(ours, dict):
        for key in [*reference, *(key for key in ours if key not in reference)]:
            one, other = reference.get(key, ABSENT), ours.get(key, ABSENT)
            yield from differences(step, one, other, f"{path}.{key}" if path else key)
    elif isinstance(reference, list) and isinstance(ours, list) and _are_events(reference + ours):
        yield from _of_events(step, reference, ours, path)
    elif isinstance(reference, list) and isinstance(ours, list):
        if len(reference) != len(ours):
            yield Difference(step, f"{path}.length", str(len(reference)), str(len(ours)))
        for number, (one, other) in enumerate(zip(reference, ours, strict=False)):
            yield from differences(step, one, other, f"{path}.{number}")
    elif reference != ours or type(reference) is not type(ours):
        yield Difference(step, path, shown(reference), shown(ours))


def _content(answer: Mapping[str, Any]) -> Any:
    return next((answer[name] for name in ("body", "events", "text") if name in answer), None)


def _are_events(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) and "event" in value for value in values)


def _of_events(step: str, reference: list[Any], ours: list[Any], path: str) -> Iterator[Difference]:
    """Events side by side; those that only one has do not put the others out of step."""
    matcher = SequenceMatcher(None, [_kind(one) for one in reference], [_kind(one) for one in ours], autojunk=False)
    for _, begin, end, other_begin, other_end in matcher.get_opcodes():
        one, other = reference[begin:end], ours[other_begin:other_end]
        for number in range(max(len(one), len(other))):
            pair = [events[number] if number < len(events) else ABSENT for events in (one, other)]
            yield from differences(step, *pair, f"{path}.{begin + number}")


def _kind(event: Mapping[str, Any]) -> str:
    """What makes two events the same one: the name, and for single steps which."""
    data = event.get("data")
    inner = data.get("type", "") if isinstance(data, dict) else ""
    return f"{event['event']} {inner} {sorted(data) if event['event'] in ('updates', 'tasks') else ''}"


def shown(value: Any) -> str:
    """A value in one short line."""
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
