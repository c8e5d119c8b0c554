"""Requests that an OpenAPI document allows, and such as it does not, a few of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode


def each_case(operation: Any, ask: Callable[[Case], None], examples: int, number: int) -> None:
    """Have ``ask`` send what a path of the document allows, then what it does not: the same for the same ``number``."""
    for mode in GenerationMode:
        # a path that takes nothing cannot be asked wrongly
        with suppress(Unsatisfiable):
            _cases(operation.as_strategy(generation_mode=mode), ask, examples, number)


def _cases(strategy: Any, ask: Callable[[Case], None], examples: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def asked(case: Case) -> None:
        ask(case)

    asked()
