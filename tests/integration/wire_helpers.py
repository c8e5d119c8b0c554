"""A server with its wire, in the test's own loop: a real fleet, a real uvicorn, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from benchai.config import LoadedConfig
from benchai.runtime.fleet.fleet import Fleet
from benchai.server.app import make_app
from benchai.server.connection import guarded
from benchai.server.edge import Edge
from benchai.server.events import EventLog
from benchai.server.face import Face
from benchai.server.openai.replies import Replies
from benchai.server.serve import listener
from tests.integration.fleet_helpers import Record
from tests.integration.quick_end import QuickEnd


@dataclass
class Server:
    """A server that runs; ``url`` ends without a slash."""

    url: str
    fleet: Fleet
    face: Face
    record: Record

    @property
    def replies(self) -> Replies:
        assert self.face.replies is not None
        return self.face.replies

    def client(self, **settings: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=20, **settings)

    async def chat(self, text: str, **body: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.post("/v1/chat/completions", json=asked(text, **body))


def asked(text: str, **body: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **body}


def about(response: httpx.Response) -> Mapping[str, Any]:
    """What a response says of itself."""
    found: Mapping[str, Any] = response.json()["benchai"]
    return found


@asynccontextmanager
async def wire(loaded: LoadedConfig, fleet: Fleet | None = None, record: Record | None = None) -> AsyncIterator[Server]:
    """Serve a configuration, or a fleet that was made of it."""
    record = record or Record()
    fleet = fleet or Fleet(loaded, record, keep_core=False)
    with contextlib.closing(listener("127.0.0.1", 0)) as bound:
        async with fleet, Face(fleet, record) as face:
            app = face.over(make_app(fleet, EventLog(), "token", face.memories.use))
            edge = Edge(app, loaded.config.server, "127.0.0.1")
            http = guarded(lambda: edge.settings)
            settings = uvicorn.Config(edge, http=http, log_config=None, access_log=False, lifespan="off", ws="none")
            server = QuickEnd(settings)
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            try:
                yield Server(f"http://127.0.0.1:{bound.getsockname()[1]}", fleet, face, record)
            finally:
                server.should_exit = True
                await serving
