"""What the fleet's models would take of this machine's memory, before any is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from benchai.config import LoadedConfig, paths
from benchai.errors import BenchAIError
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.decide import Claim
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook, Need

WIDTH = 48
#: Signs of the bar: what is kept free, the models in turn, their KV caches, what is left.
RESERVED, KV, FREE = "#", "~", "."
MODELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Outlook:
    """The budget of every device, and what each model would claim of the first device that ever holds it."""

    gpus: list[str]
    totals: dict[str, int]
    budget: dict[str, int]
    needs: dict[str, Need]
    problems: dict[str, str]

    def of(self, model: str) -> dict[str, Any] | None:
        """One model as plain data; None for a remote one, or one whose file is not there. MiB."""
        need = self.needs.get(model)
        if need is None:
            return {"problem": self.problems[model]} if model in self.problems else None
        found = need.estimate
        parts = {"weights": found.weights_mib, "kv": found.kv_mib, "total": found.total_mib} if found else {}
        return parts | {"claim": dict(self.claim(model) or {}), "measured": dict(need.measured)}

    def claim(self, model: str) -> Claim | None:
        """Where a model would live and what it takes there; None when it fits nowhere."""
        for option in self.needs[model].options:
            if all(mib <= self.budget.get(device, 0) for device, mib in option.items()):
                return option
        return None

    def claims(self) -> dict[str, Claim]:
        """Where each model would live that fits somewhere: its flags follow from that."""
        claims = ((name, self.claim(name)) for name in self.needs)
        return {name: claim for name, claim in claims if claim is not None}

    def bars(self) -> Iterator[str]:
        """A bar for each device: reserved or in foreign use, each model and its KV cache, free."""
        for device, budget in self.budget.items():
            users = [(name, claim[device]) for name in self.needs if device in (claim := self.claim(name) or {})]
            yield from _bar(device, self.totals.get(device, budget), budget, users, self.needs)
        for name in self.needs:
            if self.claim(name) is None:
                yield f"{name} fits nowhere: it needs {dict(self.needs[name].options[0])} MiB"
        for name, problem in self.problems.items():
            yield f"{name}: {problem}"


def outlook(loaded: LoadedConfig, engine: Engine | None) -> Outlook:
    """Look at every model of a configuration without starting any."""
    with Gauge() as gauge:
        book = MemoryBook(loaded, gauge)
        totals = {one.device: one.total_mib for one in gauge.devices()}
        needs: dict[str, Need] = {}
        problems: dict[str, str] = {}
        for name, model in loaded.config.models.items():
            file = None if model.remote else loaded.model_file(name)
            if file is None or engine is None or not paths.is_file(file):
                continue
            try:
                needs[name] = book.need(name, file, engine)
            except BenchAIError as error:
                problems[name] = error.message
        return Outlook(book.gpus, totals, book.budget([], {}), needs, problems)


def _bar(device: str, total: int, budget: int, users: list[tuple[str, int]], needs: dict[str, Need]) -> Iterator[str]:
    total = max(total, budget, 1)
    taken = sum(mib for _, mib in users)
    scale = WIDTH / max(total, total - budget + taken)
    at = total - budget
    text = RESERVED * round(at * scale)
    legend = [f"{RESERVED} reserved or in use by others {total - budget}"]
    for sign, (name, mib) in zip(cycle(MODELS), users, strict=False):
        found = needs[name].estimate
        kv = min(found.kv_mib if found else 0, mib)
        # rounded from the left end of the bar, so that its parts add up
        text += sign * (round((at + mib - kv) * scale) - len(text))
        text += KV * (round((at + mib) * scale) - len(text))
        at += mib
        legend.append(f"{sign} {name} {mib} ({KV} KV cache {kv})")
    text = text.ljust(WIDTH, FREE)
    free = budget - taken
    legend.append(f"{FREE} free {free}" if free >= 0 else f"{-free} too much at once: they take turns")
    yield f"{device} [{text}] {total} MiB"
    yield f"  {', '.join(legend)}"
