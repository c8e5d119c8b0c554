"""Whatever the OpenAPI document allows, and what it does not: no answer of the server is its own failure."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import schemathesis
from schemathesis import Case

from benchai.server.agent.app import is_agents
from tests.integration.fuzz_helpers import each_case
from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
EXAMPLES = 12


def fuzz(url: str) -> dict[str, int]:
    """Ask every path of the document; path -> how many requests it got."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked: dict[str, int] = {}

    def ask(case: Case) -> None:
        if isinstance(case.body, dict):
            case.body |= {"max_tokens": 2, "max_completion_tokens": 2, "max_output_tokens": 2}
        answer, path = case.call(timeout=20), case.operation.path
        asked[path] = asked.get(path, 0) + 1
        assert answer.status_code < 500, (path, case.body, answer.text)
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert error["message"]
            assert "Traceback" not in error["message"]

    for found in schema.get_all_operations():
        operation = found.ok()
        # the operators' and the agents' paths have tests of their own, and errors of other shapes
        if not operation.path.startswith("/fleet") and not is_agents(operation.path):
            each_case(operation, ask, EXAMPLES, number=7)
    return asked


async def test_no_request_makes_the_server_fail(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config(context=512))) as server:
        await server.chat("Hello")
        asked = await asyncio.to_thread(fuzz, server.url)
        assert (await server.chat("Hello")).status_code == 200
    assert asked["/v1/chat/completions"] >= EXAMPLES
    assert len(asked) >= 9
