"""Where links lead, which notes are neighbours, and which piece the part of a link means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.memory.types import Link, Piece
from benchai.memory.vault.resolve import Graph, Names, piece_of

PATHS = [
    "Home.md", "Log.md", "jobs/Log.md", "jobs/plan.md", "jobs/old/plan.md", "home/plan.md", "home/deep/er/x.md",
    "pics/Cat.PNG", "jobs/pics/cat.png", "v1.2.md", "jobs/Ideas/Ideas.md", "Café.md",
]  # fmt: skip
NAMES = Names(PATHS, {"home/plan.md": ["House", "log"], "jobs/plan.md": ["Roadmap", "house"]})


@pytest.mark.parametrize(
    ("target", "note", "expected"),
    [
        ("home", "Log.md", "Home.md"),
        ("Home.md", "jobs/plan.md", "Home.md"),
        ("Log", "jobs/plan.md", "Log.md"),
        ("jobs/log", "Home.md", "jobs/Log.md"),
        ("./Log", "jobs/plan.md", "jobs/Log.md"),
        ("../home/plan", "jobs/plan.md", "home/plan.md"),
        ("../../x", "jobs/plan.md", None),
        ("/plan", "jobs/plan.md", None),
        ("/jobs/plan.md", "Home.md", "jobs/plan.md"),
        ("plan", "jobs/old/a.md", "jobs/old/plan.md"),
        ("plan", "jobs/Log.md", "jobs/plan.md"),
        ("plan", "home/deep/er/x.md", "home/plan.md"),
        ("plan", "Home.md", "home/plan.md"),
        ("old/plan", "Home.md", "jobs/old/plan.md"),
        ("ld/plan", "Home.md", None),
        ("er/x", "Home.md", "home/deep/er/x.md"),
        ("cat.png", "jobs/plan.md", "jobs/pics/cat.png"),
        ("cat.png", "Home.md", "pics/Cat.PNG"),
        ("cat", "Home.md", None),
        ("v1.2", "Home.md", "v1.2.md"),
        ("Ideas/Ideas", "Home.md", "jobs/Ideas/Ideas.md"),
        ("jobs\\plan", "Home.md", "jobs/plan.md"),
        ("Cafe\u0301", "Home.md", "Café.md"),
        ("Roadmap", "Home.md", "jobs/plan.md"),
        ("HOUSE", "jobs/Log.md", "jobs/plan.md"),
        ("HOUSE", "home/plan.md", "home/plan.md"),
        ("log", "home/plan.md", "Log.md"),
        ("", "jobs/plan.md", "jobs/plan.md"),
        ("nothing", "Home.md", None),
        ("..", "jobs/plan.md", None),
        ("\0", "jobs/plan.md", None),
    ],
)
def test_where_a_link_leads(target: str, note: str, expected: str | None) -> None:
    assert NAMES.resolve(target, note) == expected


@given(st.permutations(PATHS), st.sampled_from(["plan", "log", "cat.png", "HOUSE"]), st.sampled_from(PATHS))
def test_the_order_of_the_paths_does_not_matter(paths: list[str], target: str, note: str) -> None:
    aliases = {"jobs/plan.md": ["house", "Roadmap"], "home/plan.md": ["log", "House"]}
    assert Names(paths, aliases).resolve(target, note) == NAMES.resolve(target, note)


@given(st.text(max_size=30), st.sampled_from(PATHS))
def test_any_target_leads_to_a_path_or_nowhere(target: str, note: str) -> None:
    assert NAMES.resolve(target, note) in [*PATHS, None]


def links(*written: str) -> list[Link]:
    return [Link(target=target) for target in written]


def test_neighbours_are_linked_and_linking_notes() -> None:
    names = Names(["a.md", "b.md", "c.md", "d.png"])
    graph = Graph(names, {"a.md": links("b", "d.png", "b", "gone", ""), "b.md": links("c"), "c.md": links("A")})
    assert graph.linked("a.md") == ["b.md", "d.png"]
    assert graph.linking("a.md") == ["c.md"]
    assert graph.neighbours("a.md") == ["b.md", "d.png", "c.md"]
    assert graph.neighbours("b.md") == ["c.md", "a.md"]
    assert graph.neighbours("d.png") == ["a.md"]
    assert graph.neighbours("unknown.md") == []
    assert [(one.note, one.link.target) for one in graph.unresolved] == [("a.md", "gone")]


PIECES = [
    Piece(text="# A\nfirst", heading="A"),
    Piece(text="second ^id-1\n\nthird", heading="A > B: c"),
    Piece(text="- last ^id", heading="B"),
]


@pytest.mark.parametrize(
    ("part", "expected"),
    [("A", 0), ("a", 0), ("B c", 1), ("A#B c", 1), ("B", 2), ("^id-1", 1), ("^id", 2), ("^ID", 2), ("^i", None),
     ("C", None), ("", None), ("#", None)],
)  # fmt: skip
def test_the_piece_that_a_part_means(part: str, expected: int | None) -> None:
    assert piece_of(PIECES, part) == (None if expected is None else PIECES[expected])
