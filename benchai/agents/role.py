"""Role-typed callers: a role's name in, a streamed reply of the model that serves it out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from langchain_core.messages import AIMessage, AnyMessage

from benchai.agents import faults
from benchai.agents.attempts import Attempts
from benchai.agents.images import has_image
from benchai.agents.messages import BLANKS, blanks_around, normalise_reply, with_own_ids
from benchai.agents.model import Gathered, Models, imported
from benchai.errors import (
    BenchAIError,
    ContextExceeded,
    EmptyReply,
    EndpointLost,
    EndpointNotReady,
    ReplyBroken,
    Unavailable,
    UnreadableCall,
)
from benchai.events import Delta, Emit, Notice
from benchai.runtime.endpoints import Endpoint, Endpoints

# a reply that was lost is asked for again so often; a second time-out in a row ends the call
RETRIES = 3
# a run rather waits so many seconds for a model that restarts than fails
PATIENCE = 10.0
LONGEST_PAUSE = 5.0
#: Where a reply's metadata name the model of benchai.yaml that gave it, its context in tokens, the seconds it took,
#: and those to its first piece.
MODEL = "benchai_model"
N_CTX = "benchai_n_ctx"
SECONDS = "benchai_seconds"
FIRST = "benchai_first"


class Window(Protocol):
    """Makes a conversation fit a model's context; see ``agents.context``."""

    async def view(self, request: Request, endpoint: Endpoint) -> Sequence[AnyMessage]:
        """The messages as they go out."""
        ...

    async def shrink(self, request: Request, error: ContextExceeded) -> bool:
        """Shorten what ``view`` gives after the server found it too long; False when nothing is left to shorten."""
        ...


@dataclass(frozen=True)
class Request:
    """One request to the model of a role.

    Attributes:
        messages: The conversation, the system prompt first.
        tools: OpenAI function schemas that the model may call.
        max_tokens: Tokens of the reply at most, below the endpoint's own limit.
        schema: JSON schema that the reply must follow, or None; the engine makes a grammar of it.
        tool_choice: "none" forbids calls though the tools stay in the prompt.
        patience: Seconds that may be spent on waiting until an endpoint is ready.
        exceed: Whether ``max_tokens`` may go beyond the endpoint's own limit.
        window: Shortens a conversation that is too long; None: it is an error.
        mendable: Errors of this call that its caller can mend: by asking in another way, or by going on without it.
        attempts: Hears of the attempts to make the call.
    """

    messages: Sequence[AnyMessage]
    tools: Sequence[dict[str, Any]] = ()
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    tool_choice: Literal["none"] | None = None
    patience: float = PATIENCE
    exceed: bool = False
    window: Window | None = None
    mendable: tuple[type[Exception], ...] = (EmptyReply, UnreadableCall)
    attempts: Attempts = field(default_factory=Attempts)

    def limit(self, endpoint: Endpoint) -> int:
        """Tokens of the reply at most."""
        wanted = self.max_tokens or endpoint.max_tokens
        return wanted if self.exceed else min(wanted, endpoint.max_tokens)

    def settings(self) -> dict[str, Any]:
        """What goes into the request's body beside messages, tools and limits."""
        settings: dict[str, Any] = {"tools": list(self.tools)} if self.tools else {}
        if self.tools and self.tool_choice:
            settings["tool_choice"] = self.tool_choice
        if self.schema is not None:
            form = {"name": "reply", "strict": True, "schema": self.schema}
            settings["response_format"] = {"type": "json_schema", "json_schema": form}
        return settings


class Agents:
    """Callers by role: ``agents.role("code")`` never knows ports."""

    def __init__(self, endpoints: Endpoints, emit: Emit, models: Models | None = None) -> None:
        """Take ``models`` whose connections outlive a call; without, each call makes its own."""
        self._endpoints = endpoints
        self._emit = emit
        self._models = models

    def role(self, name: str) -> RoleAgent:
        """The caller of a role."""
        return RoleAgent(name, self._endpoints, self._emit, self._models)


