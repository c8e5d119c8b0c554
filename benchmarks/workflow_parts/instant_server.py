"""A server on the OpenAI wire that answers at once, as a program of its own: its time is not the framework's.

It prints its port. The task says how many steps a run has ("go 5 steps"): that many replies, all but the last a call
of the calculator. Uses the standard library alone, and reads no more of a request than it must.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

STEPS = re.compile(rb"go (\d+) steps")
REPLIES = re.compile(rb'"role":\s*"assistant"')
STREAM = re.compile(rb'"stream":\s*true')
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
PROPS = {"default_generation_settings": {"n_ctx": 1_000_000}, "total_slots": 16, "model_path": "instant"}


def tool_call(number: int, name: str, arguments: dict[str, str]) -> dict[str, Any]:
    """A call as the wire has it."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call_{number}", "type": "function", "function": function}


def reply_to(body: bytes) -> dict[str, Any]:
    """The message that answers a request."""
    found = STEPS.search(body)
    steps, done = int(found[1]) if found else 1, len(REPLIES.findall(body))
    if done < steps - 1:
        call = tool_call(done, "calculator", {"expression": f"{done}+1"})
        return {"role": "assistant", "content": "I calculate.", "tool_calls": [call]}
    words = f"done after {done + 1}"
    if b'"final_answer"' in body:
        return {"role": "assistant", "content": "", "tool_calls": [tool_call(done, "final_answer", {"answer": words})]}
    return {"role": "assistant", "content": words}


def whole(message: dict[str, Any]) -> bytes:
    """The reply as one JSON body."""
    finish = "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()


def streamed(message: dict[str, Any]) -> bytes:
    """The reply as a stream of events."""
    calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls", []))]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": message["content"]}]
    deltas += [{"tool_calls": calls}] if calls else []
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}])
    lines = [{**head, "choices": choice} for choice in choices] + [{**head, "choices": [], "usage": USAGE}]
    return "".join(f"data: {json.dumps(line)}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"


def answer(head: bytes, body: bytes) -> bytes:
    """The response to a request."""
    path = head.split(b" ", 2)[1]
    kind = "application/json"
    if path.endswith(b"/chat/completions"):
        stream = STREAM.search(body) is not None
        data = (streamed if stream else whole)(reply_to(body))
        kind = "text/event-stream" if stream else kind
    elif path == b"/tokenize":
        data = json.dumps({"tokens": [0] * (len(body) // 4)}).encode()
    elif path == b"/apply-template":
        data = json.dumps({"prompt": body.decode()}).encode()
    else:
        data = json.dumps(PROPS if path == b"/props" else {"status": "ok"}).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer all requests of a connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            writer.write(answer(head, await reader.readexactly(int(length[1])) if length else b""))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
