"""Tokens of replies with several choices, where a server counts each choice for itself, as llama-server does.

Such a stream tells a usage, or llama.cpp's timings, at the end of each choice; a whole reply of llama-server tells
those of its first choice alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Tally:
    """Adds up what the chunks of a stream tell; where that is one usage, it stays as it is.

    Args:
        each: Choices of one prompt: the server tells the tokens of the prompt with each of them.
    """

    def __init__(self, each: int = 1) -> None:
        self._each = each
        self._choice = 0
        self._found: dict[int, Mapping[str, Any]] = {}

    def take(self, chunk: Mapping[str, Any]) -> None:
        """The next chunk."""
        for choice in chunk.get("choices") or ():
            index = choice.get("index") if isinstance(choice, dict) else None
            self._choice = index if isinstance(index, int) else 0
        # a usage without a choice comes right behind the end of the choice that it counts
        usage = chunk.get("usage") or usage_of(chunk.get("timings"))
        if isinstance(usage, dict):
            self._found[self._choice] = usage

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage of all choices; None where the stream told none."""
        told = sorted(self._found.items())
        if len(told) < 2:
            return dict(told[0][1]) if told else None
        # the first choice of each prompt
        prompts = {index // self._each: usage for index, usage in reversed(told)}.values()
        prompt = _sum("prompt_tokens", prompts)
        completion = _sum("completion_tokens", (usage for _, usage in told))
        cached = _sum("cached_tokens", (usage.get("prompt_tokens_details") for usage in prompts))
        return _usage(prompt, completion, cached)


def usage_of(timings: Any) -> dict[str, Any] | None:
    """The usage that follows from llama.cpp's timings; None where they do not tell it."""
    try:
        cached = timings.get("cache_n", 0)
        return _usage(timings["prompt_n"] + cached, timings["predicted_n"], cached)
    except (TypeError, KeyError, AttributeError):
        return None


def _usage(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _sum(name: str, found: Iterable[Any]) -> int:
    values = [one.get(name) for one in found if isinstance(one, Mapping)]
    return sum(value for value in values if isinstance(value, int))
