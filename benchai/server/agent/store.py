"""The store on the agent wire: items of JSON by namespace and key, for programs and for the graphs' own nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from benchai.server.agent.bodies import MOST, Body, Data, Text, check_labels, check_namespace
from benchai.server.agent.routing import JsonRoute
from benchai.server.agent.service import AgentService, owner_of

if TYPE_CHECKING:
    from benchai.server.agent.items import ItemStore

Count = Annotated[int, Field(ge=0, le=MOST)]
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Labels = list[Text]


class PutBody(Body):
    """An item to keep; ``ttl`` are the minutes that it is kept after it was last used."""

    namespace: Labels
    key: Text
    value: Data
    index: Literal[False] | list[Text] | None = None
    ttl: Minutes | None = None


class DeleteBody(Body):
    """An item to delete."""

    namespace: Labels = Field(default_factory=list)
    key: Text


class ItemsBody(Body):
    """A page of items."""

    namespace_prefix: Labels | None = None
    filter: Data | None = None
    limit: Count = 10
    offset: Count = 0
    query: Text | None = None
    refresh_ttl: bool | None = None


class NamespacesBody(Body):
    """A page of namespaces; "*" in a prefix or suffix stands for any label."""

    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: Annotated[int, Field(ge=1, le=MOST)] | None = None
    limit: Count = 100
    offset: Count = 0


def store_router(service: AgentService) -> APIRouter:
    """The routes below /store."""
    router = APIRouter(prefix="/store", tags=["store"], route_class=JsonRoute)
    _items(router, service)
    _searches(router, service)
    return router


def _items(router: APIRouter, service: AgentService) -> None:
    @router.put("/items", status_code=204, response_class=Response)
    async def put(body: PutBody, request: Request) -> None:
        """Keep an item, in place of the one that is there."""
        store = _store(service, request)
        await store.aput(check_namespace(tuple(body.namespace)), body.key, body.value, index=body.index, ttl=body.ttl)

    @router.get("/items")
    async def get(
        request: Request, key: str, namespace: str, refresh_ttl: Annotated[bool, Query()] = True
    ) -> dict[str, Any] | None:
        """An item, null where there is none; the namespace has dots between its labels."""
        item = await _store(service, request).aget(
            check_labels(tuple(namespace.split("."))), key, refresh_ttl=refresh_ttl
        )
        return None if item is None else item.dict()

    @router.delete("/items", status_code=204, response_class=Response)
    async def delete(body: DeleteBody, request: Request) -> None:
        """Delete an item; that there is none is no error."""
        await _store(service, request).adelete(check_labels(tuple(body.namespace)), body.key)


def _searches(router: APIRouter, service: AgentService) -> None:
    @router.post("/items/search")
    async def search(body: ItemsBody, request: Request) -> dict[str, Any]:
        """Items below a namespace, the last written first, or those that have most words of the query."""
        found = await _store(service, request).asearch(
            check_labels(tuple(body.namespace_prefix or ())),
            query=body.query,
            filter=body.filter,
            limit=body.limit,
            offset=body.offset,
            refresh_ttl=body.refresh_ttl,
        )
        return {"items": [item.dict() for item in found]}

    @router.post("/namespaces")
    async def namespaces(body: NamespacesBody, request: Request) -> dict[str, Any]:
        """The namespaces that hold items."""
        found = await _store(service, request).alist_namespaces(
            prefix=check_labels(tuple(body.prefix or ())),
            suffix=check_labels(tuple(body.suffix or ())),
            max_depth=body.max_depth,
            limit=body.limit,
            offset=body.offset,
        )
        return {"namespaces": [list(one) for one in found]}


def _store(service: AgentService, request: Request) -> ItemStore:
    # LangGraph's store takes a while to load
    from benchai.server.agent.items import ItemStore

    return ItemStore(service.database, owner_of(request))
