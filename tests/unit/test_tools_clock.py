"""current_time: zones, their names and the mistakes that models make with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchai.errors import ToolError
from benchai.tools.clock import clock_tool, current_time, find_zone, utc_now
from benchai.tools.tool import ToolContext


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def autumn() -> datetime:
    return datetime(2026, 11, 22, 13, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        (None, "2026-11-22 13:05:09 UTC (UTC+00:00), Sunday"),
        ("", "2026-11-22 13:05:09 UTC (UTC+00:00), Sunday"),
        ("utc", "2026-11-22 13:05:09 UTC (UTC+00:00), Sunday"),
        ("Europe/Berlin", "2026-11-22 14:05:09 CET (UTC+01:00), Sunday"),
        (" europe/berlin ", "2026-11-22 14:05:09 CET (UTC+01:00), Sunday"),
        ("Tokyo", "2026-11-22 22:05:09 JST (UTC+09:00), Sunday"),
        ("New York", "2026-11-22 08:05:09 EST (UTC-05:00), Sunday"),
        ("Asia/Kathmandu", "2026-11-22 18:50:09 +0545 (UTC+05:45), Sunday"),
        ("Pacific/Kiritimati", "2026-11-23 03:05:09 +14 (UTC+14:00), Monday"),
    ],
)
def test_time_in_zone(zone: str | None, text: str) -> None:
    assert current_time(zone, autumn) == text


@pytest.mark.parametrize(
    ("zone", "named"),
    [
        ("Europe/Berlln", "Europe/Berlin"),
        ("Berlln", "Europe/Berlin"),
        ("Indianapolis", "America/Indiana/Indianapolis"),
        ("qqqqqq", "valid names are such as: Europe/Berlin"),
        ("../../etc/passwd", "there is no time zone"),
        ("\0", "there is no time zone"),
        ("x" * 10_000, "there is no time zone"),
    ],
)
def test_unknown_zone_names_the_nearest(zone: str, named: str) -> None:
    with pytest.raises(ToolError) as raised:
        current_time(zone, autumn)
    assert named in str(raised.value)
    assert len(str(raised.value)) < 400


def test_default_clock_is_now() -> None:
    assert abs(utc_now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert current_time().endswith("day")


@pytest.mark.anyio
async def test_tool_tells_the_time_of_its_clock(tmp_path: Path) -> None:
    tool = clock_tool(autumn)
    result = await tool.invoke({"timezone": None}, ToolContext(tmp_path))
    assert result.ok
    assert result.text == "2026-11-22 13:05:09 UTC (UTC+00:00), Sunday"


def test_a_city_on_the_wrong_continent_is_found() -> None:
    assert str(find_zone("America/Tokyo")) == "Asia/Tokyo"
