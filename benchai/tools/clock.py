"""The current_time tool: date and time in any zone of the IANA database."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache, partial
from zoneinfo import ZoneInfo, available_timezones

import anyio.to_thread
from pydantic import Field

from benchai.errors import ToolError
from benchai.tools.tool import Tool, ToolArgs, ToolContext, shorten

__all__ = ["CURRENT_TIME", "clock_tool", "current_time", "find_zone", "utc_now"]

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UTC_NAMES = frozenset({"", "utc", "gmt", "z"})


class TimeArgs(ToolArgs):
    """Arguments of current_time."""

    timezone: str | None = Field(default=None, description="IANA name, for example Europe/Berlin. Default UTC")


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


def current_time(timezone: str | None = None, now: Callable[[], datetime] = utc_now) -> str:
    """Return the time in a zone, such as `2026-11-22 14:05:09 CET (UTC+01:00), Sunday`.

    `now` returns an aware time. Raises ToolError for a zone that is not known.
    """
    time = now().astimezone(find_zone(timezone or ""))
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    offset = time.isoformat(timespec="seconds")[19:]
    return f"{stamp} {time.tzname()} (UTC{offset}), {_WEEKDAYS[time.weekday()]}"


def find_zone(name: str) -> tzinfo:
    """Return the zone of that IANA name, whatever its case, or the only zone with its last part ("Tokyo").

    Raises ToolError with the nearest names.
    """
    wanted = "_".join(name.casefold().split())
    if wanted in _UTC_NAMES:
        return UTC
    zones = _zones()
    if wanted in zones:
        return ZoneInfo(zones[wanted])
    # a small model knows the city better than the continent: "America/Tokyo" is Tokyo
    city = wanted.rsplit("/", 1)[-1]
    ends = [zones[key] for key in zones if key.rsplit("/", 1)[-1] == city]
    if len(ends) == 1:
        return ZoneInfo(ends[0])
    raise _unknown(name, ends or _nearest(wanted, zones))


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in sorted(available_timezones())}


def _nearest(wanted: str, zones: dict[str, str]) -> list[str]:
    # Both "Europe/Berlln" and "Berlln" should find Europe/Berlin
    by_end = {key.rsplit("/", 1)[-1]: name for key, name in zones.items()}
    keys = difflib.get_close_matches(wanted[:100], [*zones, *by_end], n=3)
    return list(dict.fromkeys(zones.get(key) or by_end[key] for key in keys))


def _unknown(name: str, candidates: list[str]) -> ToolError:
    nearest = ", ".join(candidates) or "Europe/Berlin, America/New_York, UTC"
    word = "nearest" if candidates else "valid names are such as"
    return ToolError(f"there is no time zone {shorten(name)}; {word}: {nearest}")


def clock_tool(now: Callable[[], datetime] = utc_now) -> Tool:
    """Return the current_time tool on the clock `now`, which returns an aware time."""

    async def run(args: TimeArgs, ctx: ToolContext) -> str:
        # The first look at a zone reads the database from disk
        return await anyio.to_thread.run_sync(partial(current_time, args.timezone, now))

    return Tool("current_time", "Tell the current date and time.", TimeArgs, run)


CURRENT_TIME = clock_tool()
