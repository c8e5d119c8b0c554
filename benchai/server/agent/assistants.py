"""Assistants on the agent wire: the system's, one for each workflow, and those that clients make."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from benchai.errors import did_you_mean
from benchai.runtime.background import in_background
from benchai.server.agent.anatomy import depth_of, drawing, schemas, subgraphs
from benchai.server.agent.bodies import MAX_ROWS, MOST, Body, Data, Text, contains, shown
from benchai.server.agent.routing import JsonRoute
from benchai.server.agent.service import AgentService, Conflict, UnknownItem, check_uuid, now, owner_of, selected
from benchai.server.agent.threads import remove_thread
from benchai.server.agent.versions import (
    Assistant,
    Versions,
    changed,
    found_by,
    in_order,
    joined,
    system_assistant,
    system_id,
)

if TYPE_CHECKING:
    from benchai.graphs.execution import Graph

__all__ = ["Assistant", "assistants_router", "find_assistant", "system_id"]

Column = Literal[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "created_at",
    "updated_at",
    "metadata",
    "version",
]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Offset = Annotated[int, Field(ge=0, le=MOST)]


class Filter(Body):
    """Which assistants are looked for."""

    metadata: Data | None = None
    graph_id: Text | None = None
    name: Text | None = None


class SearchBody(Filter):
    """A page of assistants."""

    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"] | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: list[Column] | None = None


class ChangeBody(Body):
    """What an assistant becomes; what is absent stays, ``metadata`` is merged key by key."""

    graph_id: Text | None = None
    config: Data | None = None
    context: Data | None = None
    metadata: Data | None = None
    name: Text | None = None
    description: Text | None = None


class CreateBody(ChangeBody):
    """A new assistant."""

    graph_id: Text
    assistant_id: Text | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None


class VersionsBody(Body):
    """A page of versions."""

    metadata: Data | None = None
    limit: Limit = 10
    offset: Offset = 0


class LatestBody(Body):
    """The version that an assistant goes back to."""

    version: Offset


async def find_assistant(service: AgentService, owner: str, assistant_id: str) -> Assistant:
    """An assistant by its id, or the system's by its workflow's name.

    Raises:
        UnknownItem: there is none, or it is another owner's.
    """
    wanted = _as_uuid(assistant_id)
    found = await _of_system(service, wanted or assistant_id)
    if found is None and wanted is not None:
        found = Versions(service.database, owner).get(wanted)
    if found is not None:
        return found
    names = await service.workshop.descriptions()
    hint = "look for it by POST /assistants/search" if wanted else did_you_mean(assistant_id, names)
    raise UnknownItem(f"there is no assistant {shown(assistant_id)}", hint=hint)


async def _of_system(service: AgentService, wanted: str) -> Assistant | None:
    """The system's assistant of a name or id."""
    for name, description in (await service.workshop.descriptions()).items():
        if wanted in (name, system_id(name)):
            return system_assistant(service.database, name, description)
    return None


def assistants_router(service: AgentService) -> APIRouter:
    """The routes below /assistants."""
    router = APIRouter(prefix="/assistants", tags=["assistants"], route_class=JsonRoute)
    _reading(router, service)
    _looking(router, service)
    _writing(router, service)
    _versions(router, service)
    return router


def _looking(router: APIRouter, service: AgentService) -> None:
    @router.post("/search")
    async def search(body: SearchBody, request: Request, response: Response) -> list[dict[str, Any]]:
        """Assistants, a page at a time."""
        found = in_order(await _found(service, owner_of(request), body), body.sort_by, body.sort_order != "asc")
        end = body.offset + body.limit
        response.headers["x-pagination-total"] = str(len(found))
        if end < len(found):
            response.headers["x-pagination-next"] = str(end)
        return [selected(one.as_json(), list(body.select or [])) for one in found[body.offset : end]]

    @router.post("/count")
    async def count(body: Filter, request: Request) -> int:
        """How many there are."""
        return len(await _found(service, owner_of(request), body))


def _reading(router: APIRouter, service: AgentService) -> None:
    @router.get("/{assistant_id}")
    async def get(assistant_id: str, request: Request) -> dict[str, Any]:
        """One assistant."""
        return (await find_assistant(service, owner_of(request), assistant_id)).as_json()

    @router.get("/{assistant_id}/graph")
    async def graph(assistant_id: str, request: Request, xray: str = "false") -> dict[str, Any]:
        """The drawing of its graph."""
        depth = depth_of(xray)
        async with _graph(service, request, assistant_id) as (_, graph):
            return await in_background(drawing, graph, depth)

    @router.get("/{assistant_id}/schemas")
    async def get_schemas(assistant_id: str, request: Request) -> dict[str, Any]:
        """The schemas of its graph."""
        async with _graph(service, request, assistant_id) as (graph_id, graph):
            return {"graph_id": graph_id} | await in_background(schemas, graph)

    @router.get("/{assistant_id}/subgraphs")
    @router.get("/{assistant_id}/subgraphs/{namespace}")
    async def get_subgraphs(
        assistant_id: str, request: Request, namespace: str | None = None, recurse: bool = False
    ) -> dict[str, Any]:
        """The schemas of its subgraphs."""
        async with _graph(service, request, assistant_id) as (_, graph):
            return await in_background(subgraphs, graph, namespace, recurse)


