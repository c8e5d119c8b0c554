"""The yardstick: a bare pass-through on aiohttp that looks at nothing. Prints its port, serves until it is killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

ENGINE = web.AppKey("engine", aiohttp.ClientSession)
LARGEST = 2**26


def application(root: str) -> web.Application:
    """Passes every request on to the server at ``root``."""
    app = web.Application(client_max_size=LARGEST)

    async def session(app: web.Application) -> AsyncIterator[None]:
        # an engine closes connections that are idle for 5 s
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as made:
            app[ENGINE] = made
            yield

    async def pass_on(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"Content-Type": "application/json"}
        if b'"stream": true' in body:
            # llama-server closes after each stream, without saying so
            headers["Connection"] = "close"
        async with request.app[ENGINE].post(root + request.path, data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app.cleanup_ctx.append(session)
    app.router.add_post("/{path:.*}", pass_on)
    return app


async def main(root: str) -> None:
    """Serve for ever."""
    runner = web.AppRunner(application(root), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
