"""Whatever the OpenAPI document of the agent wire allows, and what it does not: the server itself never fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from schemathesis import Case

from benchai.server.agent.app import is_agents
from tests.integration.agent_helpers import KEYS, Server, asked, new_thread, place
from tests.integration.fuzz_helpers import each_case
from tests.integration.serve_helpers import clean

pytestmark = pytest.mark.timeout(60)
EXAMPLES = 2
#: They go on until the client leaves.
ENDLESS = ("/threads/{thread_id}/stream",)
#: What would have a request wait, or a run reach out.
QUIET = ("after_seconds", "webhook")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with place(tmp_path_factory.mktemp("fuzz")) as folder, folder.served() as server:
        yield server
        clean(server.served.text)


class Fuzz:
    """Asks each path of the document, as one owner.

    Every other request names a thread, a run and an assistant that are there, so that it comes further than an id.
    """

    def __init__(self, http: httpx.Client) -> None:
        self.asked: dict[str, int] = {}
        self.statuses: set[int] = set()
        self._http = http
        self._turns = itertools.count()

    def operations(self, document: dict[str, Any]) -> Iterator[Any]:
        document["paths"] = {path: found for path, found in document["paths"].items() if is_agents(path)}
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            yield found.ok()

    def ask(self, case: Case) -> None:
        if next(self._turns) % 2:
            self._known(case)
        self._check(case)

    def _known(self, case: Case) -> None:
        if isinstance(case.body, dict):
            more = {"assistant_id": "instant"} if "assistant_id" in case.body else {}
            case.body = {name: one for name, one in case.body.items() if name not in QUIET} | more
        if not case.path_parameters or case.operation.path in ENDLESS:
            return
        thread = new_thread(self._http)
        run = self._http.post(f"/threads/{thread}/runs", json=asked("instant", "fuzz")).json()["run_id"]
        known = {"thread_id": thread, "run_id": run, "assistant_id": "instant"}
        case.path_parameters |= {name: one for name, one in known.items() if name in case.path_parameters}

    def _check(self, case: Case) -> None:
        headers = {"x-api-key": KEYS["ann"]}
        answer = case.call(base_url=str(self._http.base_url).rstrip("/"), headers=headers, timeout=20)
        path = case.operation.path
        self.asked[path] = self.asked.get(path, 0) + 1
        self.statuses.add(answer.status_code)
        told = path, case.path_parameters, case.query, case.body, answer.text[:2000]
        assert answer.status_code < 500, told
        if answer.status_code >= 400:
            detail = answer.json()["detail"]
            assert isinstance(detail, str), told
            assert detail, told
            assert "Traceback" not in detail, told


def test_no_request_makes_the_server_fail(server: Server) -> None:
    with server.http() as http:
        document = http.get("/openapi.json").json()
        fuzz = Fuzz(http)
        for operation in fuzz.operations(document):
            each_case(operation, fuzz.ask, EXAMPLES, number=11)
        # it still does its work, with all its places
        done = [http.post("/runs/wait", json=asked("instant", "after")).json() for _ in range(10)]
    assert {one["answer"] for one in done} == {"done after"}
    assert len(fuzz.asked) >= 35, sorted(fuzz.asked)
    assert {200, 204, 404, 422} <= fuzz.statuses
