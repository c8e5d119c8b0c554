"""What the memory holds, as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService


async def of_id(memory: MemoryService, ns: Namespace, id: str) -> list[Any]:
    """A fact, a turn, a how-to or a summary; of others their passages."""
    from benchai.memory.ids import unknown

    if id[:1] in ("f", "t"):
        return [await (memory.turn(ns, id) if id.startswith("t") else memory.fact(ns, id))]
    if id[:1] not in ("h", "s"):
        return list(await memory.passages(ns, id))
    known = await (memory.howtos(ns) if id.startswith("h") else memory.summaries(ns))
    found = [one for one in known if one.id == id]
    if not found:
        raise unknown(id)
    return found


def line(one: BaseModel) -> str:
    """A fact, a turn, a how-to, a summary or a thread in words."""
    from benchai.memory.distil import Summary
    from benchai.memory.facts import Known
    from benchai.memory.howtos import Howto
    from benchai.memory.turns import Thread, Turn

    if isinstance(one, Known):
        until = f", until {day(one.invalid_at)}" if one.invalid_at is not None else ""
        return f"{one.id}  {one.text}  ({one.confidence:.2f}, since {day(one.valid_at)}{until})"
    if isinstance(one, Turn):
        return f"{one.id}  {day(one.at)}  {one.name or one.role}: {one.text}"
    if isinstance(one, Howto):
        steps = "".join(f"\n    {place}. {step}" for place, step in enumerate(one.steps, 1))
        return f"{one.id}  {day(one.at)}  {one.workflow}, worked {one.successes} times: {one.task}{steps}"
    if isinstance(one, Summary):
        return f"{one.id}  {day(one.at)}  thread {one.thread}: {one.text or 'to be written anew'}"
    assert isinstance(one, Thread)
    return f"thread {one.thread}  {day(one.last)}  {one.turns} turns"


def day(at: float) -> str:
    """A moment as a day of the machine's time zone, ISO."""
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d")
