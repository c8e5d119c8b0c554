"""What an operator sees of the fleet: one object a model, plain data."""

from __future__ import annotations

import asyncio
import math
import re
import time
from typing import Any

import httpx

from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.fleet.member import Member
from benchai.runtime.http import local_client

ASK_SECONDS = 1.0
_SPEED = re.compile(r"^llamacpp:predicted_tokens_seconds (\S+)$", re.MULTILINE)


async def status(fleet: Fleet) -> list[dict[str, Any]]:
    """All models in the configuration's order; memory in MiB, times in seconds."""
    return list(await asyncio.gather(*(_one(fleet, name) for name in fleet.loaded.config.models)))


async def _one(fleet: Fleet, name: str) -> dict[str, Any]:
    roles, copied = fleet.loaded.config.roles_of(name), fleet.loaded.config.copied_by(name)
    pace = dict(fleet.dispatcher.copies.shown(name))
    member = fleet.members.get(name)
    if member is None:
        endpoint = fleet.loaded.config.models[name].endpoint
        about = {"state": "remote", "placement": "remote", "endpoint": endpoint, "copy_of": copied}
        return {"model": name, "roles": roles} | about | {"pace": pace}
    supervisor = member.supervisor
    ready = supervisor.ready
    if ready:
        await member.measure(ready.pid)
    speed = await _speed(ready.root) if ready and member.config.metrics else None
    return {
        "model": name,
        "roles": roles,
        "copy_of": copied,
        "pace": pace,
        "state": supervisor.state,
        "since": round(time.monotonic() - supervisor.since, 3),
        "pid": ready.pid if ready else None,
        "port": int(ready.root.rpartition(":")[2]) if ready else None,
        "placement": member.placement if member.claim else member.config.placement,
        "memory": _memory(member),
        "n_ctx": ready.n_ctx if ready else None,
        "slots": member.slots,
        "in_use": member.uses.total,
        "queue": fleet.dispatcher.waiting(name),
        "served": member.uses.served,
        "restarts": supervisor.restarts,
        "retry_after": round(supervisor.retry_after, 1),
        "tokens_per_second": speed,
        "error": supervisor.error.message if supervisor.error and supervisor.state == "failed" else None,
    }


def _memory(member: Member) -> dict[str, Any]:
    found = member.need.estimate if member.need else None
    return {
        "claimed": dict(member.claim),
        "measured": member.measured,
        "estimated": found.total_mib if found else None,
    }


async def _speed(root: str) -> float | None:
    """Tokens generated a second since the engine's last look at its own counters."""
    try:
        async with local_client(timeout=ASK_SECONDS) as client:
            text = (await client.get(f"{root}/metrics")).raise_for_status().text
    except httpx.HTTPError:
        return None
    found = _SPEED.search(text)
    speed = float(found.group(1)) if found else math.nan
    # an engine that has measured no time yet divides by it
    return round(speed, 1) if math.isfinite(speed) else None
