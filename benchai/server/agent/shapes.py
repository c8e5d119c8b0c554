"""What threads and states look like on the wire, and how what a graph's state holds becomes plain data."""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.responses import Response

from benchai.server.agent.database import Row, from_json
from benchai.server.agent.service import iso

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

_OPTIONS = orjson.OPT_NON_STR_KEYS
# JSON's readers elsewhere know no wider whole numbers
_WHOLE = range(-(2**63), 2**64)
# orjson takes no deeper ones
_DEEPEST = 200
_TOO_DEEP = "(nested too deep)"
_ITSELF = "(nested in itself)"
# of a checkpoint's configuration; all else is LangGraph's own
_CHECKPOINT = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")
_INTERNAL = "langgraph_"


def json_bytes(value: Any) -> bytes:
    """Anything that a state or an event holds as JSON; see ``jsonable``."""
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS)
    except (TypeError, RecursionError):
        # a lone surrogate, a number beyond 64 bits, a key that is no text, or deeply nested: rare, and slow
        return orjson.dumps(_mended(value))


def jsonable(value: Any) -> Any:
    """Plain data of anything that a state or an event holds; it never fails.

    Messages and pydantic's models by ``model_dump``, dataclasses and enumerations by what they hold, sets as lists,
    bytes in base64, times in ISO 8601, durations in seconds, exceptions by ``repr``, anything else by ``str``. What
    JSON cannot carry is replaced: lone surrogates by "?", NaN and infinity by None, whole numbers beyond 64 bits by
    the nearest float, what is nested deeper than 200 levels or in itself by a note.
    """
    return orjson.loads(json_bytes(value))


def _plain(value: Any) -> Any:
    """A step towards plain data, for what orjson does not know."""
    try:
        if not isinstance(value, type) and hasattr(value, "model_dump"):
            return value.model_dump()
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, tuple | set | frozenset | deque):
            return list(value)
        return _scalar(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _scalar(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case re.Pattern():
            return value.pattern
        case BaseException():
            return repr(value)
        case _:
            return str(value)


def _mended(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Plain data that orjson takes whatever it is; slow. ``above`` are the ids of what it is nested in."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return _number(value)
    if id(value) in above or len(above) > _DEEPEST:
        return _ITSELF if id(value) in above else _TOO_DEEP
    here = (*above, id(value))
    if isinstance(value, Mapping):
        return {_key(key): _mended(one, here) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_mended(one, here) for one in value]
    return _mended(_shallow(value), here)


def _shallow(value: Any) -> Any:
    """What an object holds, as far as orjson knows its kind."""
    if not isinstance(value, type) and hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name, None) for name in value.__dataclass_fields__}
    plain = _plain(value)
    if isinstance(plain, str):
        try:
            # times, UUIDs and enumerations
            return orjson.loads(orjson.dumps(value))
        except TypeError:
            return plain
    return plain


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def _number(value: int) -> Any:
    if value in _WHOLE:
        return int(value)
    try:
        return float(value)
    except OverflowError:
        return None


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(key)
    try:
        return str(next(iter(orjson.loads(orjson.dumps({key: None}, option=_OPTIONS)))))
    except TypeError:
        return _text(str(_plain(key)))


class Wire(Response):
    """An answer of plain data, or of what ``jsonable`` takes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json_bytes(content)


def thread_json(row: Row, values: bool = True) -> dict[str, Any]:
    """A thread of the table ``threads``.

    Args:
        row: All columns, or all but ``state`` where ``values`` is false.
        values: Whether its state goes with it, which may be large.
    """
    shown = {
        "thread_id": row["thread_id"],
        "created_at": iso(row["created"]),
        "updated_at": iso(row["updated"]),
        "state_updated_at": iso(row["state_updated"]),
        "metadata": from_json(row["metadata"]),
        "status": row["status"],
        "config": from_json(row["config"]),
    }
    if values:
        shown["values"] = from_json(row["state"])
    return shown | {"error": from_json(row["error"]), "interrupts": from_json(row["interrupts"])}


def state_json(snapshot: StateSnapshot, thread_id: str) -> dict[str, Any]:
    """A state of a thread as plain data.

    Args:
        snapshot: What LangGraph says of it; those of nested graphs go with it where it holds them.
        thread_id: The thread's id on the wire, in place of its inner one.
    """
    checkpoint = _checkpoint_json(snapshot.config, thread_id)
    parent = _checkpoint_json(snapshot.parent_config, thread_id)
    return {
        "values": jsonable(snapshot.values),
        "next": list(snapshot.next),
        "tasks": [_task_json(task, thread_id) for task in snapshot.tasks],
        "metadata": _metadata_json(snapshot.metadata, thread_id),
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": _interrupts(snapshot.interrupts),
        "checkpoint_id": checkpoint and checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }


def no_state_json() -> dict[str, Any]:
    """The state of a thread that has none yet."""
    empty: dict[str, Any] = dict.fromkeys(("values", "next", "tasks", "metadata", "created_at", "checkpoint"))
    return empty | {
        "values": {},
        "next": [],
        "tasks": [],
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }


def place_json(config: Mapping[str, Any], thread_id: str) -> dict[str, Any]:
    """Where a state is, or will be: a checkpoint's configuration as clients may see it."""
    configurable = config.get("configurable", {})
    shown = {name: jsonable(configurable[name]) for name in _CHECKPOINT if name in configurable}
    return shown | {"thread_id": thread_id}


def interrupts_json(snapshot: StateSnapshot) -> dict[str, list[dict[str, Any]]]:
    """What a thread waits for, by task: the column ``interrupts``."""
    return {str(task.id): _interrupts(task.interrupts) for task in snapshot.tasks if task.interrupts}


def _checkpoint_json(config: Mapping[str, Any] | None, thread_id: str) -> dict[str, Any] | None:
    if config is None or "checkpoint_id" not in config.get("configurable", {}):
        return None
    return place_json(config, thread_id)


def _interrupts(found: Iterable[Any]) -> list[dict[str, Any]]:
    return [{"id": one.id, "value": jsonable(one.value)} for one in found]


def _task_json(task: Any, thread_id: str) -> dict[str, Any]:
    nested = task.state
    inner = isinstance(nested, Mapping)
    return {
        "id": task.id,
        "name": task.name,
        "path": jsonable(task.path),
        # a task that was cancelled has not failed
        "error": None if task.error is None or "CancelledError" in repr(task.error)[:40] else jsonable(task.error),
        "interrupts": _interrupts(task.interrupts),
        "checkpoint": place_json(nested, thread_id) if inner else None,
        "state": None if nested is None or inner else state_json(nested, thread_id),
        "result": jsonable(task.result),
    }


def _metadata_json(metadata: Mapping[str, Any] | None, thread_id: str) -> dict[str, Any] | None:
    if metadata is None:
        return None
    shown: dict[str, Any] = jsonable({name: one for name, one in metadata.items() if not name.startswith(_INTERNAL)})
    return shown | {"thread_id": thread_id}
