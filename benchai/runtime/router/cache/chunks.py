"""A whole reply in the form of OpenAI's stream: what a hit sends to a client that asked for one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"
#: How a reply ends that was not cut.
ENDINGS = ("stop", "tool_calls")
DONE = b"data: [DONE]\n\n"
#: Characters of one piece: clients read lines, some of them with a limit of 64 KiB.
PIECE = 4096

#: What every chunk repeats.
COMMON = ("id", "created", "model", "system_fingerprint")
#: Fields of a message that come in pieces.
TEXTS = ("reasoning_content", "content")
_CHOICE = ("index", "message", "finish_reason", "logprobs")


def fresh(reply: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    """A kept reply as one of this moment: an id and a time of its own, and further fields in ``extra``."""
    return {**reply, "id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), **extra}


def as_chunks(reply: Mapping[str, Any], *, include_usage: bool = False) -> Iterator[bytes]:
    """The chunks of a whole reply (``chat.completion``), the end mark included.

    Text and arguments of tool calls come in pieces of at most ``PIECE`` characters; fields that only some servers know
    come with the last chunk of the choice.

    Args:
        reply: The reply, with one choice.
        include_usage: Whether a last chunk tells the usage, as ``stream_options`` asks for.
    """
    common = {name: reply[name] for name in COMMON if name in reply} | {"object": CHUNK}
    [choice] = reply["choices"]
    logprobs = choice.get("logprobs")
    for number, delta in enumerate(_deltas(choice["message"])):
        part = {"index": 0, "delta": delta, "finish_reason": None}
        if number == 0 and "logprobs" in choice:
            part["logprobs"] = logprobs
        yield _event(common | {"choices": [part]})
    yield _event(common | _others(reply) | {"choices": [_last(choice)]})
    if include_usage and reply.get("usage") is not None:
        yield _event(common | {"choices": [], "usage": reply["usage"]})
    yield DONE


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _others(reply: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if name not in (*COMMON, "object", "choices", "usage")}


def _last(choice: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in choice.items() if name not in _CHOICE}
    return others | {"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason")}


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The first delta names all fields, empty where pieces follow."""
    first = {name: value for name, value in message.items() if name != "tool_calls"}
    texts = {name: first[name] for name in TEXTS if isinstance(first.get(name), str)}
    yield first | dict.fromkeys(texts, "")
    for name, text in texts.items():
        yield from ({name: piece} for piece in _pieces(text))
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield from ({"tool_calls": [part]} for part in _call_parts(index, call))


def _call_parts(index: int, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        yield {**call, "index": index}
        return
    yield {**call, "index": index, "function": {**function, "arguments": ""}}
    for piece in _pieces(arguments):
        yield {"index": index, "function": {"arguments": piece}}


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))
