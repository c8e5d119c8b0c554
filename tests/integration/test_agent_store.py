"""The store of a real server, and that the owners of two keys have nothing in common."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from tests.integration.helpers import LIMIT, write_config
from tests.integration.serve_helpers import Served, clean, serving

pytestmark = pytest.mark.timeout(60)
KEYS = {"ann": "key-of-ann", "bob": "key-of-bob"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("store")
    keys = [{"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()} for name, key in KEYS.items()]
    models = {"general": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}
    write_config(folder, {"models": models, "server": {"keys": keys}})
    with serving(folder) as served:
        yield served
        assert served.end().code == 0
    clean(served.text)


@pytest.fixture(scope="module")
def https(server: Served) -> Iterator[dict[str, httpx.Client]]:
    """A client for each owner."""
    url, options = server.record["url"], {"timeout": LIMIT, "trust_env": False}
    with (
        httpx.Client(base_url=url, headers={"x-api-key": KEYS["ann"]}, **options) as ann,
        httpx.Client(base_url=url, headers={"x-api-key": KEYS["bob"]}, **options) as bob,
    ):
        yield {"ann": ann, "bob": bob}


@pytest.fixture
def client(server: Served) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=server.record["url"], api_key=KEYS["ann"]) as found:
        yield found


def test_items_by_the_sdk(client: SyncLangGraphClient) -> None:
    store, place = client.store, ["users", "ann b"]
    # the SDK says of a GET without a result that it is an item
    assert store.get_item(place, "k") is None
    store.put_item(place, "k", {"text": "a red fox", "n": 1})
    store.put_item(place, "l", {"text": "a blue dog", "n": 2}, index=["text"], ttl=60)
    store.put_item([*place, "deep"], "m", {"text": "a red dog"}, index=False)
    found = store.get_item(place, "k")
    assert (found["namespace"], found["key"], found["value"]) == (place, "k", {"text": "a red fox", "n": 1})
    assert found["created_at"] == found["updated_at"]
    store.put_item(place, "k", {"text": "a red fox", "n": 3})
    again = store.get_item(place, "k", refresh_ttl=False)
    assert found["created_at"] == again["created_at"] < again["updated_at"]
    listed = store.search_items(["users"])["items"]
    assert [one["key"] for one in listed] == ["k", "m", "l"]
    assert listed[0] == {**again, "score": None}
    assert [one["key"] for one in store.search_items(place, filter={"n": {"$gte": 2}}, limit=1, offset=1)["items"]] == [
        "l"
    ]
    ranked = [(one["key"], one["score"]) for one in store.search_items([], query="RED dog")["items"]]
    assert ranked == [("k", 0.5), ("l", 0.5), ("m", 0.0)]
    assert store.list_namespaces() == {"namespaces": [place, [*place, "deep"]]}
    assert store.list_namespaces(prefix=["*"], suffix=["deep"], max_depth=1, limit=5) == {"namespaces": [["users"]]}
    for namespace, key in ((place, "k"), (place, "l"), ([*place, "deep"], "m"), (place, "never")):
        store.delete_item(namespace, key)
    assert store.list_namespaces() == {"namespaces": []}


BAD: list[tuple[str, str, Any, int, str]] = [
    ("PUT", "/store/items", {"namespace": [], "key": "k", "value": {}}, 400, "the namespace is empty"),
    ("PUT", "/store/items", {"namespace": ["langgraph"], "key": "k", "value": {}}, 400, "'langgraph'"),
    ("PUT", "/store/items", {"namespace": ["a.b"], "key": "k", "value": {}}, 422, "'a.b'"),
    ("PUT", "/store/items", {"namespace": [""], "key": "k", "value": {}}, 422, "''"),
    ("PUT", "/store/items", {"namespace": ["a\0b"], "key": "k", "value": {}}, 400, "control character"),
    ("PUT", "/store/items", {"namespace": "a", "key": "k", "value": {}}, 422, "namespace"),
    ("PUT", "/store/items", {"namespace": [1], "key": "k", "value": {}}, 422, "namespace"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": 1, "value": {}}, 422, "key"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": [1]}, 422, "value"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": None}, 422, "value"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {"n": 2**64}}, 422, "value"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "k"}, 422, "value"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}, "ttl": 0}, 422, "ttl"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}, "ttl": "1"}, 422, "ttl"),
    ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}, "index": True}, 422, "index"),
    ("GET", "/store/items?namespace=a", None, 422, "key"),
    ("GET", "/store/items?key=k", None, 422, "namespace"),
    ("GET", "/store/items?key=k&namespace=a..b", None, 422, "''"),
    ("DELETE", "/store/items", {"namespace": ["a"]}, 422, "key"),
    ("DELETE", "/store/items", {"namespace": ["a.b"], "key": "k"}, 422, "'a.b'"),
    ("POST", "/store/items/search", {"namespace_prefix": ["a.b"]}, 422, "'a.b'"),
    ("POST", "/store/items/search", {"limit": -1}, 422, "limit"),
    ("POST", "/store/items/search", {"limit": 2**70}, 422, "limit"),
    ("POST", "/store/items/search", {"filter": {"x') OR 1=1 --": 1}}, 400, "cannot be searched for"),
    ("POST", "/store/items/search", {"filter": {"x": {"$in": [1]}}}, 400, "'$in'"),
    ("POST", "/store/items/search", {"filter": {"x": {"$gt": []}}}, 400, "$gt"),
    ("POST", "/store/namespaces", {"max_depth": 0}, 422, "max_depth"),
    ("POST", "/store/namespaces", {"suffix": [""]}, 422, "''"),
    ("POST", "/store/namespaces", [], 422, ""),
]


def test_what_cannot_be_done_is_refused(https: dict[str, httpx.Client]) -> None:
    http = https["ann"]
    for method, path, body, status, part in BAD:
        refused = http.request(method, path, json=body)
        assert (refused.status_code, body) == (status, body), refused.text
        assert part in refused.json()["detail"]
    raw = b'{"namespace": ["a"], "key": "\\ud800", "value": {"x": "\\ud800"}}'
    assert http.put("/store/items", content=raw, headers={"content-type": "application/json"}).status_code == 422
    deep = b'{"namespace": ["a"], "key": "k", "value": ' + b'{"x":' * 5_000 + b"1" + b"}" * 5_001
    assert http.put("/store/items", content=deep, headers={"content-type": "application/json"}).status_code in (
        400,
        422,
    )
    assert http.post("/store/namespaces", json={}).json() == {"namespaces": []}
    # no namespace holds it, so it is not there
    assert http.request("DELETE", "/store/items", json={"key": "k"}).status_code == 204


def test_an_item_may_be_large(https: dict[str, httpx.Client]) -> None:
    http, value = https["ann"], {"text": "word " * 400_000, "list": list(range(100_000))}
    assert http.put("/store/items", json={"namespace": ["large"], "key": "k", "value": value}).status_code == 204
    assert http.get("/store/items", params={"namespace": "large", "key": "k"}).json()["value"] == value
    http.request("DELETE", "/store/items", json={"namespace": ["large"], "key": "k"})


IDS = [str(uuid.UUID(int=number)) for number in (1, 2)]
OWNERS = st.sampled_from(list(KEYS))
PLACES = st.sampled_from([["a"], ["a", "b"], ["b"]])
ITEMS = st.tuples(OWNERS, st.sampled_from(["put", "drop", "read"]), PLACES, st.sampled_from("kl"), st.integers(0, 3))
CHANGES = st.tuples(
    OWNERS,
    st.sampled_from(["make", "change", "back", "versions", "delete", "get"]),
    st.sampled_from(IDS),
    st.sampled_from(["x", "y"]),
    st.integers(1, 3),
)


class Owner:
    """What one owner does, and what an owner alone in the world would be answered."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.items: dict[tuple[str, str], int] = {}
        #: id -> the name that each version has, and the version that it is
        self.assistants: dict[str, tuple[list[str], int]] = {}

    def do(self, what: str, where: Any, name: str, number: int) -> None:
        getattr(self, what)(where, name, number)

    def put(self, place: list[str], key: str, number: int) -> None:
        body = {"namespace": place, "key": key, "value": {"n": number}}
        assert self.http.put("/store/items", json=body).status_code == 204
        self.items[".".join(place), key] = number

    def drop(self, place: list[str], key: str, _: int) -> None:
        assert self.http.request("DELETE", "/store/items", json={"namespace": place, "key": key}).status_code == 204
        self.items.pop((".".join(place), key), None)

    def read(self, place: list[str], key: str, _: int) -> None:
        found = self.http.get("/store/items", params={"namespace": ".".join(place), "key": key}).json()
        assert (found and found["value"]["n"]) == self.items.get((".".join(place), key))

    def make(self, chosen: str, name: str, _: int) -> None:
        body = {"graph_id": "react", "assistant_id": chosen, "name": name}
        assert self.http.post("/assistants", json=body).status_code == (409 if chosen in self.assistants else 200)
        self.assistants.setdefault(chosen, ([name], 1))

    def change(self, chosen: str, name: str, _: int) -> None:
        answer = self.http.patch(f"/assistants/{chosen}", json={"name": name})
        assert answer.status_code == (200 if chosen in self.assistants else 404)
        if chosen in self.assistants:
            names, _now = self.assistants[chosen]
            self.assistants[chosen] = [*names, name], len(names) + 1

    def back(self, chosen: str, _: str, number: int) -> None:
        names, _now = self.assistants.get(chosen, ([], 0))
        answer = self.http.post(f"/assistants/{chosen}/latest", json={"version": number})
        assert answer.status_code == (200 if number <= len(names) else 404)
        if number <= len(names):
            self.assistants[chosen] = names, number

    def versions(self, chosen: str, *_: Any) -> None:
        answer = self.http.post(f"/assistants/{chosen}/versions", json={"limit": 100})
        if chosen in self.assistants:
            assert [one["name"] for one in answer.json()] == self.assistants[chosen][0][::-1]
        else:
            assert answer.status_code == 404

    def delete(self, chosen: str, *_: Any) -> None:
        known = self.assistants.pop(chosen, None)
        assert self.http.delete(f"/assistants/{chosen}").status_code == (204 if known else 404)

    def get(self, chosen: str, *_: Any) -> None:
        for path in ("", "/graph", "/schemas", "/subgraphs"):
            answer = self.http.get(f"/assistants/{chosen}{path}")
            assert answer.status_code == (200 if chosen in self.assistants else 404)
        names, now = self.assistants.get(chosen, ([], 0))
        assert self.http.get(f"/assistants/{chosen}").json().get("name") == (names[now - 1] if names else None)

    def check(self) -> None:
        """All that it can list is its own, and nothing of its own is lost or changed."""
        found = self.http.post("/store/items/search", json={"limit": 100, "query": "1"}).json()["items"]
        assert {(".".join(one["namespace"]), one["key"]): one["value"]["n"] for one in found} == self.items
        places = self.http.post("/store/namespaces", json={}).json()["namespaces"]
        assert {".".join(one) for one in places} == {place for place, _ in self.items}
        for place, key in itertools.product((["a"], ["a", "b"], ["b"]), "kl"):
            self.read(place, key, 0)
        for chosen in IDS:
            self.get(chosen)
            self.versions(chosen)
        listed = self.http.post("/assistants/search", json={"graph_id": "react"})
        mine = {one["assistant_id"]: one for one in listed.json() if one["name"] != "react"}
        assert listed.headers["x-pagination-total"] == str(len(self.assistants) + 1)
        expected = {chosen: (names[now - 1], now) for chosen, (names, now) in self.assistants.items()}
        assert {chosen: (one["name"], one["version"]) for chosen, one in mine.items()} == expected

    def clear(self) -> None:
        """Take away what an example has left."""
        for place, key in list(self.items):
            self.drop(place.split("."), key, 0)
        for chosen in list(self.assistants):
            self.delete(chosen)


@settings(max_examples=20, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(ITEMS | CHANGES, max_size=15))
def test_nobody_sees_or_changes_what_is_anothers(https: dict[str, httpx.Client], calls: list[Any]) -> None:
    """Whatever two owners ask for, on the same names and ids, each is answered as if it were alone."""
    owners = {name: Owner(http) for name, http in https.items()}
    try:
        for name, *call in calls:
            owners[name].do(*call)
        for owner in owners.values():
            owner.check()
    finally:
        for owner in owners.values():
            owner.clear()
