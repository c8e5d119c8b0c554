"""Routes of a thread's states: the last one, one at a checkpoint, their history, and changing it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field, field_validator, model_validator

from benchai.server.agent.bodies import MAX_ROWS, Body, Data, Text, contains, shown
from benchai.server.agent.database import Row
from benchai.server.agent.routing import JsonRoute
from benchai.server.agent.service import AgentService, UnknownItem, Unprocessable, check_uuid, owner_of
from benchai.server.agent.shapes import Wire, jsonable, no_state_json, place_json, state_json
from benchai.server.agent.thread_rows import find_thread, graph_of, needed_graph

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from benchai.graphs.execution import Graph

_FIELDS = tuple(no_state_json())
_ONE_VALUE = "values."
# states are read so many at a time where a filter may leave out most of them
_PAGE = 50
_NAMESPACE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,1000}")
Flag = Annotated[bool, Query()]
Fields = Annotated[list[str] | None, Query()]


class Place(Body):
    """A checkpoint, or the last one of a nested graph; the thread is that of the path."""

    checkpoint_id: Text | None = None
    checkpoint_ns: Text | None = None
    checkpoint_map: dict[Text, Text] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_config(cls, value: Any) -> Any:
        """Some clients send LangGraph's whole configuration."""
        inner = value.get("configurable") if isinstance(value, dict) else None
        return inner if isinstance(inner, dict) else value

    @field_validator("checkpoint_ns")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not _NAMESPACE.fullmatch(value):
            raise ValueError("no namespace of checkpoints is written like that")
        return value

    def config(self, inner: str) -> RunnableConfig:
        """Where LangGraph finds it.

        Raises:
            Unprocessable: an id is no UUID.
        """
        place: dict[str, Any] = {"thread_id": inner, "checkpoint_ns": self.checkpoint_ns or ""}
        if self.checkpoint_id is not None:
            place["checkpoint_id"] = check_uuid(self.checkpoint_id, "checkpoint id")
        if self.checkpoint_map:
            ids = {name: check_uuid(one, "checkpoint id") for name, one in self.checkpoint_map.items()}
            place["checkpoint_map"] = ids
        return {"configurable": place}


class StateAt(Body):
    """A state that is wanted."""

    checkpoint: Place
    subgraphs: bool = False
    select: list[Text] | None = None


def check_values(value: Any) -> Any:
    """Refuse in a few words what a state is not changed with.

    Raises:
        ValueError: it is neither an object nor a list nor null.
    """
    if value is not None and not isinstance(value, dict | list):
        raise ValueError("an object, a list or null is wanted")
    return value


class StateChange(Body):
    """A change of a thread's state."""

    values: Data | list[Any] | None = None
    as_node: Text | None = None
    checkpoint: Place | None = None
    checkpoint_id: Text | None = None

    @field_validator("values", mode="before")
    @classmethod
    def _kind(cls, value: Any) -> Any:
        return check_values(value)

    @property
    def place(self) -> Place:
        """Where it is made."""
        found = self.checkpoint or Place()
        return found.model_copy(update={"checkpoint_id": self.checkpoint_id or found.checkpoint_id})


class HistorySearch(Body):
    """States of a thread that are wanted, the newest first."""

    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 10
    before: Place | Text | None = None
    metadata: Data | None = None
    checkpoint: Place | None = None
    select: list[Text] | None = None


def states_router(service: AgentService) -> APIRouter:
    """The routes below /threads/{id}/state and /threads/{id}/history."""
    router = APIRouter(prefix="/threads/{thread_id}", route_class=JsonRoute)

    def found(request: Request, thread_id: str) -> Row:
        return find_thread(service.database, owner_of(request), thread_id)

    @router.get("/state")
    async def get_state(request: Request, thread_id: str, subgraphs: Flag = False, select: Fields = None) -> Response:
        """The thread's state."""
        return await _state(service, found(request, thread_id), Place(), subgraphs, _listed(select))

    @router.post("/state/checkpoint")
    async def state_at(request: Request, thread_id: str, body: StateAt) -> Response:
        """The state at a checkpoint, or of a nested graph."""
        return await _state(service, found(request, thread_id), body.checkpoint, body.subgraphs, body.select)

    @router.get("/state/{checkpoint_id}")
    async def get_state_at(
        request: Request, thread_id: str, checkpoint_id: str, subgraphs: Flag = False, select: Fields = None
    ) -> Response:
        """The state at a checkpoint."""
        place = Place(checkpoint_id=check_uuid(checkpoint_id, "checkpoint id"))
        return await _state(service, found(request, thread_id), place, subgraphs, _listed(select))

    @router.post("/state")
    async def change_state(request: Request, thread_id: str, body: StateChange) -> Response:
        """Change the state, as if a node of the graph had."""
        return await _change(service, found(request, thread_id), body)

    @router.get("/history")
    async def get_history(
        request: Request,
        thread_id: str,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 10,
        before: str | None = None,
        select: Fields = None,
    ) -> Response:
        """The thread's states, the newest first."""
        wanted = HistorySearch(limit=limit, before=before and check_uuid(before, "checkpoint id"), select=select)
        return await _history(service, found(request, thread_id), wanted)

    @router.post("/history")
    async def search_history(request: Request, thread_id: str, body: HistorySearch) -> Response:
        """The thread's states, the newest first."""
        return await _history(service, found(request, thread_id), body)

    return router


