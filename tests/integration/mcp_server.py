"""MCP servers for the tests, as programs: `mcp_server.py MODE [FOLDER]`.

`stdio` and `http` are real ones, written with the mcp package; `http` writes its port to FOLDER/port. The other
modes are what goes wrong, on the bare wire. FOLDER is where they leave what the tests look at.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

MODE = sys.argv[1]
FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
NODE = {"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array"}}}
TREE = {**NODE, "properties": {"name": {"type": "string"}, "next": {"$ref": "#"}}, "required": ["name"]}
ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer", "description": "First\nnumber"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
EMPTY = {"type": "object"}
SCHEMAS = {
    "add": ADD,
    "fail": EMPTY,
    "refuse": EMPTY,
    "slow": EMPTY,
    "crash": EMPTY,
    "huge": {"type": "object", "properties": {"bytes": {"type": "integer"}}},
    "parts": EMPTY,
    "structured": EMPTY,
    "nothing": EMPTY,
    "tree": TREE,
    "meet": {"type": "object", "properties": {"who": {"type": "string"}}},
    "calculator": EMPTY,
}


def mark(name: str, text: str = "") -> None:
    """Leave a file for the test; whole, as soon as it is seen."""
    part = FOLDER / f"part-{name}"
    part.write_text(text, encoding="utf-8")
    part.rename(FOLDER / name)


def make_server() -> Any:
    import anyio
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.shared.exceptions import MCPError

    arrived = {"left": anyio.Event(), "right": anyio.Event()}

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        names = list(SCHEMAS)
        start = int(params.cursor) if params is not None and params.cursor else 0
        tools = [
            types.Tool(
                name=name,
                description=f"Does {name}. \x1b[31m" + "x" * 400,
                input_schema=SCHEMAS[name],
                annotations=types.ToolAnnotations(read_only_hint=True),
            )
            for name in names[start : start + 5]
        ]
        following = str(start + 5) if start + 5 < len(names) else None
        return types.ListToolsResult(tools=tools, next_cursor=following)

    def text(*words: str, is_error: bool = False) -> types.CallToolResult:
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=word) for word in words], is_error=is_error
        )

    async def slow() -> types.CallToolResult:
        mark("slow")
        try:
            await anyio.Event().wait()
        except anyio.get_cancelled_exc_class():
            mark("cancelled")
            raise
        raise AssertionError

    async def meet(who: str) -> types.CallToolResult:
        """Two calls, each of which waits for the other."""
        arrived[who].set()
        for event in arrived.values():
            await event.wait()
        return text(f"{who} met")

    def parts() -> types.CallToolResult:
        return types.CallToolResult(
            content=[
                types.TextContent(type="text", text="seen"),
                types.ImageContent(type="image", data="AAAA" * 100, mime_type="image/png"),
                types.AudioContent(type="audio", data="AAA=", mime_type="audio/wav"),
                types.ResourceLink(type="resource_link", name="x", uri="file:///x", size=7, mime_type="text/plain"),
                types.EmbeddedResource(
                    type="resource", resource=types.TextResourceContents(uri="file:///y", text="SECRET")
                ),
            ]
        )

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> Any:
        arguments = params.arguments or {}
        match params.name:
            case "add":
                return text(str(arguments["a"] + arguments["b"]))
            case "fail":
                return text("no such", "table", is_error=True)
            case "refuse":
                raise MCPError(code=-32000, message="not today")
            case "slow":
                return await slow()
            case "crash":
                os._exit(3)
            case "huge":
                return text("y" * arguments["bytes"])
            case "parts":
                return parts()
            case "structured":
                return types.CallToolResult(content=[], structured_content={"n": 1, "x": float("inf")})
            case "nothing":
                return types.CallToolResult(content=[])
            case "meet":
                return await meet(arguments["who"])
        return text(f"{params.name}: {json.dumps(arguments)}")

    return Server("tests", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio() -> None:
    from mcp.server.stdio import stdio_server

    mark(f"started-{os.getpid()}")
    print("hello from stderr", file=sys.stderr, flush=True)
    server = make_server()
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def serve_http() -> None:
    import socket

    import uvicorn

    listening = socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "0"))))
    config = uvicorn.Config(make_server().streamable_http_app(), log_level="error", lifespan="on")
    mark("port", str(listening.getsockname()[1]))
    uvicorn.Server(config).run(sockets=[listening])


def serve_bare(answer: Any) -> None:
    """A server on the bare wire: `answer(method, params)` gives a result, or bytes to write as they are."""
    mark(f"started-{os.getpid()}")
    print("hello from stderr", file=sys.stderr, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["method"] == "notifications/cancelled":
            mark("cancelled")
        result = answer(request["method"], request) if "id" in request else None
        if result is None:
            continue
        if not isinstance(result, bytes):
            result = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode() + b"\n"
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()


def bare(method: str, request: Any) -> Any:
    if method == "initialize":
        info = {"name": "bare", "version": "1"}
        version = request["params"]["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        names = ["giant", "broken", "later", "slow", "crash", "environment", "files.read", "files_read"]
        return {"tools": [{"name": name, "inputSchema": EMPTY} for name in names]}
    head = b'{"jsonrpc":"2.0","id":%d,"result":' % request["id"]
    match request["params"]["name"]:
        case "giant":
            return head + b'{"content":[{"type":"text","text":"' + b"z" * 100_000_000 + b'"}]}}\n'
        case "broken":
            return head + b'{"content":[{"type":"text","text":"\\ud800"}]}}\n'
        case "slow":
            mark("slow")
            return None
        case "crash":
            os._exit(3)
        case "environment":
            return {"content": [{"type": "text", "text": json.dumps(dict(os.environ))}]}
    return {"content": [{"type": "text", "text": request["params"]["name"]}]}


def main() -> None:
    match MODE:
        case "stdio":
            asyncio.run(serve_stdio())
        case "http":
            serve_http()
        case "bare":
            serve_bare(bare)
        case "garbage":
            sys.stdout.write("Welcome!\n{not json}\n[1, 2]\n\x00\xff\n\n")
            sys.stdout.flush()
            serve_bare(bare)
        case "hang":
            mark(f"started-{os.getpid()}")
            for _ in sys.stdin:
                pass
        case "ends":
            sys.exit("no licence found")
        case "nonsense":
            serve_bare(lambda method, request: {"answer": 42})
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
            child = subprocess.Popen([sys.executable, "-IS", "-c", code])
            mark("pids", f"{os.getpid()} {child.pid}")
            serve_bare(bare)
            threading.Event().wait()


if __name__ == "__main__":
    main()