class RoleAgent:
    """Calls the model of one role; each call holds a lease for as long as it streams."""

    def __init__(self, name: str, endpoints: Endpoints, emit: Emit, models: Models | None = None) -> None:
        self.name = name
        self._endpoints = endpoints
        self._emit = emit
        self._models = models

    async def call(
        self, messages: Sequence[AnyMessage], tools: Sequence[dict[str, Any]] = (), max_tokens: int | None = None
    ) -> AIMessage:
        """One reply to a conversation; see ``answer``."""
        return await self.answer(Request(messages, tools, max_tokens))

    async def answer(self, request: Request) -> AIMessage:
        """One reply to a request; what an endpoint that starts, restarts or breaks off can mend is tried again.

        Raises:
            UsageError: the conversation holds an image, the model reads text alone.
            ContextExceeded: the conversation is longer than the model's context and can't be shortened.
            EmptyReply, UnreadableCall: the model, or its server, gave nothing that can be used.
            EndpointError: the endpoint refused or broke off the call.
        """
        tries = _Tries(self._emit, request.patience)
        while True:
            try:
                return await self._attempt(request)
            except ContextExceeded as long:
                if request.window is None or not await request.window.shrink(request, long):
                    raise
            except (EndpointLost, ReplyBroken, Unavailable, EndpointNotReady) as fault:
                await tries.after(fault)

    async def _attempt(self, request: Request) -> AIMessage:
        request.attempts.begin()
        try:
            return await self._asked(request)
        except BaseException as error:
            request.attempts.fail(error)
            raise

    async def _asked(self, request: Request) -> AIMessage:
        reply, importing = Gathered(), asyncio.ensure_future(imported())
        async with self._endpoints.lease(self.name) as endpoint:
            await importing
            if request.window is not None:
                request = replace(request, messages=await request.window.view(request, endpoint))
            if endpoint.vision is False and any(has_image(message) for message in request.messages):
                hint = f"give the role vision a model with mmproj, or set models.{endpoint.model}.mmproj"
                raise faults.no_vision(endpoint, hint)
            limit = request.limit(endpoint)
            whole = asyncio.timeout(endpoint.total_timeout)
            began = time.monotonic()
            request.attempts.send(endpoint.model)
            try:
                async with whole:
                    await self._stream(endpoint, request, limit, reply)
            except faults.CALL_ERRORS as error:
                if whole.expired():
                    raise faults.too_long(endpoint) from error
                if (silent := faults.is_timeout(error)) or faults.is_cut(error):
                    # before the lease is given back: the next one is for a model that has proven to work
                    endpoint.suspect(silent)
                raise faults.explain(error, endpoint, begun=reply.begun) from error
            whole_reply = self._whole(reply, endpoint, limit, time.monotonic() - began)
            whole_reply.response_metadata[FIRST] = reply.first - began
            return whole_reply

    async def _stream(self, endpoint: Endpoint, request: Request, limit: int, reply: Gathered) -> None:
        """Fill ``reply``; what has come is there when it breaks off."""
        async with nullcontext(self._models) if self._models is not None else Models() as models:
            # llama-server reads it as max_tokens
            settings = request.settings() | {"max_completion_tokens": limit}
            async with aclosing(models.stream(endpoint, request.messages, settings)) as chunks:
                async for chunk in chunks:
                    endpoint.progress()
                    if text := reply.add(chunk):
                        self._emit(Delta(role=self.name, text=text, id=reply.id))

    def _whole(self, gathered: Gathered, endpoint: Endpoint, limit: int, seconds: float) -> AIMessage:
        if not gathered.begun:
            raise faults.nothing(endpoint)
        whole = gathered.whole()
        reply = with_own_ids(normalise_reply(whole))
        reason = whole.response_metadata.get("finish_reason")
        if not reason:
            endpoint.suspect(False)
            raise faults.broken(ConnectionError("the stream ended in the middle of the reply"), endpoint)
        if not reply.content and not reply.tool_calls:
            raise faults.cut_before_answer(endpoint, limit) if reason == "length" else faults.nothing(endpoint)
        if reason == "length":
            self._emit(Notice(text=f"the reply of {endpoint.model!r} was cut at {limit} tokens (max_tokens)"))
        if reply.usage_metadata is None:
            self._emit(Notice(text=f"{endpoint.model!r} does not tell the tokens it used: they are not counted"))
        # a fallback may have answered
        reply.response_metadata |= {MODEL: endpoint.model, N_CTX: endpoint.n_ctx, SECONDS: seconds}
        if any(blanks := blanks_around(str(whole.text))):
            reply.response_metadata[BLANKS] = list(blanks)
        return reply


class _Tries:
    """How often, and for how long, a call is made again."""

    def __init__(self, emit: Emit, patience: float) -> None:
        self._emit = emit
        self._end = time.monotonic() + patience
        self._lost = 0
        self._pause = 0.25
        self._waiting = False

    async def after(self, fault: BenchAIError) -> None:
        """Return when the call may be made again; raises ``fault`` when it may not."""
        if isinstance(fault, EndpointLost | ReplyBroken):
            self._lost += 1
            if self._lost >= RETRIES:
                raise fault
            # a model of ours that was lost is leased again once it is known to work, or was started again
            self._emit(Notice(text=f"{fault.message}; calling again"))
            return
        assert isinstance(fault, Unavailable | EndpointNotReady)
        pause = self._length(fault)
        if (isinstance(fault, Unavailable) and fault.retry_after > PATIENCE) or time.monotonic() + pause > self._end:
            raise fault
        if not self._waiting:
            self._emit(Notice(text=f"{fault.message}; calling again when it is ready"))
        self._waiting = True
        await asyncio.sleep(pause)

    def _length(self, fault: Unavailable | EndpointNotReady) -> float:
        if isinstance(fault, Unavailable):
            return fault.retry_after
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return max(min(fault.retry_after, 60.0), self._pause)


Answer = Callable[[Request], Awaitable[AIMessage]]
