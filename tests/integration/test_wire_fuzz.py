"""Whatever the OpenAPI document allows, and what it does not: no answer of the server is its own failure."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from benchai.server.agent.app import is_agents
from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
EXAMPLES = 12
QUICK = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def fuzz(url: str) -> dict[str, int]:
    """Ask every path of the document; path -> how many requests it got."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        # the operators' and the agents' paths have tests of their own, and errors of other shapes
        if operation.path.startswith("/fleet") or is_agents(operation.path):
            continue
        for mode in GenerationMode:
            # a path that takes nothing cannot be asked wrongly
            with suppress(Unsatisfiable):
                _ask(operation, mode, asked)
    return asked


def _ask(operation: Any, mode: GenerationMode, asked: dict[str, int]) -> None:
    @seed(7)
    @QUICK
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        if isinstance(case.body, dict):
            case.body |= {"max_tokens": 2, "max_completion_tokens": 2, "max_output_tokens": 2}
        answer = case.call(timeout=20)
        asked[operation.path] = asked.get(operation.path, 0) + 1
        assert answer.status_code < 500, (operation.path, case.body, answer.text)
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert error["message"]
            assert "Traceback" not in error["message"]

    ask()


async def test_no_request_makes_the_server_fail(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config(context=512))) as server:
        await server.chat("Hello")
        asked = await asyncio.to_thread(fuzz, server.url)
        assert (await server.chat("Hello")).status_code == 200
    assert asked["/v1/chat/completions"] >= EXAMPLES
    assert len(asked) >= 9
