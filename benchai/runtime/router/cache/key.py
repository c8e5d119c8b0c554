"""Which requests may be answered from the cache, and the key of their reply."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from json import dumps
from typing import Any

import orjson

from benchai.runtime.router.cache.identity import Identity

NO_CACHE = "X-BenchAI-No-Cache"
#: Fields that change how a reply is sent, or nothing at all; ``model`` is told by the identity.
INDIFFERENT = frozenset({"stream", "stream_options", "user", "metadata", "model"})
#: Our own field of the body; of it, only this says nothing about the reply.
OURS, ASKS = "benchai", "cache"

# settings of llama.cpp that keep chance in at temperature 0
_CHANCE = ("samplers", "sampler_seq", "dynatemp_range", "xtc_probability", "mirostat")
# -1 and its unsigned form ask the engine for a random seed
_RANDOM_SEED = 2**32 - 1
_OFF = ("", "0", "false", "no")
_PARTS = ("text", "input_text", "input_audio")


def cacheable(body: Mapping[str, Any], defaults: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """Why the reply to a request may be kept and given again, or None if it may not.

    The reason is "temperature 0", "fixed seed" or "asked for" (``benchai: {cache: true}``). Never is what has
    several replies, what a header or ``cache: false`` excludes, and what refers to something outside of the
    request that may change: addresses of pictures, uploaded files, tools that the server runs itself.

    Args:
        body: The request as it came; any JSON object.
        defaults: Sampling settings of the model that hold where the request has none.
        headers: Those of the request, names in any one of the usual spellings.
    """
    ours = body.get(OURS)
    asked = ours.get(ASKS) if isinstance(ours, dict) else None
    single = body.get("n") is None or (type(body["n"]) is int and body["n"] == 1)
    if asked is False or not single or _excluded(headers) or _refers_out(body):
        return None
    if asked is True:
        return "asked for"
    return _repeatable(body, defaults)


def _repeatable(body: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
    def value(name: str) -> Any:
        found = body.get(name)
        return defaults.get(name) if found is None else found

    temperature, seed = value("temperature"), value("seed")
    if type(temperature) in (int, float) and temperature == 0 and not any(value(name) for name in _CHANCE):
        return "temperature 0"
    return "fixed seed" if type(seed) is int and 0 <= seed < _RANDOM_SEED else None


def _excluded(headers: Mapping[str, str]) -> bool:
    value = headers.get(NO_CACHE) or headers.get(NO_CACHE.lower()) or ""
    return value.strip().lower() not in _OFF


def _refers_out(body: Mapping[str, Any]) -> bool:
    if body.get("web_search_options") is not None:
        return True
    tools = body.get("tools")
    if isinstance(tools, list) and any(not isinstance(one, dict) or one.get("type") != "function" for one in tools):
        return True
    messages = body.get("messages")
    return isinstance(messages, list) and any(map(_message_refers_out, messages))


def _message_refers_out(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and not all(map(_holds_all, content))


def _holds_all(part: Any) -> bool:
    """Whether a part of a message holds what it is about."""
    if not isinstance(part, dict):
        return False
    if part.get("type") != "image_url":
        return part.get("type") in _PARTS
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return isinstance(url, str) and url.startswith("data:")


def canonical(body: Mapping[str, Any]) -> bytes | None:
    """The JSON of a request without the fields that do not matter; None where it has no exact JSON (NaN, depth).

    The fields stand in the order of their names. Below, everything keeps its order: in a tool's schema it changes the
    prompt and the engine's grammar.
    """
    kept = {name: body[name] for name in sorted(body.keys() - INDIFFERENT)}
    ours = kept.pop(OURS, None)
    ours = {name: value for name, value in ours.items() if name != ASKS} if isinstance(ours, dict) else ours
    if ours:
        kept[OURS] = ours
    try:
        text = orjson.dumps(kept)
        # orjson writes NaN and infinity as null
        return None if b"null" in text and _has_odd_number(kept) else text
    except (TypeError, ValueError):
        return _canonical_slowly(kept)


def _canonical_slowly(kept: Mapping[str, Any]) -> bytes | None:
    """The same for whole numbers above 64 bits, and for halves of surrogate pairs."""
    try:
        return dumps(kept, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def _has_odd_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_odd_number, value.values()))
    return isinstance(value, list) and any(map(_has_odd_number, value))


def key_of(identity: Identity, body: Mapping[str, Any]) -> bytes | None:
    """The key of the reply of a model to a request, 32 bytes (SHA-256); None where the request has none."""
    text = canonical(body)
    return None if text is None else hashlib.sha256(identity.digest() + text).digest()


def flight_key(key: bytes, body: Mapping[str, Any]) -> bytes:
    """The key of the bytes that answer a request: replies of one key are sent in several forms."""
    if not body.get("stream"):
        return key
    return key + b"stream" + dumps(body.get("stream_options")).encode()
