"""Assistants of a real server, by the LangGraph SDK and by HTTP as it comes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from tests.integration.helpers import LIMIT, write_config
from tests.integration.serve_helpers import Served, clean, serving

pytestmark = pytest.mark.timeout(60)
FLOWS = """
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph, add_messages


class Talk(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    odd_one: "object"


class Settings(TypedDict, total=False):
    word: str


async def say(state):
    return {"messages": [AIMessage("said")]}


def made(node=say, name="say", **more):
    graph = StateGraph(Talk, **more)
    graph.add_node(name, node)
    graph.add_edge(START, name)
    return graph


simple = made(context_schema=Settings)
nested = made(made(made().compile(), "inner").compile(), "outer")
"""
SYSTEM = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
SIMPLE = str(uuid.uuid5(SYSTEM, "simple"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("assistants")
    (folder / "flows.py").write_text(FLOWS, encoding="utf-8")
    # no model is ever called
    models = {"general": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}
    write_config(folder, {"models": models, "workflows": {n: f"./flows.py:{n}" for n in ("simple", "nested")}})
    with serving(folder) as served:
        yield served
        assert served.end().code == 0
    clean(served.text)


@pytest.fixture
def client(server: Served) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=server.record["url"], api_key=None) as found:
        yield found


@pytest.fixture
def http(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.record["url"], timeout=LIMIT, trust_env=False) as found:
        yield found


def refused(response: httpx.Response, status: int, *parts: str) -> None:
    assert response.status_code == status, response.text
    for part in parts:
        assert part in response.json()["detail"]


def test_each_workflow_has_an_assistant_of_the_system(client: SyncLangGraphClient, http: httpx.Client) -> None:
    found = {one["graph_id"]: one for one in client.assistants.search(limit=1_000)}
    assert {"react", "simple", "nested"} <= set(found)
    one = found["simple"]
    assert one == client.assistants.get(SIMPLE) == client.assistants.get("simple")
    assert one["assistant_id"] == SIMPLE == str(uuid.uuid5(SYSTEM, "simple"))
    assert (one["version"], one["metadata"], one["config"], one["context"]) == (1, {"created_by": "system"}, {}, {})
    assert client.assistants.get_versions(SIMPLE)[0]["created_at"] == one["created_at"]
    assert client.assistants.set_latest(SIMPLE, 1) == one
    refused(http.patch("/assistants/simple", json={"name": "mine"}), 409, "'simple'", "POST /assistants")
    refused(http.delete(f"/assistants/{SIMPLE}"), 409, "cannot be changed or deleted")
    refused(http.post(f"/assistants/{SIMPLE}/latest", json={"version": 2}), 404, "no version 2")
    refused(http.post("/assistants", json={"graph_id": "nested", "assistant_id": SIMPLE}), 409, SIMPLE)
    again = {"graph_id": "nested", "assistant_id": SIMPLE, "if_exists": "do_nothing"}
    assert http.post("/assistants", json=again).json() == one


def test_an_assistant_from_its_making_to_its_end(client: SyncLangGraphClient, http: httpx.Client) -> None:
    made = client.assistants.create("simple", name="Ann's", context={"word": "a"}, metadata={"x": {"y": 1}, "z": 1})
    chosen = made["assistant_id"]
    assert made == client.assistants.get(chosen)
    assert (made["version"], made["description"], made["config"]) == (1, None, {"configurable": {"word": "a"}})
    assert made["created_at"] == made["updated_at"]
    second = client.assistants.update(chosen, name="two", metadata={"z": 2, "new": []})
    assert second["metadata"] == {"x": {"y": 1}, "z": 2, "new": []}
    assert (second["name"], second["version"], second["context"]) == ("two", 2, {"word": "a"})
    assert second["created_at"] == made["created_at"] < second["updated_at"]
    third = client.assistants.update(chosen, graph_id="nested", config={"configurable": {"word": "c"}, "tags": ["t"]})
    assert (third["graph_id"], third["context"]) == ("nested", {"word": "c"})
    assert [one["version"] for one in client.assistants.get_versions(chosen)] == [3, 2, 1]
    [middle] = client.assistants.get_versions(chosen, metadata={"z": 2}, limit=1, offset=1)
    assert middle["created_at"] == second["updated_at"]
    assert "updated_at" not in middle
    back = client.assistants.set_latest(chosen, 1)
    kept = ("assistant_id", "graph_id", "name", "config", "context", "metadata", "version", "created_at")
    assert {name: back[name] for name in kept} == {name: made[name] for name in kept}  # type: ignore[literal-required]
    assert client.assistants.get(chosen) == back
    # what comes after a version is a new one, made of what the assistant is
    fourth = client.assistants.update(chosen, description="d")
    assert (fourth["version"], fourth["name"], fourth["description"]) == (4, "Ann's", "d")
    client.assistants.delete(chosen)
    refused(http.get(f"/assistants/{chosen}"), 404, chosen)
    refused(http.post(f"/assistants/{chosen}/versions", json={}), 404, chosen)
    refused(http.delete(f"/assistants/{chosen}"), 404, chosen)


def test_an_id_of_ones_own(client: SyncLangGraphClient, http: httpx.Client) -> None:
    chosen = str(uuid.uuid4())
    made = client.assistants.create("simple", assistant_id=chosen.upper())
    assert (made["assistant_id"], made["name"]) == (chosen, "Untitled")
    body = {"graph_id": "nested", "assistant_id": chosen}
    refused(http.post("/assistants", json=body), 409, chosen)
    assert http.post("/assistants", json=body | {"if_exists": "do_nothing"}).json() == made
    client.assistants.delete(chosen)


def test_searching_and_counting(client: SyncLangGraphClient, http: httpx.Client) -> None:
    for name in ("b%", "A_", "c"):
        client.assistants.create("simple", name=name, metadata={"of": "search", "deep": {"name": name, "more": 1}})
    mine: dict[str, Any] = {"metadata": {"of": "search"}}

    def names(**wanted: Any) -> list[str]:
        found = http.post("/assistants/search", json=mine | {"select": ["name"], **wanted}).json()
        assert all(set(one) == {"name"} for one in found)
        return [one["name"] for one in found]

    assert names() == ["c", "A_", "b%"] == names(sort_by="created_at", sort_order="desc")
    assert names(sort_by="name", sort_order="asc") == ["A_", "b%", "c"]
    assert names(limit=1, offset=1) == ["A_"]
    assert names(name="_") == names(name="a_") == ["A_"]
    assert names(metadata={"deep": {"name": "c"}}) == ["c"]
    assert names(graph_id="nested") == names(metadata={"of": {}}) == names(offset=2**62) == []
    page = http.post("/assistants/search", json=mine | {"limit": 2})
    assert (page.headers["x-pagination-total"], page.headers["x-pagination-next"]) == ("3", "2")
    last = http.post("/assistants/search", json=mine | {"limit": 2, "offset": 2})
    assert last.headers["x-pagination-total"] == "3"
    assert "x-pagination-next" not in last.headers
    assert client.assistants.search(**mine, response_format="object")["next"] is None
    assert client.assistants.count(**mine, graph_id="simple", name="c") == 1
    for one in client.assistants.search(**mine):
        client.assistants.delete(one["assistant_id"])
    assert client.assistants.count(**mine) == 0


def test_what_a_graph_looks_like(client: SyncLangGraphClient, http: httpx.Client) -> None:
    def nodes(**wanted: Any) -> list[str]:
        drawn = client.assistants.get_graph("nested", **wanted)
        assert {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}} in drawn["nodes"]
        assert {frozenset(edge) for edge in drawn["edges"]} == {frozenset({"source", "target"})}
        return sorted(str(one["id"]) for one in drawn["nodes"])

    assert nodes() == ["__end__", "__start__", "outer"]
    assert nodes(xray=1) == ["__end__", "__start__", "outer:inner"]
    assert nodes(xray=True) == ["__end__", "__start__", "outer:inner:say"]
    for wrong in ("0", "-1", "deep", "1" * 30):
        refused(http.get("/assistants/nested/graph", params={"xray": wrong}), 422, "xray")
    assert client.assistants.get_subgraphs("simple") == {}
    assert set(client.assistants.get_subgraphs("nested")) == {"outer"}
    assert set(client.assistants.get_subgraphs("nested", recurse=True)) == {"outer", "outer|inner"}
    assert set(client.assistants.get_subgraphs("nested", namespace="outer")) == {"outer"}
    assert client.assistants.get_subgraphs("nested", namespace="other") == {}


def test_the_schemas_of_a_graph(client: SyncLangGraphClient) -> None:
    found = client.assistants.get_schemas("simple")
    assert found["graph_id"] == "simple"
    for which in ("input_schema", "output_schema", "state_schema"):
        properties = found[which]["properties"]  # type: ignore[literal-required]
        assert set(properties) == {"messages", "topic", "odd_one"}
        assert (properties["topic"]["type"], properties["messages"]["type"]) == ("string", "array")
        assert "AIMessage" in found[which]["$defs"]  # type: ignore[literal-required]
    # a built-in workflow: what it needs of BenchAI is nothing that a client could give
    built_in = client.assistants.get_schemas("react")
    assert built_in["context_schema"] is None
    assert "messages" in (built_in["state_schema"] or {})["properties"]
    assert client.assistants.get_subgraphs("nested")["outer"]["state_schema"]["properties"]["topic"]["title"] == "Topic"


def test_threads_can_go_with_their_assistant(client: SyncLangGraphClient, http: httpx.Client) -> None:
    chosen = client.assistants.create("simple")["assistant_id"]
    threads = [client.threads.create()["thread_id"] for _ in range(2)]
    for thread, assistant in zip(threads, (chosen, "simple"), strict=True):
        client.runs.wait(thread, assistant, input={"messages": []})
    client.assistants.delete(chosen, delete_threads=True)
    assert [http.get(f"/threads/{thread}").status_code for thread in threads] == [404, 200]


BAD: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/assistants/nope", None, 404, "'nope'"),
    ("GET", "/assistants/simpel", None, 404, "did you mean 'simple'?"),
    ("GET", f"/assistants/{uuid.UUID(int=1)}/graph", None, 404, "no assistant"),
    ("GET", f"/assistants/{uuid.UUID(int=1)}/schemas", None, 404, "no assistant"),
    ("GET", "/assistants/simple/subgraphs?recurse=perhaps", None, 422, "recurse"),
    ("POST", "/assistants", {"graph_id": "simpel"}, 404, "did you mean 'simple'?"),
    ("POST", "/assistants", {"name": "x"}, 422, "graph_id"),
    ("POST", "/assistants", {"graph_id": 5}, 422, "graph_id"),
    ("POST", "/assistants", {"graph_id": "simple", "assistant_id": "nope"}, 422, "'nope'"),
    ("POST", "/assistants", {"graph_id": "simple", "if_exists": "replace"}, 422, "if_exists"),
    ("POST", "/assistants", {"graph_id": "simple", "metadata": []}, 422, "metadata"),
    ("POST", "/assistants", {"graph_id": "simple", "metadata": {"n": 2**70}}, 422, "metadata"),
    ("POST", "/assistants", {"graph_id": "simple", "config": {"configurable": 5}}, 422, "configurable"),
    (
        "POST",
        "/assistants",
        {"graph_id": "simple", "config": {"configurable": {"a": 1}}, "context": {"a": 1}},
        400,
        "set context alone",
    ),
    ("POST", "/assistants/search", {"limit": 0}, 422, "limit"),
    ("POST", "/assistants/search", {"limit": "3"}, 422, "limit"),
    ("POST", "/assistants/search", {"limit": 1_001}, 422, "limit"),
    ("POST", "/assistants/search", {"offset": 2**70}, 422, "offset"),
    ("POST", "/assistants/search", {"sort_by": "owner"}, 422, "sort_by"),
    ("POST", "/assistants/search", {"select": ["owner"]}, 422, "select"),
    ("POST", "/assistants/search", {"graph_id": "nope"}, 404, "'nope'"),
    ("POST", "/assistants/search", [], 422, ""),
    ("POST", "/assistants/count", {"graph_id": "nope"}, 404, "'nope'"),
    ("POST", "/assistants/simple/latest", {}, 422, "version"),
    ("POST", "/assistants/simple/latest", {"version": 2**70}, 422, "version"),
    ("POST", "/assistants/simple/versions", {"limit": 0}, 422, "limit"),
    ("PATCH", f"/assistants/{uuid.UUID(int=1)}", {"name": "x"}, 404, "no assistant"),
]


def test_what_cannot_be_done_is_refused(http: httpx.Client) -> None:
    before = http.post("/assistants/count", json={"name": "Untitled"}).json()
    for method, path, body, status, part in BAD:
        refused(http.request(method, path, json=body), status, part)
    for raw in (b'{"graph_id": "simple", "name": "\\ud800"}', b'{"graph_id": "simple", "metadata": {"\\udfff": 1}}'):
        refused(http.post("/assistants", content=raw, headers={"content-type": "application/json"}), 422)
    refused(http.post("/assistants/search", content=b"{bad", headers={"content-type": "application/json"}), 422)
    assert http.post("/assistants/count", json={"name": "Untitled"}).json() == before
