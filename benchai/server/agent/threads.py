"""Routes of threads: made, found, changed, copied, deleted."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field, field_validator

from benchai.errors import UnknownThread, UsageError
from benchai.server.agent.bodies import MAX_ROWS, Body, Data, Text
from benchai.server.agent.database import Row, from_json
from benchai.server.agent.requests import CommandBody
from benchai.server.agent.routing import JsonRoute
from benchai.server.agent.service import (
    AgentService,
    Conflict,
    UnknownItem,
    Unprocessable,
    check_uuid,
    iso,
    now,
    owner_of,
)
from benchai.server.agent.shapes import Wire, json_bytes, jsonable, thread_json
from benchai.server.agent.states import check_values
from benchai.server.agent.thread_rows import (
    delete_rows,
    find_thread,
    graph_of,
    insert_thread,
    is_busy,
    needed_graph,
)
from benchai.server.agent.thread_search import ThreadCount, ThreadSearch, count_threads, search_threads

if TYPE_CHECKING:
    from langgraph.types import StateUpdate


logger = logging.getLogger(__name__)
__all__ = ["delete_expired", "insert_thread", "remove_thread", "threads_router"]
Strategy = Literal["delete", "keep_latest"]
LONGEST_MINUTES = 10 * 365 * 24 * 60
_MINIMAL = "return=minimal"


class TimeToLive(Body):
    """How long a thread is kept, in minutes from now."""

    ttl: Annotated[float, Field(gt=0, le=LONGEST_MINUTES)]
    strategy: Strategy = "delete"

    def expires(self) -> float:
        """When it is deleted, in seconds since the epoch.

        Raises:
            Unprocessable: something else is to be done then.
        """
        if self.strategy != "delete":
            hint = "take 'delete', or POST /threads/prune with the strategy 'keep_latest' when it is time"
            raise Unprocessable(f"ttl.strategy = {self.strategy!r} is not done by itself", hint=hint)
        return now() + self.ttl * 60


class StepUpdate(Body):
    """What a node is taken to have done."""

    as_node: Text
    values: Data | list[Any] | None = None
    command: CommandBody | None = None

    @field_validator("values", mode="before")
    @classmethod
    def _kind(cls, value: Any) -> Any:
        return check_values(value)


class Superstep(Body):
    """What nodes are taken to have done together."""

    updates: Annotated[list[StepUpdate], Field(min_length=1, max_length=MAX_ROWS)]


class ThreadCreate(Body):
    """A thread to make."""

    thread_id: Text | None = None
    metadata: Data | None = None
    if_exists: Literal["raise", "do_nothing"] = "raise"
    ttl: TimeToLive | None = None
    supersteps: Annotated[list[Superstep], Field(max_length=MAX_ROWS)] | None = None


class ThreadPatch(Body):
    """A change of a thread."""

    metadata: Data | None = None
    ttl: TimeToLive | None = None


class ThreadPrune(Body):
    """Threads of which nothing, or the last state alone, is to be left."""

    thread_ids: Annotated[list[Text], Field(max_length=MAX_ROWS)]
    strategy: Strategy = "delete"


def threads_router(service: AgentService) -> APIRouter:
    """The routes of /threads, but for states and runs."""
    router = APIRouter(prefix="/threads", route_class=JsonRoute)

    @router.post("")
    async def create(request: Request, body: ThreadCreate) -> Response:
        """Make a thread."""
        return Wire(thread_json(await _create(service, owner_of(request), body)))

    @router.post("/search")
    async def search(request: Request, body: ThreadSearch) -> Response:
        """Find threads; the header tells how many there are."""
        page, total = search_threads(service.database, owner_of(request), body)
        after = body.offset + len(page)
        more = {"x-pagination-next": str(after)} if page and after < total else {}
        return Wire(page, headers={"x-pagination-total": str(total), **more})

    @router.post("/count")
    async def count(request: Request, body: ThreadCount) -> Response:
        """How many threads there are."""
        return Wire(count_threads(service.database, owner_of(request), body))

    @router.post("/prune")
    async def prune(request: Request, body: ThreadPrune) -> Response:
        """Delete threads, or all but their last state; ids that are unknown are passed over."""
        return Wire({"pruned_count": await _prune(service, owner_of(request), body)})

    @router.get("/{thread_id}")
    async def get(request: Request, thread_id: str, include: Annotated[str, Query(max_length=100)] = "") -> Response:
        """A thread; ``include=ttl`` tells when it is deleted, too."""
        row = find_thread(service.database, owner_of(request), thread_id, state=True)
        return Wire(thread_json(row) | (_ttl_json(row) if "ttl" in include.split(",") else {}))

    @router.patch("/{thread_id}")
    async def patch(request: Request, thread_id: str, body: ThreadPatch) -> Response:
        """Change a thread: the keys of its metadata that are named."""
        row = _patch(service, find_thread(service.database, owner_of(request), thread_id), body)
        minimal = _MINIMAL in request.headers.get("prefer", "").replace(" ", "")
        return Response(status_code=204) if minimal else Wire(thread_json(row))

    @router.delete("/{thread_id}", status_code=204)
    async def delete(request: Request, thread_id: str) -> Response:
        """Delete a thread with its runs, which are cancelled, and its checkpoints."""
        await remove_thread(service, find_thread(service.database, owner_of(request), thread_id))
        return Response(status_code=204)

    @router.post("/{thread_id}/copy")
    async def copy(request: Request, thread_id: str) -> Response:
        """Copy a thread with all its checkpoints."""
        from benchai.server.agent.thread_copy import copy_thread

        row = find_thread(service.database, owner_of(request), thread_id)
        return Wire(thread_json(await copy_thread(service, row)))

    return router


async def remove_thread(service: AgentService, row: Row) -> None:
    """Delete a thread with all that belongs to it; runs that wait or are under way are cancelled.

    Raises:
        Conflict: another process runs on it.
    """
    owner, thread_id = row["owner"], row["thread_id"]
    query = "SELECT run_id FROM runs WHERE owner = ? AND thread_id = ?"
    while True:
        if is_busy(service.database, owner, thread_id):
            await service.runs.cancel_thread(owner, thread_id)
        before = [tuple(one) for one in service.database.read(query, (owner, thread_id))]
        if graph_of(row) is not None or before:
            await _drop_checkpoints(service, row)
        if is_busy(service.database, owner, thread_id):
            continue
        if before == [tuple(one) for one in service.database.read(query, (owner, thread_id))]:
            # nothing has begun on it meanwhile, and nothing awaits before its row is gone
            return delete_rows(service.database, owner, thread_id)


async def delete_expired(service: AgentService) -> int:
    """Delete the threads whose time is over and on which nothing runs; returns how many."""
    count = 0
    query = "SELECT * FROM threads WHERE expires <= ?"
    for row in service.database.read(query, (now(),)):
        if is_busy(service.database, row["owner"], row["thread_id"]):
            continue
        try:
            await remove_thread(service, row)
            count += 1
        except Exception as error:
            # the others are not kept for its sake
            logger.warning("the thread %s has expired and cannot be deleted: %s", row["thread_id"], error)
    return count


async def _drop_checkpoints(service: AgentService, row: Row) -> None:
    async with service.workshop.bench() as bench:
        threads, inner = bench.threads, row["inner_id"]
        try:
            await threads.delete(inner)
        except UnknownThread:
            # no run ever began on it
            await threads.saver.adelete_thread(inner)
        except UsageError as error:
            what = f"a run of another process is under way on the thread {row['thread_id']!r}"
            raise Conflict(what, hint="wait for it") from error


async def _create(service: AgentService, owner: str, body: ThreadCreate) -> Row:
    thread_id = check_uuid(body.thread_id, "thread id") if body.thread_id is not None else None
    expires = body.ttl.expires() if body.ttl else None
    try:
        row = insert_thread(service.database, owner, thread_id, metadata=body.metadata, expires=expires)
    except sqlite3.IntegrityError:
        if body.if_exists == "raise":
            hint = 'send "if_exists": "do_nothing" to take it as it is'
            raise Conflict(f"there is a thread {thread_id!r} already", hint=hint) from None
        return find_thread(service.database, owner, str(thread_id), state=True)
    if body.supersteps:
        try:
            await _fill(service, row, body.supersteps)
        except BaseException:
            await remove_thread(service, row)
            raise
        row = find_thread(service.database, owner, row["thread_id"], state=True)
    return row


async def _fill(service: AgentService, row: Row, steps: list[Superstep]) -> None:
    """Give a new thread the history that a client has of another one."""
    from benchai.server.agent.state_updates import root_of, update_state

    graph_id = needed_graph(row)
    updates = [[_update(one) for one in step.updates] for step in steps]
    async with service.workshop.bench() as bench:
        await update_state(service.database, bench, row, graph_id, root_of(row), updates)


def _update(given: StepUpdate) -> StateUpdate:
    from langgraph.types import Command, Send, StateUpdate

    if given.command is None:
        return StateUpdate(jsonable(given.values), given.as_node)
    command = given.command
    goto = command.goto if isinstance(command.goto, list) else [command.goto] if command.goto else []
    nodes = [one if isinstance(one, str) else Send(one.node, jsonable(one.input)) for one in goto]
    return StateUpdate(cast(Any, Command(update=jsonable(command.update), goto=nodes)), given.as_node)


def _patch(service: AgentService, row: Row, body: ThreadPatch) -> Row:
    metadata = {**from_json(row["metadata"]), **(body.metadata or {})}
    expires = body.ttl.expires() if body.ttl else row["expires"]
    place = row["owner"], row["thread_id"]
    service.database.write(
        "UPDATE threads SET metadata = ?, expires = ?, updated = ? WHERE owner = ? AND thread_id = ?",
        (json_bytes(metadata).decode(), expires, now(), *place),
    )
    return find_thread(service.database, *place, state=True)


def _ttl_json(row: Row) -> dict[str, Any]:
    if row["expires"] is None:
        return {}
    minutes = max(row["expires"] - now(), 0.0) / 60
    return {"ttl": {"strategy": "delete", "ttl_minutes": minutes, "expires_at": iso(row["expires"])}}


async def _prune(service: AgentService, owner: str, body: ThreadPrune) -> int:
    count = 0
    for thread_id in dict.fromkeys(check_uuid(one, "thread id") for one in body.thread_ids):
        try:
            row = find_thread(service.database, owner, thread_id)
        except UnknownItem:
            continue
        await (remove_thread(service, row) if body.strategy == "delete" else _keep_latest(service, row))
        count += 1
    return count


async def _keep_latest(service: AgentService, row: Row) -> None:
    from benchai.server.agent.state_updates import sole

    if graph_of(row) is None:
        return
    async with service.workshop.bench() as bench, sole(service.database, bench.threads, row):
        saver = bench.threads.saver
        if "aprune" not in vars(type(saver)):
            # what it inherits is not there for SQLite, and goes past the one connection of PostgreSQL's store
            what = "strategy = 'keep_latest' is not possible where the threads are kept"
            raise Unprocessable(what, hint="take 'delete'")
        try:
            await saver.aprune([row["inner_id"]], strategy="keep_latest")
        except NotImplementedError as error:
            what = f"strategy = 'keep_latest' is not possible for the state of the workflow {graph_of(row)!r}"
            raise Unprocessable(what, hint="take 'delete'") from error
