"""The routes of the agent wire, and the shape of their errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from benchai import __version__
from benchai.errors import BenchAIError, EndpointNotReady, Unavailable
from benchai.server.agent.service import AgentService

#: Paths whose errors are ``{"detail": text}``.
PATHS = ("/assistants", "/threads", "/runs", "/store", "/info", "/ok")
LONGEST = 4_000
_CRONS = "there are no crons here: have cron, or a timer of systemd, post to /runs or to /threads/{id}/runs"
_PROTOCOL = "this protocol is not spoken here: the routes below /threads/{id}/runs stream runs"
_PLACES = ("body", "query", "path", "header")


def is_agents(path: str) -> bool:
    """Whether a path is of the agent wire."""
    return path.startswith(PATHS) and any(path == one or path.startswith(f"{one}/") for one in PATHS)


def agent_router(service: AgentService) -> APIRouter:
    """All routes."""
    from benchai.server.agent.assistants import assistants_router
    from benchai.server.agent.run_routes import runs_router
    from benchai.server.agent.states import states_router
    from benchai.server.agent.store import store_router
    from benchai.server.agent.threads import threads_router

    router = APIRouter()
    _add_about(router)
    _add_absent(router)
    makers: tuple[Callable[[AgentService], APIRouter], ...] = (
        runs_router, threads_router, states_router, assistants_router, store_router,
    )  # fmt: skip
    for maker in makers:
        router.include_router(maker(service))
    return router


def _add_about(router: APIRouter) -> None:
    @router.get("/ok", tags=["server"])
    async def ok() -> dict[str, bool]:
        """Whether the server lives."""
        return {"ok": True}

    @router.get("/info", tags=["server"])
    async def info() -> dict[str, Any]:
        """What the server is, and what of the wire it speaks."""
        return {
            "version": __version__,
            "langgraph_py_version": metadata.version("langgraph"),
            "python_version": ".".join(map(str, sys.version_info[:3])),
            "flags": {"assistants": True, "crons": False, "langsmith": False},
            "host": {"kind": "benchai"},
        }


def _add_absent(router: APIRouter) -> None:
    """What the wire has and we have not: told before any route that would take it for an id."""

    async def no_crons() -> Response:
        return JSONResponse({"detail": _CRONS}, 501)

    async def no_protocol() -> Response:
        return JSONResponse({"detail": _PROTOCOL}, 501)

    for path in ("/runs/crons", "/runs/crons/search", "/runs/crons/count", "/threads/{thread_id}/runs/crons"):
        router.add_api_route(path, no_crons, methods=["POST"], include_in_schema=False)
    crons = "/runs/crons/{cron_id}"
    router.add_api_route(crons, no_crons, methods=["GET", "PATCH", "DELETE"], include_in_schema=False)
    for path in ("/threads/{thread_id}/commands", "/threads/{thread_id}/stream/events"):
        router.add_api_route(path, no_protocol, methods=["POST"], include_in_schema=False)


def agent_error(error: BenchAIError) -> Response:
    """An error of ours in the wire's shape; Retry-After where waiting helps."""
    told = f"{error.message}; {error.hint}" if error.hint else error.message
    waits = isinstance(error, Unavailable | EndpointNotReady)
    headers = {"Retry-After": str(max(1, round(error.retry_after)))} if waits else None  # type: ignore[attr-defined]
    return _detail(error.status, told, headers)


def agent_malformed(error: RequestValidationError) -> Response:
    """A request that is malformed; what was given is not given back: it may hold text that cannot be encoded."""
    found = (([part for part in one["loc"] if part not in _PLACES], one["msg"]) for one in error.errors())
    told = "; ".join(f"{'.'.join(map(str, place)) or 'body'}: {problem}" for place, problem in found)
    return _detail(422, f"the request is malformed: {told}")


def agent_refused(status: int, detail: str, request: Request) -> Response:
    """An error of the framework: no such path, or method."""
    return _detail(status, f"{detail}: {request.method} {request.url.path}")


def _detail(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return JSONResponse({"detail": shown.encode("utf-8", "replace").decode()}, status, headers)
