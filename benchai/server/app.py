"""The FastAPI application of `benchai serve`."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from benchai.errors import BenchAIError, Unavailable, UsageError
from benchai.runtime.fleet.fleet import Fleet
from benchai.server.agent.app import agent_error, agent_malformed, agent_refused, is_agents
from benchai.server.auth import OWN_KEY
from benchai.server.events import EventLog
from benchai.server.memory import Use, add_memory_routes
from benchai.server.openai.errors import Reply, failure, malformed, openai_error
from benchai.server.ops import error_data, ops_router


def make_app(fleet: Fleet, log: EventLog, token: str, memory: Use | None = None) -> FastAPI:
    """The application over a fleet that runs; `token` opens /fleet, `memory` is answered for below it."""
    app = FastAPI(title="BenchAI", docs_url=None, redoc_url=None)

    @app.exception_handler(BenchAIError)
    async def known(request: Request, error: BenchAIError) -> Response:
        if is_agents(request.url.path):
            return agent_error(error)
        if not _of_operators(request):
            return _response(failure(error))
        headers = {"Retry-After": str(max(1, round(error.retry_after)))} if isinstance(error, Unavailable) else None
        return JSONResponse({"error": error_data(error)}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        if is_agents(request.url.path):
            return agent_malformed(error)
        # what was given is not given back: it may hold text that cannot be encoded
        if not _of_operators(request):
            return _response(malformed((one["loc"][1:] or one["loc"], one["msg"]) for one in error.errors()))
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        refused = UsageError(f"the request is malformed: {problems}")
        return JSONResponse({"error": error_data(refused)}, 422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if is_agents(request.url.path):
            return agent_refused(error.status_code, error.detail, request)
        if _of_operators(request):
            return await http_exception_handler(request, error)
        message = f"{error.detail}: {request.method} {request.url.path}"
        sent = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        return _response(openai_error(error.status_code, message, headers=sent))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _response(openai_error(500, "the server failed; its log says why", code="internal_error"))

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "ok"}

    operators = ops_router(fleet, log, token)
    if memory is not None:
        add_memory_routes(operators, memory)
    app.include_router(operators)
    return app


def _of_operators(request: Request) -> bool:
    """Whether a path has the errors of /fleet; all others have OpenAI's shape."""
    return request.url.path.startswith(OWN_KEY)


def _response(reply: Reply) -> Response:
    status, headers, body = reply
    return Response(body, status, {name.decode(): value.decode("latin-1") for name, value in headers})
