"""Markdown of others, as notes: each bullet and paragraph is one, and what is none is counted."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import SourceError
from benchai.memory.notes import LONGEST, read_notes


def said(text: str) -> list[tuple[int, str]]:
    return [tuple(note) for note in read_notes(text.split("\n")).notes]


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("- a\n- b", [(1, "a"), (2, "b")]),
        ("* a\n+ b\n1. c\n2) d", [(1, "a"), (2, "b"), (3, "c"), (4, "d")]),
        ("one\ntwo\n\nthree", [(1, "one two"), (4, "three")]),
        ("# T\n\n- a\n\n## S ##\n\nb", [(3, "T: a"), (7, "S: b")]),
        ("T\n===\na\n\nS\n---\nb", [(3, "T: a"), (7, "S: b")]),
        ("#tag is no heading", [(1, "#tag is no heading")]),
        ("- a\n  - b\n    - c\n- d", [(1, "a"), (2, "a: b"), (3, "a: b: c"), (4, "d")]),
        ("I like:\n\n- tea\n- milk\n\nThe end", [(3, "I like: tea"), (4, "I like: milk"), (6, "The end")]),
        ("- I like:\n  - tea\n  - milk", [(2, "I like: tea"), (3, "I like: milk")]),
        ("- I like:\n- tea", [(1, "I like:"), (2, "tea")]),
        ("- a\n\n  more\n\nnone of it", [(1, "a"), (3, "a: more"), (5, "none of it")]),
        ("- [x] done\n- **bold** one", [(1, "[x] done"), (2, "**bold** one")]),
        ("> said\n> > again > b", [(1, "said again > b")]),
        ("a\n```py\n- x\n\n# y\n```\nb", [(1, "a\n```py\n- x\n\n# y\n```\nb")]),
        ("```\n- x\n```\n- y", [(1, "```\n- x\n```"), (4, "y")]),
        ("| a | b |\n| - | - |\n| 1 | 2 |", [(1, "| a | b |\n| - | - |\n| 1 | 2 |")]),
        ("<!-- x\n- y --> z", [(2, "z")]),
        ("---\na: b\n---\nc", [(4, "c")]),
        ("---\nc", [(2, "c")]),
        ("a ```code``` b\n\n```x``` y\n\nz", [(1, "a ```code``` b"), (3, "```x``` y"), (5, "z")]),
        ("\ta\r\n\r\nb", [(1, "a"), (3, "b")]),
        ("", []),
    ],
)
def test_each_bullet_and_paragraph_is_a_note(text: str, notes: list[tuple[int, str]]) -> None:
    assert said(text) == notes


def test_what_is_no_note_is_counted() -> None:
    text = "---\nx: y\n---\n# T\n\n-\n\n***\n<!-- c -->\n<!-- d\n-->\n\na"
    assert read_notes(text.split("\n")).skipped == {
        "lines of front matter": 3,
        "headings": 1,
        "empty bullets": 1,
        "rules": 1,
        "comments": 2,
    }


def test_a_long_paragraph_becomes_several_notes() -> None:
    text = "word " * 3000
    notes = read_notes(["# T", text]).notes
    assert len(notes) > 3
    assert all(note.line == 2 and len(note.text) <= LONGEST for note in notes)
    assert "".join(note.text.removeprefix("T: ") for note in notes).replace(" ", "") == text.replace(" ", "")


def test_a_comment_without_an_end_is_named() -> None:
    with pytest.raises(SourceError, match="line 2 of the import"):
        read_notes(["a", "<!-- b", "c"])


PIECES = st.sampled_from(
    ["- w{}", "  - w{}", "w{}:", "# w{}", "> w{}", "```", "| w{} |", "---", "===", "", "1. w{}", "    w{}", "w{}", "-"]
)


@given(st.lists(PIECES, max_size=25))
def test_no_word_is_lost(pieces: list[str]) -> None:
    lines = [piece.format(number) for number, piece in enumerate(pieces)]
    found = read_notes(lines)
    kept = {word for note in found.notes for word in re.findall(r"w\d+", note.text)}
    for number, line in enumerate(lines):
        # headings without a note below are counted; so is front matter
        if f"w{number}" in line and f"w{number}" not in kept:
            assert found.skipped["headings"] or found.skipped["lines of front matter"]
    if not found.skipped["headings"] and not found.skipped["lines of front matter"]:
        assert kept == set(re.findall(r"w\d+", " ".join(lines)))
    assert all(note.text.strip() == note.text != "" for note in found.notes)
