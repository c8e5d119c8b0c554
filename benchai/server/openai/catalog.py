"""GET /v1/models, /v1/models/{id}, /ready and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from benchai.errors import UnknownModel
from benchai.runtime.fleet.fleet import Fleet
from benchai.server.metrics import CONTENT_TYPE, Metrics
from benchai.server.openai.names import Names

Descriptions = Callable[[], Awaitable[Mapping[str, str]]]


def catalog_router(fleet: Fleet, names: Callable[[], Names], workflows: Descriptions, metrics: Metrics) -> APIRouter:
    """The routes; ``names`` gives those of the configuration that holds now, ``workflows`` what there is to run."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """What a request's ``model`` may be."""
        found, known = names(), await workflows()
        listed = []
        for name in found.all(known):
            # an alias of what is not there, or no more
            with suppress(UnknownModel):
                listed.append(found.describe(name, known))
        return {"object": "list", "data": listed}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        return names().describe(name, await workflows())

    @router.get("/ready")
    async def ready() -> Response:
        """Whether the models that are kept up are ready: 200, else 503 with those that are not."""
        waiting = {
            name: member.supervisor.state
            for name, member in fleet.members.items()
            if member.core and not (member.supervisor.ready and member.supervisor.alive)
        }
        return JSONResponse({"status": "waiting" if waiting else "ok", "models": waiting}, 503 if waiting else 200)

    @router.get("/metrics")
    async def figures() -> Response:
        """Prometheus's text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router
