"""The drawing of a thread's path: parallel nodes, nested runs, branches, steps that did not finish."""

from __future__ import annotations

from benchai.graphs.history import Point
from benchai.graphs.path import LABEL_CHARS, draw_path, label


def point(
    number: int,
    *nodes: str,
    parent: int | None = None,
    source: str = "loop",
    then: tuple[str, ...] = (),
    inside: str = "",
    above: int | None = None,
) -> Point:
    return Point(
        checkpoint_id=str(number),
        created="2026-01-01T00:00:00+00:00",
        step=number,
        source=source,
        messages=1,
        last="Do it",
        parent=None if parent is None else str(parent),
        namespace=inside,
        above=None if above is None else str(above),
        nodes=nodes,
        next=then,
    )


def drawn(*points: Point, state: str = "completed") -> list[str]:
    return [line.strip() for line in draw_path(points, state).splitlines()]


BEGIN = (point(1, source="input"), point(2, parent=1, then=("split",)))


def test_nothing_ran() -> None:
    assert drawn() == ["flowchart TD"]
    assert drawn(*BEGIN[:1]) == ["flowchart TD", 'n1(["input"])']


def test_parallel_nodes_with_nested_runs() -> None:
    lines = drawn(
        *BEGIN,
        point(3, "split", parent=2, then=("work", "work")),
        point(4, source="input", inside="work:a", above=3),
        point(5, parent=4, inside="work:a", above=3, then=("think",)),
        point(6, "think", parent=5, inside="work:a", above=3),
        point(7, "work", "work", parent=3, then=("merge",)),
        point(8, "merge", parent=7),
    )
    assert lines == [
        "flowchart TD",
        'n1(["Do it"])',
        'n2["split"]',
        "n1 --> n2",
        'subgraph n3 ["work"]',
        'n4["think"]',
        "end",
        "n2 --> n3",
        'n5["work"]',
        "n2 --> n5",
        'n6["merge"]',
        "n3 --> n6",
        "n5 --> n6",
        'ended(["completed"])',
        "n6 --> ended",
    ]


def test_a_run_that_was_interrupted_inside_a_nested_one() -> None:
    lines = drawn(
        *BEGIN,
        point(4, source="input", inside="split:a", above=2),
        point(5, parent=4, inside="split:a", above=2, then=("act",)),
        state="awaiting_approval",
    )
    assert 'subgraph n2 ["split"]' in lines
    assert 'n3["act"]' in lines
    assert lines[-1] == "class n3,n2 unfinished"
    assert not [line for line in lines if "ended" in line]


def test_a_branch() -> None:
    lines = drawn(
        *BEGIN,
        point(3, "split", parent=2),
        point(4, parent=2, source="fork", then=("split",)),
        point(5, "split", parent=4),
    )
    assert lines.count('n2["split"]') == lines.count('n3["split"]') == 1
    assert "n1 --> n2" in lines
    assert "n1 -. fork .-> n3" in lines
    assert "n3 --> ended" in lines


def test_a_second_task_comes_after_the_first() -> None:
    lines = drawn(
        *BEGIN, point(3, "split", parent=2), point(4, parent=3, source="input"), point(5, parent=4, then=("split",))
    )
    assert "n2 --> n3" in lines
    assert 'n3(["Do it"])' in lines


def test_labels_hold_no_markup() -> None:
    assert label('a "b" <i>c</i> & #1;\nd') == "a #quot;b#quot; #lt;i#gt;c#lt;/i#gt; #amp; #35;1; d"
    assert label("x" * 200) == "x" * (LABEL_CHARS - 3) + "..."
    assert label("a\x1b[2J") == "a[2J"