async def _state(service: AgentService, row: Row, place: Place, subgraphs: bool, fields: list[str] | None) -> Response:
    _check_fields(fields)
    config = place.config(row["inner_id"])
    graph_id = graph_of(row)
    if graph_id is None:
        _refuse_unknown(place, known=False)
        return Wire(_selected(no_state_json(), fields))
    async with service.workshop.bench() as bench:
        snapshot = await bench.graph(graph_id).aget_state(config, subgraphs=subgraphs)
    _refuse_unknown(place, known=snapshot.created_at is not None)
    return Wire(_shown(snapshot, row["thread_id"], fields))


def _refuse_unknown(place: Place, *, known: bool) -> None:
    if place.checkpoint_id is not None and not known:
        hint = "POST /threads/{id}/history lists the thread's checkpoints"
        raise UnknownItem(f"there is no checkpoint {place.checkpoint_id!r} on this thread", hint=hint)


async def _change(service: AgentService, row: Row, body: StateChange) -> Response:
    from langgraph.types import StateUpdate

    from benchai.server.agent.state_updates import update_state

    graph_id, place = needed_graph(row), body.place
    config = place.config(row["inner_id"])
    values = jsonable(body.values) if isinstance(body.values, list) else body.values
    step = [StateUpdate(values, body.as_node)]
    async with service.workshop.bench() as bench:
        if place.checkpoint_id is not None or place.checkpoint_ns:
            # LangGraph would begin a new state there
            at = await bench.threads.saver.aget_tuple(config)
            _refuse_unknown(Place(checkpoint_id=place.checkpoint_id or place.checkpoint_ns), known=at is not None)
        at_end = await update_state(service.database, bench, row, graph_id, config, [step])
    shown = place_json(at_end, row["thread_id"])
    return Wire({"checkpoint": shown, "configurable": shown, "checkpoint_id": shown.get("checkpoint_id")})


async def _history(service: AgentService, row: Row, wanted: HistorySearch) -> Response:
    _check_fields(wanted.select)
    config = (wanted.checkpoint or Place()).config(row["inner_id"])
    before = wanted.before if isinstance(wanted.before, Place) else Place(checkpoint_id=wanted.before)
    # a place without an id is none to begin before
    at = before.config(row["inner_id"]) if before.checkpoint_id is not None else None
    graph_id = graph_of(row)
    if graph_id is None:
        return Wire([])
    async with service.workshop.bench() as bench:
        states = _newest(bench.graph(graph_id), config, at, wanted)
        return Wire([_shown(one, row["thread_id"], wanted.select) async for one in states])


async def _newest(
    graph: Graph, config: RunnableConfig, before: RunnableConfig | None, wanted: HistorySearch
) -> AsyncIterator[StateSnapshot]:
    """The states that are wanted; keys of a filter never reach the checkpointer's SQL."""
    left, size = wanted.limit, _PAGE if wanted.metadata else wanted.limit
    while left:
        page = [one async for one in graph.aget_state_history(config, before=before, limit=size)]
        matching = [one for one in page if _matches(one, wanted.metadata)][:left]
        for one in matching:
            yield one
        left -= len(matching)
        if len(page) < size:
            return
        before = page[-1].config


def _matches(snapshot: StateSnapshot, wanted: dict[str, Any] | None) -> bool:
    return not wanted or contains(jsonable(snapshot.metadata), wanted)


def _listed(given: list[str] | None) -> list[str] | None:
    """Fields of a query, each by itself or joined by commas."""
    return [name for one in given for name in one.split(",") if name] if given else None


def _check_fields(fields: list[str] | None) -> None:
    for name in fields or ():
        if name not in _FIELDS and not name.startswith(_ONE_VALUE):
            hint = f"fields: {', '.join(_FIELDS)}, values.KEY"
            raise Unprocessable(f"a state has no field {shown(name)}", hint=hint)


def _shown(snapshot: StateSnapshot, thread_id: str, fields: list[str] | None) -> dict[str, Any]:
    if fields and "values" not in fields and isinstance(snapshot.values, dict):
        # what nobody asked for is not made into plain data
        keys = {name.removeprefix(_ONE_VALUE) for name in fields if name.startswith(_ONE_VALUE)}
        snapshot = snapshot._replace(values={key: one for key, one in snapshot.values.items() if key in keys})
    return _selected(state_json(snapshot, thread_id), fields)


def _selected(state: dict[str, Any], fields: list[str] | None) -> dict[str, Any]:
    wanted = {"values" if name.startswith(_ONE_VALUE) else name for name in fields or ()}
    return {name: one for name, one in state.items() if name in wanted} if wanted else state
