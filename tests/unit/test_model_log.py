"""The log of an engine: a disk that takes no more must not keep its end from being seen through."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchai.runtime.fleet.logs import ModelLog

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full"),
]


async def test_a_full_disk_loses_lines_of_the_file_only(tmp_path: Path) -> None:
    (tmp_path / "m.log").symlink_to("/dev/full")
    log = ModelLog("m", tmp_path)
    log.add("one")
    log.add("two")
    assert list(log.lines) == ["one", "two"]
    log.close()
