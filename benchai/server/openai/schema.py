"""The bodies of the wire's requests: the fields that we read, checked; all others pass on to the engine as they are."""

from __future__ import annotations

from typing import Annotated, Any, Required

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from benchai.errors import UsageError

LONGEST = 60
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=-1, le=2**31 - 1)]
_OPEN = ConfigDict(extra="allow", strict=True)


@with_config(_OPEN)
class Message(TypedDict, total=False):
    """One message of a conversation."""

    role: Required[str]
    content: str | list[dict[str, Any]] | None
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None


@with_config(_OPEN)
class Ours(TypedDict, total=False):
    """Our own field, ``benchai``.

    ``cache``: whether the reply may come from the cache and go into it.
    ``approve_plan``: whether a workflow asks before it works by its plan.
    """

    cache: bool
    approve_plan: bool


@with_config(_OPEN)
class Request(TypedDict, total=False):
    """What all requests may have; ``model`` is ``auto``, a role, a model, or ``workflow:NAME``."""

    model: str | None
    user: str | None
    benchai: Ours | None


@with_config(_OPEN)
class Generation(Request, total=False):
    """What all requests may have that make text."""

    stream: bool | None
    temperature: Number | None
    top_p: Number | None
    seed: int | None
    max_tokens: Count | None


@with_config(_OPEN)
class ChatRequest(Generation, total=False):
    """POST /v1/chat/completions."""

    messages: Required[Annotated[list[Message], Field(min_length=1)]]
    tools: list[dict[str, Any]] | None
    n: Annotated[int, Field(ge=1, le=128)] | None
    max_completion_tokens: Count | None
    stream_options: dict[str, Any] | None


@with_config(_OPEN)
class CompletionRequest(Generation, total=False):
    """POST /v1/completions."""

    prompt: Required[str | list[Any]]
    n: Annotated[int, Field(ge=1, le=128)] | None


@with_config(_OPEN)
class ResponseRequest(Generation, total=False):
    """POST /v1/responses."""

    input: Required[str | list[dict[str, Any]]]
    max_output_tokens: Count | None


@with_config(_OPEN)
class EmbeddingRequest(Request, total=False):
    """POST /v1/embeddings."""

    input: Required[str | list[Any]]


@with_config(_OPEN)
class RerankRequest(Request, total=False):
    """POST /v1/rerank."""

    query: Required[str]
    documents: Required[list[str]]


@with_config(_OPEN)
class TokenizeRequest(Request, total=False):
    """POST /tokenize."""

    content: Required[str]


#: Path of an engine, below its /v1 -> the body that it takes.
BODIES: dict[str, TypeAdapter[Any]] = {
    "/chat/completions": TypeAdapter(ChatRequest),
    "/completions": TypeAdapter(CompletionRequest),
    "/responses": TypeAdapter(ResponseRequest),
    "/embeddings": TypeAdapter(EmbeddingRequest),
    "/rerank": TypeAdapter(RerankRequest),
    "/tokenize": TypeAdapter(TokenizeRequest),
}


def check(data: dict[str, Any], path: str) -> None:
    """Check the fields that we read.

    Raises:
        UsageError: one is missing or wrong; it names the place and the value.
    """
    try:
        BODIES[path].validate_python(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise UsageError("; ".join(dict.fromkeys(map(_told, found[:3])))) from None


def _told(problem: Any) -> str:
    # of a union the place names each member that was tried
    place = [str(part) for part in problem["loc"] if part != "str" and not str(part).startswith("list[")]
    name = ".".join(place) or "the body"
    if problem["type"] == "missing":
        return f"the field {name!r} is missing"
    value = repr(problem["input"])
    return f"{name!r}: {problem['msg']}, it is {value if len(value) <= LONGEST else f'{value[:LONGEST]}...'}"
