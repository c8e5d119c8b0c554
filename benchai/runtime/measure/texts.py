"""Texts sent to an engine that makes vectors or scores, and the time it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from benchai.errors import EndpointError, EndpointLost
from benchai.runtime.http import local_client
from benchai.runtime.measure.request import message_of

IDLE_SECONDS = 300.0


@dataclass(frozen=True)
class Answered:
    """One request of one text: the seconds until it was answered, and the text's tokens as the engine counts them."""

    seconds: float
    tokens: int


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The words of a prompt."""
    return "\n".join(_words(message.get("content")) for message in messages)


def _words(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return "" if content is None else str(content)


async def ask_texts(root: str, kind: Literal["embedding", "rerank"], texts: Sequence[str]) -> list[Answered]:
    """Send one request for each text, all at the same moment.

    Args:
        root: The engine's address without ``/v1``.
        kind: Whether vectors are asked for, or the score of a text against itself.
        texts: One a request.

    Raises:
        EndpointLost: the engine broke off or hung.
        EndpointError: it refused a request.
    """
    try:
        async with local_client(timeout=httpx.Timeout(IDLE_SECONDS)) as client:
            return list(await asyncio.gather(*(_ask(client, root, kind, text) for text in texts)))
    except httpx.HTTPError as error:
        raise EndpointLost(f"the engine at {root} broke off: {error!r}", hint="see its log") from error


async def _ask(client: httpx.AsyncClient, root: str, kind: str, text: str) -> Answered:
    began = time.perf_counter()
    if kind == "embedding":
        response = await client.post(f"{root}/v1/embeddings", json={"input": text})
    else:
        response = await client.post(f"{root}/v1/rerank", json={"query": text, "documents": [text]})
    seconds = time.perf_counter() - began
    if response.status_code != httpx.codes.OK:
        raise EndpointError(
            f"the engine refused the text: {message_of(response.content)}", hint="are the texts too long for it?"
        )
    usage = response.json().get("usage", {})
    return Answered(seconds, int(usage.get("prompt_tokens", 0)))
