"""``POST /v1/feedback``: what a client thinks of a reply. Errors have OpenAI's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from benchai.errors import BenchAIError, UsageError
from benchai.runtime.background import in_background
from benchai.runtime.usage.log import UsageLog
from benchai.runtime.usage.row import COMMENT_CHARS, feedback_value
from benchai.server.openai.errors import openai_error, retry_after, told

MOST_BYTES = 64 * 1024
RETRY_SECONDS = 2
#: What programs compare, by the status.
CODES = {404: "request_not_found", 409: "request_ambiguous"}


class FeedbackBody(BaseModel):
    """A request of /v1/feedback."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: str = Field(min_length=1, max_length=200, description="Id of the request that was answered: X-BenchAI-Id")
    value: Literal["up", "down"] | StrictInt | StrictFloat = Field(description="up, down, or a number from -1 to 1")
    comment: str | None = Field(None, max_length=COMMENT_CHARS, description="Further words")


class FeedbackKept(BaseModel):
    """Its answer."""

    id: str
    object: Literal["feedback"] = "feedback"
    value: float


_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": FeedbackBody.model_json_schema()}}}
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body cannot be used"},
    404: {"description": "There is no such request"},
    409: {"description": "Several requests were given this id by their clients"},
    413: {"description": "The body is too long"},
    503: {"description": "It cannot be written now"},
}


def feedback_router(log: UsageLog) -> APIRouter:
    """The route over the usage rows of this process."""
    router = APIRouter()

    @router.post("/v1/feedback", response_model=FeedbackKept, responses=_ERRORS, openapi_extra=_BODY)
    async def feedback(request: Request) -> Response:
        """Attach feedback to the row of a request; it replaces what was given before."""
        raw = await _body(request)
        if raw is None:
            return _error(413, f"the body is longer than {MOST_BYTES} bytes")
        try:
            body = FeedbackBody.model_validate_json(raw)
        except ValidationError as error:
            return _malformed(error)
        try:
            await in_background(log.feedback, body.id, body.value, body.comment)
        except UsageError as error:
            code = CODES.get(error.status)
            return _error(error.status, told(error.message, error.hint), "id" if code else "value", code)
        except BenchAIError as error:
            return _error(503, told(error.message, error.hint), headers=[retry_after(RETRY_SECONDS)])
        return JSONResponse(FeedbackKept(id=body.id, value=feedback_value(body.value)).model_dump())

    return router


async def _body(request: Request) -> bytes | None:
    """All of the body; None when it is too long."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BYTES:
            return None
    return raw


def _malformed(error: ValidationError) -> Response:
    # what was given is not given back: it may hold text that cannot be encoded
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else None
    known = name if name in FeedbackBody.model_fields else None
    return _error(400, f"{f'{known}: ' if known else ''}{first['msg']}", known)


def _error(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Response:
    status, given, body = openai_error(status, message, param=param, code=code, headers=headers)
    return Response(body, status, {str(name, "latin-1"): str(value, "latin-1") for name, value in given})
