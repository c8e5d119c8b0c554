"""What a workflow's graph looks like from outside: its drawing, the schemas of its state, its subgraphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, get_type_hints
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter

from benchai.server.agent.bodies import shown
from benchai.server.agent.service import Unprocessable

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

Schema = dict[str, Any]
#: graph -> its schemas: those of messages take a tenth of a second to make
_made: WeakKeyDictionary[Any, dict[str, Schema | None]] = WeakKeyDictionary()


def depth_of(xray: str) -> bool | int:
    """How deep subgraphs are drawn: not at all, wholly, or so many levels.

    Raises:
        Unprocessable: it is neither "true" nor "false" nor a number above 0.
    """
    if xray.lower() in ("true", "false"):
        return xray.lower() == "true"
    if xray.isascii() and xray.isdigit() and len(xray) < 10 and int(xray):
        return int(xray)
    raise Unprocessable(f"xray is {shown(xray)}", hint="give it true, false, or a number of levels above 0")


def drawing(graph: Pregel[Any, Any, Any, Any], xray: bool | int) -> dict[str, list[Any]]:
    """Nodes and edges."""
    drawn: dict[str, list[Any]] = graph.get_graph(xray=xray).to_json()
    return drawn | {"nodes": [_bare(node) for node in drawn["nodes"]]}


def schemas(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Schema | None]:
    """JSON schemas of a graph's input, output, state and context; None for what has none."""
    if graph not in _made:
        _made[graph] = _schemas(graph)
    return _made[graph]


def _schemas(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Schema | None]:
    builder = getattr(graph, "builder", None)
    name = graph.get_name()
    return {
        "input_schema": _or_none(graph.get_input_jsonschema) or _by_keys(builder, "input_schema", f"{name}_input"),
        "output_schema": _or_none(graph.get_output_jsonschema) or _by_keys(builder, "output_schema", f"{name}_output"),
        "state_schema": _by_keys(builder, "state_schema", f"{name}_state"),
        "config_schema": {},
        "context_schema": _or_none(graph.get_context_jsonschema),
    }


def subgraphs(graph: Pregel[Any, Any, Any, Any], namespace: str | None, recurse: bool) -> dict[str, Any]:
    """The schemas of the subgraphs that are nodes, by their namespace."""
    found: Iterable[tuple[str, Any]] = graph.get_subgraphs(namespace=namespace, recurse=recurse)
    return {name: schemas(one) for name, one in found}


def _bare(node: dict[str, Any]) -> dict[str, Any]:
    """A node without the Python class that it is made of."""
    data = node.get("data")
    return node | {"data": {"name": data["name"]}} if isinstance(data, dict) and "name" in data else node


def _or_none(make: Callable[[], Schema | None]) -> Schema | None:
    try:
        return make()
    except Exception:
        # a user's types may fail in any way: pydantic takes no typing.TypedDict before Python 3.12, and no context
        # whose fields are objects
        return None


def _by_keys(builder: Any, which: str, title: str) -> Schema | None:
    """The schema of a state, key by key; a key whose type has no schema may hold anything."""
    found = getattr(builder, which, None)
    hints = _or_none(lambda: get_type_hints(found))
    if not hints:
        return None
    kinds = list(_adapters(hints))
    made, shared = TypeAdapter.json_schemas(kinds)
    properties = {key: {"default": None, "title": _title(key), **made[key, "validation"]} for key, _, _ in kinds}
    return {"properties": properties, "title": title, "type": "object", **shared}


def _adapters(hints: dict[str, Any]) -> Iterable[tuple[str, Any, TypeAdapter[Any]]]:
    for key, kind in hints.items():
        able = _or_none(lambda kind=kind: TypeAdapter(kind).json_schema()) is not None  # type: ignore[misc]
        yield key, "validation", TypeAdapter(kind if able else Any)


def _title(key: str) -> str:
    return key.replace("_", " ").title()
