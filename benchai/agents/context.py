"""Keeping a conversation within a model's context.

What is shortened, in this order: results of old tool calls are cleared, old turns are summarised, whole pairs of call
and result are dropped, and at last what is left of the results is clamped. What was shortened once stays so, and only
whole steps are taken (down to a share of the context): between them the beginning of the prompt stays the same, and
with it the engine's cache of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import httpx
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_openai_messages,
)

from benchai.agents.messages import is_question, last_question, text_of
from benchai.agents.role import Request
from benchai.errors import BenchAIError, ContextExceeded
from benchai.events import Compacted, Emit
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.http import local_client

# of the tokens that a prompt may have: above the first it is counted, down to the second it is shortened
COUNT_ABOVE = 0.7
DOWN_TO = 0.55
# a reply gets this share of the context kept free, at most
REPLY_SHARE = 4
KEPT_RESULTS = 2
CHARS_PER_TOKEN = 3.0
IMAGE_CHARS = 3_000
CLAMPED_SHARE = 8
COUNT_SECONDS = 10.0
Summarise = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class Compaction:
    """What of a conversation is shortened; positions count its messages without the system prompt.

    Attributes:
        upto: The messages before this one are replaced by ``summary``.
        summary: What was said in them.
        cleared: Results of tools before this message are cleared.
        dropped: Pairs of call and result before this message are left out.
        clamp: Characters of each result at most, 0 for no limit.
    """

    upto: int = 0
    summary: str = ""
    cleared: int = 0
    dropped: int = 0
    clamp: int = 0


class Context:
    """The window of one conversation; ``state`` is what has been shortened so far."""

    def __init__(self, emit: Emit, state: Compaction | None = None, summarise: Summarise | None = None) -> None:
        self.state = state or Compaction()
        self._emit = emit
        self._summarise = summarise
        self._chars_per_token = CHARS_PER_TOKEN
        self._tight = False

    async def view(self, request: Request, endpoint: Endpoint) -> Sequence[AnyMessage]:
        """The messages as they go out.

        Raises:
            ContextExceeded: they leave no room for a reply.
        """
        messages = compacted(request.messages, self.state)
        if endpoint.n_ctx is None or self._tight:
            return messages
        room = room_of(endpoint.n_ctx, request.limit(endpoint))
        if self._tokens(messages, request) > COUNT_ABOVE * room:
            needed = await count_tokens(endpoint, messages, request)
            if needed is not None and needed > room:
                raise ContextExceeded(
                    f"the prompt is too long for the model {endpoint.model!r}: {needed} tokens, "
                    f"the context has {endpoint.n_ctx}",
                    n_prompt_tokens=needed,
                    n_ctx=endpoint.n_ctx,
                    hint=f"raise models.{endpoint.model}.context, or shorten the task",
                )
        return messages

    async def shrink(self, request: Request, error: ContextExceeded) -> bool:
        """Shorten until the prompt should fit; False when nothing is left that could be shortened."""
        before = self._tokens(compacted(request.messages, self.state), request)
        if error.n_prompt_tokens:
            self._chars_per_token *= before / error.n_prompt_tokens
            before = error.n_prompt_tokens
        target = DOWN_TO * room_of(error.n_ctx, request.max_tokens or 0) if error.n_ctx else before / 2
        old, after = self.state, before
        for step in (self._clear, self._sum_up, self._drop, self._clamp):
            if after <= target:
                break
            await step(request.messages, target * self._chars_per_token)
            after = self._tokens(compacted(request.messages, self.state), request)
        if self.state == old:
            # it may still fit without the room for a long reply
            once_more, self._tight = not self._tight and before < (error.n_ctx or 0), True
            return once_more
        self._emit(Compacted(done=_done(old, self.state), before=before, after=after))
        return True

    def _tokens(self, messages: Sequence[AnyMessage], request: Request) -> int:
        tools = sum(len(str(tool)) for tool in request.tools)
        return int((tools + sum(map(_chars, messages))) / self._chars_per_token)

    async def _clear(self, messages: Sequence[AnyMessage], _: float) -> None:
        results = [place for place, message in enumerate(_body(messages)) if isinstance(message, ToolMessage)]
        if len(results) > KEPT_RESULTS:
            self.state = replace(self.state, cleared=max(self.state.cleared, results[-KEPT_RESULTS]))

    async def _sum_up(self, messages: Sequence[AnyMessage], room: float) -> None:
        body = _body(messages)
        asked = last_question(body)
        if asked <= self.state.upto:
            return
        old = compacted(body[:asked], self.state)
        text = "\n".join(f"{message.type}: {text_of(message)}" for message in old)
        summary = ""
        if self._summarise is not None:
            try:
                summary = await self._summarise(text[-int(room) :])
            except BenchAIError:
                summary = ""
        self.state = replace(self.state, upto=asked, summary=summary or "(left out)")

    async def _drop(self, messages: Sequence[AnyMessage], _: float) -> None:
        body = _body(messages)
        calls = [place for place, message in enumerate(body) if isinstance(message, AIMessage) and message.tool_calls]
        if len(calls) > 1:
            self.state = replace(self.state, dropped=max(self.state.dropped, calls[-1]))

    async def _clamp(self, messages: Sequence[AnyMessage], room: float) -> None:
        limit = max(int(room / CLAMPED_SHARE), 200)
        if self.state.clamp == 0 or limit < self.state.clamp:
            results = [message for message in messages if isinstance(message, ToolMessage)]
            if any(_chars(message) > limit for message in results):
                self.state = replace(self.state, clamp=limit)


def room_of(n_ctx: int, limit: int) -> int:
    """Tokens that a prompt may have, when a reply of ``limit`` tokens should fit behind it."""
    return n_ctx - min(limit or n_ctx, n_ctx // REPLY_SHARE)


def compacted(messages: Sequence[AnyMessage], state: Compaction) -> list[AnyMessage]:
    """The conversation as a model sees it."""
    system = [message for message in messages[:1] if isinstance(message, SystemMessage)]
    body = _body(messages)
    asked = last_question(body)
    seen: list[AnyMessage] = list(system)
    if state.upto:
        seen.append(HumanMessage(f"What was said before, in short:\n{state.summary}"))
        seen.append(AIMessage("I see."))
    for place in range(state.upto, len(body)):
        message = body[place]
        if asked < place < state.dropped or (place < min(asked, state.dropped) and not is_question(message)):
            continue
        seen.append(_shortened(message, place, state))
    return seen


def _shortened(message: AnyMessage, place: int, state: Compaction) -> AnyMessage:
    if not isinstance(message, ToolMessage):
        return message
    text = str(message.text)
    if place < state.cleared and len(text) > 120:
        return message.model_copy(update={"content": f"(cleared: {len(text)} characters; call again if you need them)"})
    if state.clamp and len(text) > state.clamp:
        head, tail = text[: state.clamp * 3 // 4], text[-state.clamp // 4 :]
        return message.model_copy(update={"content": f"{head}\n(... {len(text)} characters in all ...)\n{tail}"})
    return message


def _body(messages: Sequence[AnyMessage]) -> Sequence[AnyMessage]:
    return messages[1:] if messages and isinstance(messages[0], SystemMessage) else messages


def _chars(message: AnyMessage) -> int:
    content = message.content
    if isinstance(content, str):
        length = len(content)
    else:
        length = sum(
            len(str(part.get("text", ""))) if isinstance(part, dict) and "text" in part else IMAGE_CHARS
            for part in content
        )
    return length + sum(len(str(call["args"])) + 40 for call in getattr(message, "tool_calls", ())) + 20


def _done(old: Compaction, new: Compaction) -> str:
    names = {"cleared": "cleared old results", "upto": "summarised old turns", "dropped": "dropped old calls",
             "clamp": "clamped results"}  # fmt: skip
    return ", ".join(words for key, words in names.items() if getattr(old, key) != getattr(new, key))


async def count_tokens(endpoint: Endpoint, messages: Sequence[AnyMessage], request: Request) -> int | None:
    """Tokens of the whole prompt as its engine counts them, template and tools included; None where it can't tell."""
    if endpoint.placement == "remote":
        return None
    root = endpoint.base_url.removesuffix("/v1")
    body = {"messages": convert_to_openai_messages(list(messages)), "tools": list(request.tools)}
    try:
        async with local_client(timeout=COUNT_SECONDS) as client:
            rendered = await client.post(f"{root}/apply-template", json=body)
            prompt = rendered.raise_for_status().json()["prompt"]
            counted = await client.post(f"{root}/tokenize", json={"content": prompt, "parse_special": True})
            return len(counted.raise_for_status().json()["tokens"])
    except (httpx.HTTPError, KeyError, ValueError):
        return None