def _writing(router: APIRouter, service: AgentService) -> None:
    @router.post("")
    async def create(body: CreateBody, request: Request) -> dict[str, Any]:
        """Make an assistant."""
        await _check_graph(service, body.graph_id)
        new = _new(body)
        found = await _of_system(service, new.assistant_id)
        kept = Versions(service.database, owner_of(request))
        if found is None and kept.add(new):
            return new.as_json()
        if body.if_exists != "do_nothing":
            raise Conflict(f"there is an assistant {new.assistant_id!r} already", hint="change it by PATCH")
        return (found or kept.get(new.assistant_id) or new).as_json()

    @router.patch("/{assistant_id}")
    async def change(assistant_id: str, body: ChangeBody, request: Request) -> dict[str, Any]:
        """Change an assistant: a new version of it."""
        found = await _own(service, owner_of(request), assistant_id)
        if body.graph_id is not None:
            await _check_graph(service, body.graph_id)
        kept = Versions(service.database, owner_of(request))
        return kept.change(found.assistant_id, lambda old: changed(old, body.model_dump())).as_json()

    @router.delete("/{assistant_id}", status_code=204, response_class=Response)
    async def delete(assistant_id: str, request: Request, delete_threads: bool = False) -> None:
        """Delete an assistant."""
        owner = owner_of(request)
        found = await _own(service, owner, assistant_id)
        if delete_threads:
            await _delete_threads(service, owner, found.assistant_id)
        Versions(service.database, owner).delete(found.assistant_id)


def _versions(router: APIRouter, service: AgentService) -> None:
    @router.post("/{assistant_id}/versions")
    async def versions(assistant_id: str, body: VersionsBody, request: Request) -> list[dict[str, Any]]:
        """The versions of an assistant, the newest first."""
        found = await find_assistant(service, owner_of(request), assistant_id)
        kept = [found] if found.system else Versions(service.database, owner_of(request)).versions(found.assistant_id)
        met = [one for one in kept if contains(one.metadata, body.metadata or {})]
        return [one.as_version() for one in met[body.offset : body.offset + body.limit]]

    @router.post("/{assistant_id}/latest")
    async def latest(assistant_id: str, body: LatestBody, request: Request) -> dict[str, Any]:
        """Make an assistant what one of its versions says."""
        found = await find_assistant(service, owner_of(request), assistant_id)
        if found.system and body.version == found.version:
            return found.as_json()
        return Versions(service.database, owner_of(request)).go_back(found.assistant_id, body.version).as_json()


def _new(body: CreateBody) -> Assistant:
    chosen = check_uuid(body.assistant_id, "assistant_id") if body.assistant_id else str(uuid.uuid4())
    at = now()
    empty: dict[str, Any] = {"name": "Untitled", "description": None, "config": {}, "context": {}, "metadata": {}}
    settings = joined(body.model_dump(exclude={"assistant_id", "if_exists"}))
    return Assistant(assistant_id=chosen, version=1, created=at, updated=at, **empty | settings)


async def _found(service: AgentService, owner: str, wanted: Filter) -> list[Assistant]:
    """All that an owner may see and looks for."""
    names = await service.workshop.descriptions()
    if wanted.graph_id is not None:
        await _check_graph(service, wanted.graph_id)
    system = [system_assistant(service.database, name, about) for name, about in names.items()]
    return found_by(system + Versions(service.database, owner).all(), wanted.metadata, wanted.graph_id, wanted.name)


async def _check_graph(service: AgentService, graph_id: str) -> None:
    names = await service.workshop.descriptions()
    if graph_id not in names:
        raise UnknownItem(f"there is no graph {shown(graph_id)}", hint=did_you_mean(graph_id, names))


async def _own(service: AgentService, owner: str, assistant_id: str) -> Assistant:
    """One that its owner may change."""
    found = await find_assistant(service, owner, assistant_id)
    if found.system:
        hint = "make one of your own by POST /assistants"
        raise Conflict(f"the assistant of the workflow {found.graph_id!r} cannot be changed or deleted", hint=hint)
    return found


@asynccontextmanager
async def _graph(service: AgentService, request: Request, assistant_id: str) -> AsyncIterator[tuple[str, Graph]]:
    """The name of an assistant's workflow, and its graph."""
    found = await find_assistant(service, owner_of(request), assistant_id)
    async with service.workshop.bench() as bench:
        yield found.graph_id, bench.graph(found.graph_id)


async def _delete_threads(service: AgentService, owner: str, assistant_id: str) -> None:
    """Delete the threads on which an assistant ran last."""
    query = "SELECT * FROM threads WHERE owner = ? AND json_extract(metadata, '$.assistant_id') = ?"
    for row in service.database.read(query, (owner, assistant_id)):
        await remove_thread(service, row)


def _as_uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None
