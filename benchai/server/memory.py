"""/fleet/memory: the memory that the server owns, for the command line and for runs of other processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from fastapi import Request, Response
from pydantic import ValidationError

from benchai.errors import UsageError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from benchai.memory.service import MemoryService

Use = Callable[[], AbstractAsyncContextManager["MemoryService"]]


def add_memory_routes(router: APIRouter, use: Use) -> None:
    """Answer the calls of ``MemoryService`` below a router that asks for the key."""

    @router.post("/memory/{name}")
    async def call(name: str, request: Request) -> Response:
        """One call: its arguments as a JSON object, its result as JSON."""
        from benchai.memory.service import calls

        known = calls().get(name)
        if known is None:
            raise UsageError(f"the memory has no call {name[:100]!r}", hint=f"it has {', '.join(calls())}")
        try:
            asked = known.arguments.model_validate_json(await request.body())
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)[:5]
            )
            raise UsageError(f"the call {name!r} is malformed: {problems}") from error
        async with use() as memory:
            arguments = {field: getattr(asked, field) for field in type(asked).model_fields}
            result = await getattr(memory, name)(**arguments)
        return Response(known.result.dump_json(result), media_type="application/json")
