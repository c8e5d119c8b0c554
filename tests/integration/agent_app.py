"""The agent wire in this process, over real benches and databases: for tests of its routes one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from benchai.runtime.fleet.fleet import Fleet
from benchai.server.agent.app import agent_router
from benchai.server.agent.endpoint import AgentEndpoint
from benchai.server.agent.service import AgentService
from benchai.server.app import make_app
from benchai.server.events import EventLog
from benchai.server.workshop import Workshop
from tests.integration.helpers import LIMIT, loaded

FLOWS = """
import asyncio, operator
from typing import Annotated, Any, TypedDict
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

class State(TypedDict, total=False):
    messages: Annotated[list, add_messages]
    topic: str
    steps: Annotated[list, operator.add]
    answer: str
    odd: Any

async def plan(state):
    return {"steps": ["plan"], "odd": {1, 2}}

async def work(state):
    topic = state.get("topic", "")
    if topic == "boom":
        raise ValueError("boom!")
    if topic == "slow":
        await asyncio.sleep(600)
    answer = interrupt({"question": "go on?"}) if topic == "ask" else "done"
    return {"steps": ["work"], "answer": answer, "messages": [AIMessage(answer, id="a")]}

def build():
    made = StateGraph(State)
    made.add_node(plan)
    made.add_node(work)
    made.add_edge(START, "plan")
    made.add_edge("plan", "work")
    made.add_edge("work", END)
    return made

flat = build()
nested = StateGraph(State)
nested.add_node("child", build().compile())
nested.add_node("last", plan)
nested.add_edge(START, "child")
nested.add_edge("child", "last")
"""
Json = dict[str, Any]


@dataclass
class Agent:
    """A client of the wire as one owner, and what stands behind it."""

    http: httpx.AsyncClient
    service: AgentService
    owner: str = ""

    def of(self, owner: str) -> Agent:
        """The same wire with another key."""
        return Agent(self.http, self.service, owner)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {"x-owner": self.owner, **more.pop("headers", {})}
        return await self.http.request(method, path, json=body, headers=headers, **more)

    async def get(self, path: str, **more: Any) -> Any:
        return await self._data(await self.ask("GET", path, **more))

    async def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return await self._data(await self.ask("POST", path, {} if body is None else body, **more))

    async def _data(self, answer: httpx.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = await self.ask(method, path, body)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["detail"]

    async def thread(self, **body: Any) -> str:
        """The id of a new thread."""
        return str((await self.post("/threads", body))["thread_id"])

    async def ran(self, topic: str = "x", graph: str = "flat", thread: str | None = None) -> str:
        """The id of a thread on which a run has ended."""
        thread = thread or await self.thread()
        body = {"assistant_id": graph, "input": {"topic": topic}}
        await self.post(f"/threads/{thread}/runs/wait", body)
        return thread


class _Keys:
    """Who asks, as the edge of the server says it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = dict(scope.get("headers", ())).get(b"x-owner", b"").decode()
        await self._app({**scope, "state": {"key": owner}}, receive, send)


@asynccontextmanager
async def agent(folder: Path, **config: Any) -> AsyncIterator[Agent]:
    """The wire with the workflows ``flat`` and ``nested``."""
    (folder / "flows.py").write_text(FLOWS, encoding="utf-8")
    settings: Json = {"models": {"m": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}, **config}
    settings["workflows"] = {"flat": "./flows.py:flat", "nested": "./flows.py:nested"}
    async with (
        Fleet(loaded(folder, settings)) as fleet,
        Workshop(fleet) as workshop,
        AgentEndpoint(workshop, lambda: fleet.loaded, lambda row: None) as endpoint,
    ):
        app = make_app(fleet, EventLog(), "secret")
        app.include_router(agent_router(endpoint.service))
        transport = httpx.ASGITransport(_Keys(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=LIMIT) as http:
            yield Agent(http, endpoint.service)
