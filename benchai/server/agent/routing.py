"""How the routes of the agent wire read bodies."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


def _refused(constant: str) -> Any:
    raise json.JSONDecodeError(f"{constant} is not known to JSON", constant, 0)


class _JsonRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            # orjson would make floats of whole numbers beyond 64 bits
            self._json = json.loads(await self.body(), parse_constant=_refused)
        return self._json


class JsonRoute(APIRoute):
    """A route whose bodies are JSON to the letter: no NaN, no infinity."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle
