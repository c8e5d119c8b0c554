"""What a tune says in the end: change these settings, or keep yours; with the figures behind it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchai.config.paths import replace_text
from benchai.errors import BenchAIError
from benchai.runtime.measure.paired import Ratio
from benchai.runtime.tune.paired_rounds import Comparison
from benchai.runtime.tune.space import Change, said
from benchai.runtime.tune.study import Attempt

COSTS = {
    "latency": "seconds of a reply of {max_tokens} tokens",
    "throughput": "seconds a token while {concurrent} requests run",
    "first-token": "seconds to the first token",
}
MOST_ROWS = 40


@dataclass(frozen=True)
class Recommendation:
    """The end of a tune. ``change`` is what to set, empty: keep what is there; ``tried`` is what was proved.

    ``was`` are the values before, by key; ``attempts`` have costs in seconds.
    """

    role: str
    model: str
    goal: str
    engine: str
    prompts: str
    asked: int
    max_tokens: int
    concurrent: int
    change: Change
    tried: Change
    reason: str
    was: Mapping[str, Any]
    comparison: Comparison | None
    attempts: tuple[Attempt, ...]
    seconds: float
    study: Path

    @property
    def keep(self) -> bool:
        """Whether the settings had best stay as they are."""
        return not self.change

    @property
    def unit(self) -> str:
        """What a cost is."""
        return COSTS[self.goal].format(max_tokens=self.max_tokens, concurrent=self.concurrent)

    def as_json(self) -> dict[str, Any]:
        """The recommendation as plain data."""
        data = asdict(self) | {"keep": self.keep, "unit": self.unit, "study": str(self.study)}
        proof = self.comparison
        if proof is not None and proof.rounds:
            old, new = proof.costs()
            data["comparison"] |= {
                "ratio": asdict(proof.ratio),
                "old_seconds": old,
                "new_seconds": new,
                "same_replies": sum(one.same for one in proof.rounds),
                "replies": sum(one.replies for one in proof.rounds),
            }
        return data


def verdict(change: Change, comparison: Comparison | None, least_gain: float) -> tuple[bool, str]:
    """Whether a change is to be made, and why (not).

    Args:
        change: What the proof was about.
        comparison: The proof; None where nothing was worth one.
        least_gain: The least share of time saved that counts.
    """
    if comparison is None:
        return False, "nothing that was tried is faster than your settings beside them"
    if comparison.failed is not None:
        return False, f"{said(change)} could not be proved: {comparison.failed}"
    slow = next((number for number, one in enumerate(comparison.rounds, 1) if one.ratio >= 1), None)
    if slow is not None:
        return False, f"{said(change)} was not faster in round {slow} of the proof"
    ratio = comparison.ratio
    told = f"{said(change)}: {_gain(ratio)} in {ratio.pairs} rounds beside your settings"
    if not ratio.better:
        return False, f"{told}, which may be chance"
    if ratio.median > 1 - least_gain:
        return False, f"{told}, less than the {least_gain:.0%} that would be seen"
    return True, told


def _gain(ratio: Ratio) -> str:
    if ratio.high >= 1:
        return f"{percent(ratio.median)} ({percent(ratio.low)} to {percent(ratio.high)})"
    return f"{percent(ratio.median)} ({1 - ratio.high:.1%} to {1 - ratio.low:.1%})"


def percent(ratio: float) -> str:
    """A ratio of times in words."""
    if math.isinf(ratio):
        return "did not run"
    if round(ratio, 3) == 1:
        return "as fast"
    return f"{abs(1 - ratio):.1%} {'less' if ratio < 1 else 'more'} time"


def headline(found: Recommendation) -> str:
    """The recommendation in one line."""
    return f"keep your settings: {found.reason}" if found.keep else f"change {found.model}: {found.reason}"


def yaml_lines(found: Recommendation) -> str:
    """The change as it would stand under the model in benchai.yaml."""
    import yaml

    nested: dict[str, Any] = {}
    for key, value in found.change.items():
        section = nested
        *inner, last = key.split(".")
        for part in inner:
            section = section.setdefault(part, {})
        section[last] = value
    data = {"models": {found.model: nested}}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip() if nested else ""


def markdown(found: Recommendation) -> str:
    """The whole report."""
    head = [
        f"# Tuning {found.role}: {found.model}",
        "",
        f"{time.strftime('%Y-%m-%d %H:%M')}, {found.seconds / 60:.1f} minutes, {found.engine}.",
        f"Goal: {found.goal} ({found.unit}); {found.asked} prompts of {found.prompts}.",
        "",
        f"**{headline(found)}**",
        "",
    ]
    return "\n".join([*head, *_changes(found), *_proof(found), *_trials(found)]) + "\n"


def _changes(found: Recommendation) -> list[str]:
    if found.keep:
        return []
    rows = [f"| {key} | {_word(found.was.get(key))} | {_word(value)} |" for key, value in found.change.items()]
    return ["| key | was | now |", "| --- | --- | --- |", *rows, "", "```yaml", yaml_lines(found), "```", ""]


def _word(value: Any) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _proof(found: Recommendation) -> list[str]:
    proof = found.comparison
    if proof is None or not proof.rounds:
        return []
    old, new = proof.costs()
    same, replies = sum(one.same for one in proof.rounds), sum(one.replies for one in proof.rounds)
    how = "side by side" if all(one.together for one in proof.rounds) else "one after the other, for lack of memory"
    rows = [f"| {number} | {percent(one.ratio)} |" for number, one in enumerate(proof.rounds, 1)]
    return [
        "## Proof",
        "",
        f"{said(found.tried)} against your settings, both started anew for each round, {how}.",
        f"Median cost {new:.4g} s, yours {old:.4g} s ({found.unit}). {same} of {replies} replies are the same.",
        "",
        "| round | with the change |",
        "| --- | --- |",
        *rows,
        "",
    ]


def _trials(found: Recommendation) -> list[str]:
    measured = sorted((one for one in found.attempts if one.cost is not None), key=lambda one: one.cost or 0.0)
    rows = [f"| {one.number} | {said(one.change)} | {one.cost:.4g} |" for one in measured[:MOST_ROWS]]
    given_up = [one for one in found.attempts if one.cost is None]
    rows += [f"| {one.number} | {said(one.change)} | {_cell(one.reason)} |" for one in given_up[:MOST_ROWS]]
    return ["## Trials", "", f"Cost: {found.unit}.", "", "| trial | settings | cost |", "| --- | --- | --- |", *rows]


def _cell(text: str | None) -> str:
    return " ".join((text or "").replace("|", "/").split())[:200]


def save(found: Recommendation) -> Path:
    """Write the report beside the study; returns its path.

    Raises:
        BenchAIError: it cannot be written.
    """
    file = found.study.with_suffix(".md")
    try:
        replace_text(file, markdown(found))
    except OSError as error:
        hint = "check the permissions and the space of that folder"
        raise BenchAIError(f"the report {str(file)!r} cannot be written: {error.strerror}", hint=hint) from error
    return file
