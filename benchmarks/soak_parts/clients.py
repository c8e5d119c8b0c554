"""The clients of the soak: raw HTTP, so that each byte of an answer is judged, and each leaves when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATH = "/v1/chat/completions"
#: Statuses that an overloaded or interrupted fleet may answer with.
PROPER = {429, 502, 503}
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluate an arithmetic expression exactly.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
#: Kinds of requests, and how often each is drawn.
KINDS = {"stream": 6, "whole": 6, "tools": 3, "cached": 4, "workflow": 1}
LEAVES = 0.2


@dataclass(frozen=True)
class Ask:
    """A request: its id, its kind, its body, and after how many pieces of the answer the client leaves (None: stays).

    A client that leaves after 0 pieces does so once its request is out.
    """

    id: str
    kind: str
    body: Mapping[str, Any]
    leaves: int | None = None


def draw(number: int, models: list[str], chance: random.Random) -> Ask:
    """A request of a random kind to a random model."""
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    first, second = chance.randrange(10, 10_000), chance.randrange(2, 1000)
    if kind == "cached":
        first, second = 12, chance.randrange(2, 6)
    text = f"What is {first} * {second}?"
    body: dict[str, Any] = {"model": chance.choice(models), "messages": [{"role": "user", "content": text}]}
    body |= {"temperature": 0, "max_tokens": 64}
    if kind == "workflow":
        body["model"] = "workflow:react"
    if kind == "tools":
        body["tools"] = [CALCULATOR]
    if kind == "stream" and chance.random() < 0.5:
        # long enough for a kill to come in the middle
        body |= {"max_tokens": 300, "ignore_eos": True}
    if kind == "stream" or (kind != "whole" and chance.random() < 0.5):
        body["stream"] = True
    leaves = chance.randrange(4) if chance.random() < LEAVES else None
    return Ask(f"soak-{number}", kind, body, leaves)


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    ``end`` is ok, error (a proper one), left (the client went), or WRONG with the reason; ``status`` is that of HTTP.
    """

    ask: Ask
    end: str
    status: int = 0
    cache: str = ""
    seconds: float = 0.0


async def send(host: str, port: int, ask: Ask, limit: float) -> Outcome:
    """Send a request on a connection of its own and judge its answer; wrong after ``limit`` seconds without its end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(limit):
            raw = await _exchange(host, port, ask)
    except TimeoutError:
        return Outcome(ask, f"WRONG: no end after {limit:g} s", seconds=loop.time() - began)
    except OSError as error:
        return Outcome(ask, f"WRONG: {type(error).__name__}: {error}", seconds=loop.time() - began)
    if raw is None:
        return Outcome(ask, "left", seconds=loop.time() - began)
    status, headers, body = taken_apart(raw)
    cache = headers.get("x-benchai-cache", "")
    return Outcome(ask, judged(ask, status, headers, body), status, cache, loop.time() - began)


async def _exchange(host: str, port: int, ask: Ask) -> bytes | None:
    """All bytes of the answer; None where the client left."""
    body = json.dumps(ask.body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    head += f"X-Request-Id: {ask.id}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        parts: list[bytes] = []
        while ask.leaves is None or len(parts) < ask.leaves:
            piece = await reader.read(65_536)
            if not piece:
                return b"".join(parts)
            parts.append(piece)
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def taken_apart(raw: bytes) -> tuple[int, dict[str, str], bytes | None]:
    """Status, headers and body of an answer; the body is None where it is not whole, or more than that."""
    head, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        return 0, {}, None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    status = int(first.split(" ")[1])
    if headers.get("transfer-encoding") == "chunked":
        return status, headers, dechunked(rest)
    whole = len(rest) == int(headers.get("content-length", -1))
    return status, headers, rest if whole else None


def dechunked(data: bytes) -> bytes | None:
    """The body in chunks; None where it does not end as it should."""
    parts = []
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found:
            return None
        length = int(size, 16)
        if length == 0:
            return b"".join(parts) if data == b"\r\n" else None
        if data[length : length + 2] != b"\r\n":
            return None
        parts.append(data[:length])
        data = data[length + 2 :]


def judged(ask: Ask, status: int, headers: Mapping[str, str], body: bytes | None) -> str:
    """Whether an answer is one: ok, error, or WRONG with the reason."""
    if body is None:
        return f"WRONG: the answer with status {status} broke off"
    if status == 200 and ask.body.get("stream"):
        return _judged_stream(body)
    try:
        data = json.loads(body)
    except ValueError:
        return f"WRONG: no JSON with status {status}: {body[:200]!r}"
    if status == 200:
        ends = [choice.get("finish_reason") for choice in data.get("choices", ())]
        return "ok" if len(ends) == 1 and ends[0] else f"WRONG: no whole reply: {body[:200]!r}"
    return _judged_error(status, data)


def _judged_error(status: int, data: Any) -> str:
    error = data.get("error") if isinstance(data, dict) else None
    shaped = isinstance(error, dict) and error.get("message") and error.get("type")
    return "error" if shaped and status in PROPER else f"WRONG: status {status}: {str(data)[:200]}"


def _judged_stream(body: bytes) -> str:
    """Events to the end mark, or to an error."""
    lines = [line[6:] for line in body.decode(errors="replace").split("\n") if line.startswith("data: ")]
    if not lines or lines.count("[DONE]") > 1:
        return f"WRONG: a stream with {lines.count('[DONE]')} ends: {body[-200:]!r}"
    try:
        events = [json.loads(line) for line in lines if line != "[DONE]"]
    except ValueError:
        return f"WRONG: an event that is no JSON: {body[-200:]!r}"
    errors = [event["error"] for event in events if "error" in event]
    if errors:
        last = len(errors) == 1 and "error" in events[-1] and lines[-1] != "[DONE]"
        proper = isinstance(errors[0], dict) and errors[0].get("message") and errors[0].get("type")
        return "error" if last and proper else f"WRONG: an error that does not end the stream: {body[-300:]!r}"
    ends = [choice for event in events for choice in event.get("choices", ()) if choice.get("finish_reason")]
    whole = lines[-1] == "[DONE]" and len(ends) == 1
    return "ok" if whole else f"WRONG: {len(ends)} ends of a reply, and the stream ends with {body[-200:]!r}"
