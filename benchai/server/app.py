"""The FastAPI application of `benchai serve`."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from benchai.errors import BenchAIError, Unavailable, UsageError
from benchai.runtime.fleet.fleet import Fleet
from benchai.server.events import EventLog
from benchai.server.ops import error_data, ops_router


def make_app(fleet: Fleet, log: EventLog, token: str) -> FastAPI:
    """The application over a fleet that runs; `token` opens /fleet."""
    app = FastAPI(title="BenchAI", docs_url=None, redoc_url=None)

    @app.exception_handler(BenchAIError)
    async def known(request: Request, error: BenchAIError) -> Response:
        headers = {"Retry-After": str(max(1, round(error.retry_after)))} if isinstance(error, Unavailable) else None
        return JSONResponse({"error": error_data(error)}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        # what was given is not given back: it may hold text that cannot be encoded
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        refused = UsageError(f"the request is malformed: {problems}")
        return JSONResponse({"error": error_data(refused)}, 422)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "ok"}

    app.include_router(ops_router(fleet, log, token))
    return app
