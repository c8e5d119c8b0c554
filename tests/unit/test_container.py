"""The memory limits of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchai.runtime.placement.container import Room, narrowed

MACHINE = (1000, 900)
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def group(folder: Path, limit: str, used: str, droppable: int = 0, names: tuple[str, str, str] = V2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(limit)
    (folder / names[1]).write_text(used)
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {droppable}\nfile 7\n")


def seen(tmp_path: Path, own: str) -> Room:
    (tmp_path / "own").write_text(own)
    return narrowed(*MACHINE, tmp_path, tmp_path / "own")


@pytest.mark.parametrize(
    ("limit", "used", "droppable", "expected"),
    [
        ("max\n", "50\n", 0, Room(1000, 900)),
        ("400\n", "100\n", 0, Room(400, 300)),
        ("400\n", "100\n", 60, Room(400, 360)),
        ("400\n", "500\n", 0, Room(400, 0)),
        ("5000\n", "100\n", 0, Room(1000, 900)),
        ("400\n", "10\n", 70, Room(400, 400)),
        ("none of these\n", "100\n", 0, Room(1000, 900)),
    ],
)
def test_a_limit_of_the_own_group(tmp_path: Path, limit: str, used: str, droppable: int, expected: Room) -> None:
    group(tmp_path, limit, used, droppable)
    assert seen(tmp_path, "0::/\n") == expected


def test_the_narrowest_of_all_groups_above_counts(tmp_path: Path) -> None:
    group(tmp_path / "a", "300", "250")
    group(tmp_path / "a" / "b", "600", "10")
    assert seen(tmp_path, "0::/a/b\n") == Room(300, 50)


def test_where_a_group_is_slowed_down_counts_like_its_limit(tmp_path: Path) -> None:
    group(tmp_path, "max", "100")
    (tmp_path / "memory.high").write_text("300\n")
    assert seen(tmp_path, "0::/\n") == Room(300, 200)
    (tmp_path / "memory.max").write_text("250\n")
    assert seen(tmp_path, "0::/\n") == Room(250, 150)


def test_mapped_weights_in_use_can_be_dropped_as_well(tmp_path: Path) -> None:
    group(tmp_path, "400", "350", 50)
    with (tmp_path / "memory.stat").open("a") as stat:
        stat.write("active_file 200\ninactive_anon 30\n")
    assert seen(tmp_path, "0::/\n") == Room(400, 300)


def test_a_controller_may_share_its_hierarchy(tmp_path: Path) -> None:
    group(tmp_path / "memory" / "x", "350", "100", 0, V1)
    assert seen(tmp_path, "4:hugetlb,memory:/x\n") == Room(350, 250)


def test_the_first_version_of_groups(tmp_path: Path) -> None:
    group(tmp_path / "memory" / "docker" / "x", "350", "100", 20, V1)
    group(tmp_path / "cpu" / "docker" / "x", "1", "1", 0, V1)
    assert seen(tmp_path, "5:cpu:/docker/x\n4:memory:/docker/x\n0::/\n") == Room(350, 270)


def test_a_path_of_the_host_is_not_seen_and_the_root_stands_for_it(tmp_path: Path) -> None:
    group(tmp_path, "200", "150")
    assert seen(tmp_path, "0::/system.slice/docker-1.scope\n") == Room(200, 50)
    assert seen(tmp_path, "0::/../other\n") == Room(200, 50)


@pytest.mark.parametrize("own", ["", "no group\n", "0::\n"])
def test_without_groups_there_is_no_limit(tmp_path: Path, own: str) -> None:
    assert seen(tmp_path, own) == Room(*MACHINE)
    assert narrowed(*MACHINE, tmp_path, tmp_path / "missing") == Room(*MACHINE)
