"""Errors in the shape of OpenAI's API: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from benchai.errors import (
    BenchAIError,
    ContextExceeded,
    EndpointNotReady,
    QueueFull,
    Unavailable,
    UnknownModel,
    UsageError,
    did_you_mean,
)

Headers = list[tuple[bytes, bytes]]
#: Status, headers without a length, body.
Reply = tuple[int, Headers, bytes]
LONGEST = 2_000
TYPES = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error", 429: "rate_limit_error"}
#: The code that clients look at, by the error's class; the first one that fits.
CODES: tuple[tuple[type[BenchAIError], str], ...] = (
    (ContextExceeded, "context_length_exceeded"),
    (UnknownModel, "model_not_found"),
    (QueueFull, "queue_full"),
    (Unavailable, "model_unavailable"),
    (EndpointNotReady, "model_unavailable"),
)
PARAMS: tuple[tuple[type[BenchAIError], str], ...] = ((ContextExceeded, "messages"), (UnknownModel, "model"))


def openai_error(
    status: int,
    message: str,
    *,
    type: str | None = None,
    param: str | None = None,
    code: str | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Reply:
    """An error as a response.

    Args:
        status: HTTP status.
        message: What was wrong and the mend; cut after 2,000 characters.
        type: OpenAI's kind of error; default: what belongs to the status.
        param: The field of the request that was wrong.
        code: A name that programs can compare.
        headers: Headers beside the content type.
    """
    kind = type or TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return status, [(b"content-type", b"application/json"), *headers], error_body(message, kind, param, code)


def error_body(message: str, type: str, param: str | None = None, code: str | None = None) -> bytes:
    """The body alone, as it also stands in a stream's last event."""
    told = message if len(message) <= LONGEST else f"{message[:LONGEST]}..."
    # ASCII: what a client sent may hold half a surrogate pair
    return json.dumps({"error": {"message": told, "type": type, "param": param, "code": code}}).encode("ascii")


def failure(error: BenchAIError) -> Reply:
    """An error of ours as a response: its message and hint, never a trace; Retry-After where waiting helps."""
    return openai_error(
        error.status,
        told(error.message, error.hint),
        param=_of(error, PARAMS),
        code=_of(error, CODES),
        headers=[retry_after(error.retry_after)] if isinstance(error, Unavailable | EndpointNotReady) else (),
    )


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header that says after how many seconds to come again: whole ones, at least one."""
    return b"retry-after", b"%d" % max(1, math.ceil(seconds))


def unknown_model(name: str, names: Iterable[str]) -> UnknownModel:
    """A model that is not there, with the nearest one that is."""
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    return UnknownModel(f"the model {shown!r} does not exist", hint=did_you_mean(shown, names))


def malformed(problems: Iterable[tuple[Sequence[str | int], str]]) -> Reply:
    """Fields that are wrong, as pairs of their place and the problem; the first place is the ``param``."""
    places = [(".".join(map(str, place)), problem) for place, problem in problems]
    message = "; ".join(f"{place}: {problem}" for place, problem in places)
    param = places[0][0] if places else None
    return failure_of_usage(f"the request is malformed: {message}", param)


def failure_of_usage(message: str, param: str | None) -> Reply:
    """A request that is wrong in a field."""
    return openai_error(UsageError.status, message, param=param)


def told(message: str, hint: str | None) -> str:
    """A message and its mend in one line."""
    return f"{message}; {hint}" if hint else message


def _of(error: BenchAIError, table: tuple[tuple[type[BenchAIError], str], ...]) -> str | None:
    return next((name for kind, name in table if isinstance(error, kind)), None)
