"""Routes of runs: made, waited for, streamed, joined, listed, cancelled, deleted; on threads and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from benchai.errors import BenchAIError
from benchai.server.agent.database import Row
from benchai.server.agent.requests import Action, CancelBody, Mode, RunBody, mode_of
from benchai.server.agent.responses import KEEP_ALIVE, SSE, Lasting, ServerEnds, as_sse
from benchai.server.agent.routing import JsonRoute
from benchai.server.agent.run_checks import wanted_run
from benchai.server.agent.run_rows import IN_USE, RUN, run_json
from benchai.server.agent.runs import Runs
from benchai.server.agent.service import (
    AgentService,
    UnknownItem,
    Unprocessable,
    check_uuid,
    owner_of,
    selected,
)
from benchai.server.agent.shapes import json_bytes

if TYPE_CHECKING:
    pass

MOST_IN_BATCH = 100
RunStatus = Literal["pending", "running", "error", "success", "timeout", "interrupted"]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)]


def runs_router(service: AgentService) -> APIRouter:
    """All routes of runs."""
    router = APIRouter(tags=["runs"], route_class=JsonRoute)
    _add_making(router, service)
    _add_looking(router, service)
    _add_ending(router, service)
    return router


def _add_making(router: APIRouter, service: AgentService) -> None:
    runs = service.runs

    @router.post("/threads/{thread_id}/runs")
    async def create(request: Request, thread_id: str, body: RunBody, key: Key = None) -> Response:
        """Make a run on a thread; it is worked on in the background."""
        row = await _made(service, request, _thread(thread_id), body, key)
        return JSONResponse(run_json(row), headers=_headers(row))

    @router.post("/threads/{thread_id}/runs/wait")
    async def wait(request: Request, thread_id: str, body: RunBody, key: Key = None) -> Response:
        """Make a run on a thread and wait for its result."""
        return _awaited(runs, await _made(service, request, _thread(thread_id), body, key), body.on_disconnect)

    @router.post("/threads/{thread_id}/runs/stream")
    async def stream(request: Request, thread_id: str, body: RunBody, key: Key = None) -> Response:
        """Make a run on a thread and stream its events."""
        row = await _made(service, request, _thread(thread_id), body, key)
        return _streamed(runs, row, 0, None, body.on_disconnect)

    @router.post("/runs")
    async def create_alone(request: Request, body: RunBody, key: Key = None) -> Response:
        """Make a run without a thread; it is worked on in the background."""
        row = await _made(service, request, None, body, key)
        return JSONResponse(run_json(row), headers=_headers(row))

    @router.post("/runs/wait")
    async def wait_alone(request: Request, body: RunBody, key: Key = None) -> Response:
        """Make a run without a thread and wait for its result."""
        return _awaited(runs, await _made(service, request, None, body, key), body.on_disconnect)

    @router.post("/runs/stream")
    async def stream_alone(request: Request, body: RunBody, key: Key = None) -> Response:
        """Make a run without a thread and stream its events."""
        return _streamed(runs, await _made(service, request, None, body, key), 0, None, body.on_disconnect)

    @router.post("/runs/batch")
    async def batch(request: Request, bodies: list[RunBody], key: Key = None) -> list[dict[str, Any]]:
        """Make several runs without a thread; all are checked before the first is made."""
        if not 0 < len(bodies) <= MOST_IN_BATCH:
            raise Unprocessable(f"a batch of {len(bodies)} runs cannot be taken", hint=f"1 to {MOST_IN_BATCH}")
        keys = [None if key is None else f"{key}/{number}" for number in range(len(bodies))]
        wanted = [await wanted_run(service, request, None, body, one) for body, one in zip(bodies, keys, strict=True)]
        return [run_json(row) for row in runs.create_all(wanted)]


def _add_looking(router: APIRouter, service: AgentService) -> None:
    runs, database = service.runs, service.database

    @router.get("/threads/{thread_id}/runs")
    async def listed(
        request: Request,
        thread_id: str,
        limit: Annotated[int, Query(ge=1, le=1000)] = 10,
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        status: RunStatus | None = None,
        select: Annotated[list[str] | None, Query()] = None,
    ) -> list[dict[str, Any]]:
        """The runs of a thread, the newest first."""
        owner = owner_of(request)
        service.check_thread(owner, _thread(thread_id))
        query = (
            f"{RUN} WHERE owner = ? AND thread_id = ? AND (? IS NULL OR status = ?)"
            " ORDER BY created DESC, rowid DESC LIMIT ? OFFSET ?"
        )
        rows = database.read(query, (owner, _thread(thread_id), status, status, limit, offset))
        return [selected(run_json(row), select) for row in rows]

    @router.get("/threads/{thread_id}/runs/{run_id}")
    async def get(request: Request, thread_id: str, run_id: str) -> dict[str, Any]:
        """A run."""
        return run_json(_found(runs, request, thread_id, run_id))

    @router.get("/threads/{thread_id}/runs/{run_id}/join")
    async def join(request: Request, thread_id: str, run_id: str, cancel_on_disconnect: bool = False) -> Response:
        """Wait for the result of a run."""
        row = _found(runs, request, thread_id, run_id)
        return _awaited(runs, row, "cancel" if cancel_on_disconnect else "continue")

    @router.get("/threads/{thread_id}/runs/{run_id}/stream")
    async def join_stream(
        request: Request,
        thread_id: str,
        run_id: str,
        cancel_on_disconnect: bool = False,
        stream_mode: Annotated[list[str] | None, Query()] = None,
        last: LastEvent = None,
    ) -> Response:
        """The events of a run, from the one after Last-Event-ID; from its first without."""
        row = _found(runs, request, thread_id, run_id)
        after = _event_id(last)
        return _streamed(runs, row, after, stream_mode, "cancel" if cancel_on_disconnect else "continue")

    @router.get("/threads/{thread_id}/stream")
    async def thread_stream(request: Request, thread_id: str, last: LastEvent = None) -> Response:
        """The events of all runs of a thread, one after the other, until the client leaves."""
        owner = owner_of(request)
        service.check_thread(owner, _thread(thread_id))
        # without an id it begins with what comes from now on
        after = runs.log.last_id if last is None else _event_id(last)
        events = runs.log.follow_thread(owner, _thread(thread_id), after, KEEP_ALIVE)
        return Lasting(as_sse(events, lambda _: True), {"Cache-Control": "no-store"}, SSE)


def _add_ending(router: APIRouter, service: AgentService) -> None:
    runs = service.runs

    @router.post("/threads/{thread_id}/runs/{run_id}/cancel")
    async def cancel(
        request: Request, thread_id: str, run_id: str, wait: bool = False, action: Action = "interrupt"
    ) -> Response:
        """Cancel a run; with ``rollback`` it leaves nothing behind."""
        row = _found(runs, request, thread_id, run_id)
        if not await runs.cancel(run_id, action, wait=wait):
            raise UnknownItem(f"the run {run_id!r} has ended already", hint="there is nothing to cancel")
        return JSONResponse({}, headers=_headers(row, "join") if wait else None)

    @router.post("/runs/cancel", status_code=204)
    async def cancel_many(request: Request, body: CancelBody, action: Action = "interrupt") -> Response:
        """Cancel some runs of a thread, or all of a status."""
        found = _to_cancel(service, owner_of(request), body)
        if not found:
            raise UnknownItem("there are no such runs to cancel")
        for run_id in found:
            await runs.cancel(run_id, action, wait=False)
        return Response(status_code=204)

    @router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204)
    async def delete(request: Request, thread_id: str, run_id: str) -> Response:
        """Delete a run; one under way is cancelled first."""
        _found(runs, request, thread_id, run_id)
        await runs.cancel(run_id, "interrupt", wait=True)
        runs.rows.delete(run_id)
        return Response(status_code=204)


def _to_cancel(service: AgentService, owner: str, body: CancelBody) -> list[str]:
    if body.status is None and body.run_ids is None:
        raise Unprocessable("status, or thread_id and run_ids, are needed")
    rows = service.database.read(
        f"SELECT run_id, thread_id, status FROM runs WHERE owner = ? AND status IN {IN_USE}",  # noqa: S608
        (owner,),
    )
    return [
        row["run_id"]
        for row in rows
        if body.status in (None, "all", row["status"])
        and (body.thread_id is None or row["thread_id"] == body.thread_id)
        and (body.run_ids is None or row["run_id"] in body.run_ids)
    ]


async def _made(service: AgentService, request: Request, thread_id: str | None, body: RunBody, key: str | None) -> Row:
    return service.runs.create(await wanted_run(service, request, thread_id, body, key))


def _thread(thread_id: str) -> str:
    return check_uuid(thread_id, "thread id")


def _found(runs: Runs, request: Request, thread_id: str, run_id: str) -> Row:
    return runs.rows.find(owner_of(request), _thread(thread_id), check_uuid(run_id, "run id"))


def _event_id(given: str | None) -> int:
    """The last event that a client knows; "-1", as some send it, is none."""
    if given is None or given in ("", "-1"):
        return 0
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise Unprocessable(f"Last-Event-ID {given!r} is the id of no event")
    return int(given)


def _place(row: Row) -> str:
    return f"/threads/{row['thread_id']}/runs/{row['run_id']}"


def _headers(row: Row, joined: str = "") -> dict[str, str]:
    return {"Content-Location": _place(row)} | ({"Location": f"{_place(row)}/{joined}"} if joined else {})


def _cancels(runs: Runs, row: Row, on_disconnect: str) -> Callable[[], Any] | None:
    if on_disconnect != "cancel":
        return None
    return lambda: runs.cancel_soon(row["run_id"])


def _streamed(runs: Runs, row: Row, after: int, modes: list[str] | None, on_disconnect: str) -> Response:
    run_id = row["run_id"]
    wanted = set(_modes(modes))
    events = runs.log.follow(run_id, after, lambda: runs.is_over(run_id), KEEP_ALIVE)
    pieces = as_sse(events, lambda name: not wanted or not mode_of(name) or not wanted.isdisjoint(mode_of(name)))
    headers = {**_headers(row, "stream"), "Cache-Control": "no-store"}
    return Lasting(pieces, headers, SSE, _cancels(runs, row, on_disconnect))


def _modes(given: list[str] | None) -> list[str]:
    found = [name for one in given or () for name in one.split(",") if name]
    for unknown in (name for name in found if name not in Mode.__args__):  # type: ignore[attr-defined]
        hint = f"one of {', '.join(Mode.__args__)}"  # type: ignore[attr-defined]
        raise Unprocessable(f"stream_mode {unknown[:100]!r} is unknown", hint=hint)
    return found


def _awaited(runs: Runs, row: Row, on_disconnect: str) -> Response:
    gone = _cancels(runs, row, on_disconnect)
    return Lasting(_result(runs, row["run_id"]), _headers(row, "join"), "application/json", gone)


async def _result(runs: Runs, run_id: str) -> AsyncGenerator[bytes, None]:
    """The result of a run; blanks before it while it is waited for."""
    waiting = runs.waiting(run_id)
    while waiting is not None and not runs.closing:
        try:
            async with asyncio.timeout(KEEP_ALIVE):
                await waiting.done.wait()
            break
        except TimeoutError:
            yield b"\n"
    if runs.waiting(run_id) is not None:
        # the client takes a response that breaks off for what it is, and joins again
        raise ServerEnds
    try:
        yield runs.result(run_id, waiting)
    except BenchAIError as error:
        yield json_bytes({"__error__": {"error": type(error).__name__, "message": error.message}})
