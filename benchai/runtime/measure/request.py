"""One request to an engine, and what the engine tells of the time it took.

The figures are those of llama.cpp's ``timings`` (server-task.cpp), but for the time to the first token, which is
measured here: it counts the way through HTTP and the wait for a slot, as a user meets them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchai.errors import EndpointError, EndpointLost
from benchai.runtime.http import local_client
from benchai.runtime.sse import events

SMALLER = "if it is too long: shorter prompts, a smaller --max-tokens or a larger models.*.context"


@dataclass(frozen=True)
class Sample:
    """What one request took; seconds and tokens.

    ``prompt_tokens`` were evaluated, ``cached_tokens`` taken from the KV cache. ``prompt_seconds`` and
    ``generation_seconds`` are the engine's own; ``seconds`` and ``first_token`` are seen from here. ``drafted``
    tokens were proposed in speculative decoding, ``accepted`` of them stood.
    """

    seconds: float
    first_token: float
    prompt_tokens: int
    cached_tokens: int
    prompt_seconds: float
    generated_tokens: int
    generation_seconds: float
    drafted: int = 0
    accepted: int = 0
    text: str = ""

    @property
    def prompt_rate(self) -> float:
        """Tokens of the prompt evaluated in a second; 0 where none was."""
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds > 0 else 0.0

    @property
    def generation_rate(self) -> float:
        """Tokens generated in a second; 0 where none was."""
        return self.generated_tokens / self.generation_seconds if self.generation_seconds > 0 else 0.0


async def ask(
    root: str, messages: Sequence[Mapping[str, Any]], max_tokens: int, *, idle_timeout: float = 300, **body: Any
) -> Sample:
    """Send a chat request at temperature 0 and take its reply as a stream.

    Args:
        root: The engine's address without ``/v1``.
        messages: OpenAI messages.
        max_tokens: Tokens of the reply at most.
        idle_timeout: Seconds without a piece after which the engine counts as hung.
        body: Further fields of the request (``cache_prompt``, ``id_slot``, ...).

    Raises:
        EndpointLost: the engine broke off or hung.
        EndpointError: it refused the request.
    """
    request = {"messages": list(messages), "max_tokens": max_tokens, "temperature": 0, "seed": 1, "stream": True} | body
    try:
        async with local_client(timeout=httpx.Timeout(idle_timeout)) as client:
            return await _streamed(client, f"{root}/v1/chat/completions", request)
    except httpx.HTTPError as error:
        raise EndpointLost(f"the engine at {root} broke off: {error!r}", hint="see its log") from error


async def ask_together(
    root: str, prompts: Sequence[Sequence[Mapping[str, Any]]], max_tokens: int, **body: Any
) -> list[Sample]:
    """Send one request for each prompt, all at the same moment. Raises what ``ask`` raises."""
    return list(await asyncio.gather(*(ask(root, one, max_tokens, **body) for one in prompts)))


async def _streamed(client: httpx.AsyncClient, url: str, request: Mapping[str, Any]) -> Sample:
    began, first = time.perf_counter(), None
    text: list[str] = []
    timings: Mapping[str, Any] = {}
    async with client.stream("POST", url, json=request) as response:
        if response.status_code != httpx.codes.OK:
            said = message_of(await response.aread())
            raise EndpointError(f"the engine refused the request: {said}", hint=SMALLER)
        async for event in events(response.aiter_bytes()):
            data = json.loads(event) if event.startswith(b"{") else {}
            if "error" in data:
                raise EndpointError(f"the engine gave up: {message_of(event)}", hint=SMALLER)
            piece = _piece(data)
            if piece and first is None:
                first = time.perf_counter() - began
            text.append(piece)
            timings = data.get("timings") or timings
    seconds = time.perf_counter() - began
    return _sample(timings, seconds, seconds if first is None else first, "".join(text))


def _piece(data: Mapping[str, Any]) -> str:
    delta = data["choices"][0].get("delta", {}) if data.get("choices") else {}
    return (delta.get("reasoning_content") or "") + (delta.get("content") or "") + _calls(delta)


def _calls(delta: Mapping[str, Any]) -> str:
    # without their ids, which differ each time: the texts of two replies are compared
    named = [call.get("function", {}) for call in delta.get("tool_calls") or ()]
    return "".join((one.get("name") or "") + (one.get("arguments") or "") for one in named)


def _sample(timings: Mapping[str, Any], seconds: float, first: float, text: str) -> Sample:
    if "predicted_n" not in timings:
        raise EndpointError("the engine tells no timings", hint="use a newer llama-server")
    return Sample(
        seconds=seconds,
        first_token=first,
        prompt_tokens=int(timings["prompt_n"]),
        cached_tokens=int(timings.get("cache_n", 0)),
        prompt_seconds=timings["prompt_ms"] / 1000,
        generated_tokens=int(timings["predicted_n"]),
        generation_seconds=timings["predicted_ms"] / 1000,
        drafted=int(timings.get("draft_n", 0)),
        accepted=int(timings.get("draft_n_accepted", 0)),
        text=text,
    )


def message_of(body: bytes) -> str:
    """What the engine's error says, or what came in its place."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:200])
