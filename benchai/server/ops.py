"""/fleet: what operators and attached runs ask of the fleet. Every call needs the key of the server's state file."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from benchai.errors import BenchAIError, EngineStartError, Unavailable
from benchai.events import Event
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.fleet.status import status
from benchai.server.events import EventLog

NDJSON = "application/x-ndjson"
LOG_SECONDS = 0.2
# what of an endpoint is told to an attached run
HIDDEN = {"progress", "suspect", "api_key"}


class LeaseRequest(BaseModel):
    """A role, and the models that may serve it, the first one preferred."""

    role: str = Field(min_length=1)
    models: list[str] = Field(min_length=1)


class FitRequest(BaseModel):
    """Models that may be needed at the same time."""

    models: list[str] = Field(min_length=1)


class Suspicion(BaseModel):
    """A call under a lease failed: no piece came for too long (``silent``), or its connection broke."""

    lease: str
    silent: bool


def error_data(error: BenchAIError) -> dict[str, Any]:
    """An error as plain data; the kind's name lets a client raise the same."""
    data: dict[str, Any] = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, Unavailable):
        data["retry_after"] = error.retry_after
    if isinstance(error, EngineStartError):
        data["log"] = list(error.log)
    return data


def line(data: dict[str, Any]) -> bytes:
    """One line of NDJSON."""
    return json.dumps(data).encode() + b"\n"


def ops_router(fleet: Fleet, log: EventLog, token: str) -> APIRouter:
    """The routes below /fleet."""

    def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "the key of this server's state file is needed")

    router = APIRouter(prefix="/fleet", dependencies=[Depends(authorised)])
    held: dict[str, Endpoint] = {}

    @router.get("")
    async def fleet_status() -> list[dict[str, Any]]:
        """All models: state, process, memory, queue, speed."""
        return await status(fleet)

    @router.post("/models/{name:path}/{action}")
    async def act(name: str, action: Literal["start", "stop", "restart", "swap"]) -> list[dict[str, Any]]:
        """Start, stop, restart a model, or start it in place of others; waits until it is done."""
        if action == "stop":
            await fleet.stop(name)
        elif action == "restart":
            await fleet.restart(name)
        else:
            await fleet.start(name, evict=action == "swap")
        return [one for one in await status(fleet) if one["model"] == name]

    @router.get("/models/{name:path}/logs")
    async def logs(name: str, lines: Annotated[int, Query(ge=0)] = 50, follow: bool = False) -> StreamingResponse:
        """The last lines of a model's log, as text."""
        fleet.member(name)
        return StreamingResponse(_log_lines(fleet, log, name, lines, follow), media_type="text/plain; charset=utf-8")

    @router.get("/events")
    async def events(last: Annotated[int, Query(ge=0)] = 100, follow: bool = False) -> StreamingResponse:
        """What happened to the fleet, one JSON object a line."""
        return StreamingResponse(_events(log, last, follow), media_type=NDJSON)

    @router.post("/lease")
    async def lease(wanted: LeaseRequest) -> StreamingResponse:
        """Lease a model: a line with its endpoint once it is ready; the lease ends with the connection."""
        return StreamingResponse(_lease(fleet, log, wanted, held), media_type=NDJSON)

    @router.post("/suspect", status_code=204)
    async def suspect(told: Suspicion) -> None:
        """A call of an attached run failed: its model is looked at now, and leased to nobody until it answers."""
        if told.lease not in held:
            raise HTTPException(404, f"there is no lease {told.lease!r}")
        held[told.lease].suspect(told.silent)

    @router.post("/fit")
    async def fit(wanted: FitRequest) -> dict[str, bool]:
        """Whether models can run at the same time; false where that is not known."""
        return {"fit": await fleet.models_fit(wanted.models)}

    return router


async def _events(log: EventLog, last: int, follow: bool) -> AsyncIterator[bytes]:
    if not follow:
        for event in log.last(last):
            yield line(event.as_json())
        return
    async for event in log.follow(last):
        yield line(event.as_json())


async def _log_lines(fleet: Fleet, events: EventLog, name: str, lines: int, follow: bool) -> AsyncIterator[str]:
    log = fleet.member(name).log
    seen = log.count
    for text in log.tail(lines) if lines else ():
        yield f"{text}\n"
    while follow and name in fleet.members and not events.closed.is_set():
        # a member that was replaced has another log
        log = fleet.members[name].log
        fresh = min(log.count - seen, len(log.lines)) if log.count >= seen else len(log.lines)
        seen = log.count
        for text in log.tail(fresh) if fresh else ():
            yield f"{text}\n"
        await asyncio.sleep(LOG_SECONDS)


async def _lease(fleet: Fleet, log: EventLog, wanted: LeaseRequest, held: dict[str, Endpoint]) -> AsyncIterator[bytes]:
    """Events of the models while the lease is waited for, the endpoint, then nothing until the caller is gone."""
    key = secrets.token_hex(8)
    with log.following() as news:
        granted: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        holding = asyncio.create_task(_hold(fleet, wanted, granted))
        try:
            async for event in _until(granted, news):
                if getattr(event, "model", None) in (None, *wanted.models):
                    yield line(event.as_json())
            held[key] = granted.result()
            yield line({"type": "lease", "id": key} | _endpoint(held[key]))
            await log.closed.wait()
        except BenchAIError as error:
            yield line({"type": "error"} | error_data(error))
        finally:
            held.pop(key, None)
            holding.cancel()


async def _hold(fleet: Fleet, wanted: LeaseRequest, granted: asyncio.Future[Endpoint]) -> None:
    """Hold a lease until this is cancelled: in a task of its own, whose release no second cancellation cuts short."""
    try:
        async with fleet.lease_one_of(wanted.role, wanted.models) as endpoint:
            granted.set_result(endpoint)
            await asyncio.Event().wait()
    except Exception as error:
        granted.set_exception(error)
        # a caller that is gone never looks at it
        granted.exception()


async def _until(granted: asyncio.Future[Endpoint], news: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
    """What happens until the lease is there, or can't be."""
    while not granted.done():
        getting = asyncio.ensure_future(news.get())
        try:
            await asyncio.wait((granted, getting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            event = getting.result() if getting.done() else None
            getting.cancel()
        if event is not None:
            yield event
    while not news.empty():
        if (event := news.get_nowait()) is not None:
            yield event


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    fields = {name: getattr(endpoint, name) for name in endpoint.__dataclass_fields__ if name not in HIDDEN}
    return fields
