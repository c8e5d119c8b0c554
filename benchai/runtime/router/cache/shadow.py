"""How often similar hits are wrong, estimated from those that the model answered all the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchai.runtime.router.cache.meaning import same_meaning

Verdict = Literal["trial", "on", "off"]
#: Shadow runs that count, the latest.
COUNTED = 1000
# two-sided 95 %
_Z = 1.959964


def wilson(false: int, runs: int) -> tuple[float, float]:
    """The bounds of the share of false hits at 95 % (Wilson's score interval); (0, 1) without a run."""
    if runs == 0:
        return 0.0, 1.0
    share, square = false / runs, _Z * _Z
    middle = share + square / (2 * runs)
    spread = _Z * math.sqrt(share * (1 - share) / runs + square / (4 * runs * runs))
    scale = 1 + square / runs
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@dataclass(frozen=True)
class Estimate:
    """What the shadow runs under one setting tell; ``false`` of ``runs`` hits would have been wrong."""

    settings: str
    runs: int
    false: int

    @property
    def bounds(self) -> tuple[float, float]:
        """The share of false hits, between the lower and the upper bound at 95 %."""
        return wilson(self.false, self.runs)

    def verdict(self, max_false: float) -> Verdict:
        """What follows: "on", hits are given; "trial", all are shadow runs; "off", none is looked for any more.

        On from the run whose upper bound is within ``max_false``, and back on trial when it is above again; off, until
        the cache is cleared or the settings change, when even the lower bound is above.
        """
        low, high = self.bounds
        if low > max_false:
            return "off"
        return "on" if high <= max_false else "trial"


def same_reply(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two whole replies say the same: the same calls of tools, and texts of the same meaning.

    In doubt they do not, so the estimate is rather too high.
    """
    first, second = _message(a), _message(b)
    if _calls(first) != _calls(second):
        return False
    texts = [one.get("content") or "" for one in (first, second)]
    return texts[0] == texts[1] or (all(isinstance(text, str) for text in texts) and same_meaning(*texts))


def _message(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found = reply["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _calls(message: Mapping[str, Any]) -> list[Any]:
    found = []
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except ValueError:
            arguments = function.get("arguments")
        found.append((function.get("name"), arguments))
    return found
