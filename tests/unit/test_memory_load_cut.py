"""Cutting: no character is lost, the lines are true, no piece is too long."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.memory.cut import Cutting, cut
from benchai.memory.loaders import Reader, read_text
from benchai.memory.sections import Loaded, Section, clean
from benchai.memory.types import Document

_LINES = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=120),
        st.sampled_from(
            [
                "",
                "",
                "# One",
                "## Two",
                "```",
                "- item",
                "def f(a):",
                "    return a",
                "class A:",
                "x,y",
                '"a',
                "---",
                "key: v",
                "a long line with \x01 and\t\x0c and \x85 and \u2028",
            ]
        ),
        st.text("ab. ", min_size=100, max_size=400),
    ),
    max_size=40,
)


def read(name: str, text: str, cutting: Cutting) -> Document | None:
    """None where it holds nothing."""
    return Reader(cutting)(name, text.encode()) if clean(text).strip() else None


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "a.ts", "a.rb", "a.json"])
@given(lines=_LINES, size=st.integers(64, 400))
def test_every_character_is_in_a_piece_whose_place_is_true(name: str, lines: list[str], size: int) -> None:
    text = "\n".join(line.replace("\ufeff", "").replace("\r", "") for line in lines)
    document = read(name, text, Cutting(size, 0))
    if document is None:
        return
    text = clean(text)
    missing, position = list(text), 0
    for piece in document.pieces:
        assert len(piece.text) <= size
        assert piece.line is not None
        assert piece.end_line is not None
        start = _find(text, piece.text, piece.line, position)
        assert text.count("\n", 0, start + len(piece.text) - 1) + 1 == piece.end_line
        missing[start : start + len(piece.text)] = " " * len(piece.text)
        position = start + len(piece.text)
    assert not "".join(missing).strip()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(64, 400))
def test_with_overlaps_too_every_word_is_in_a_piece(lengths: list[int], size: int) -> None:
    numbers = iter(range(10_000))
    text = "\n".join(" ".join(f"w{next(numbers)}." for _ in range(length)) for length in lengths)
    document = read("a.md", text, Cutting(size, size // 4))
    assert document is not None
    assert {word for piece in document.pieces for word in piece.text.split()} == set(text.split())
    for piece in document.pieces:
        assert len(piece.text) <= size
        assert piece.text in text
        assert text.split("\n")[(piece.line or 0) - 1].find(piece.text.split()[0]) >= 0
        assert text.split("\n")[(piece.end_line or 0) - 1].find(piece.text.split()[-1]) >= 0


def _find(text: str, part: str, line: int, position: int) -> int:
    """Where a piece stands: at the first place, from that of the one before it, that is on its line."""
    while (position := text.find(part, position)) >= 0:
        if text.count("\n", 0, position) + 1 == line:
            return position
        position += 1
    raise AssertionError(f"{part!r} is not on line {line}")


@given(lines=_LINES, size=st.integers(64, 400))
def test_rows_of_a_table_are_all_there(lines: list[str], size: int) -> None:
    text = "head,er\n" + "\n".join(line.replace("\ufeff", "").replace("\r", "") for line in lines)
    document = read("a.csv", text, Cutting(size, 0))
    assert document is not None
    assert max(len(piece.text) for piece in document.pieces) <= size
    first, *others = [piece.text for piece in document.pieces]
    assert all(other.startswith("head,er\n") for other in others)
    told = first + "".join(other.removeprefix("head,er\n") for other in others)
    assert "".join(told.split()) == "".join(clean(text).split())


def test_one_line_of_a_megabyte_is_cut_into_pieces_of_bounded_size() -> None:
    for name, line in (("a.txt", "x" * 1_000_000), ("a.md", "word " * 200_000), ("a.csv", "1," * 500_000)):
        document = Reader()(name, line.encode())
        sizes = [len(piece.text) for piece in document.pieces]
        assert max(sizes) <= 1200
        assert min(sizes) >= 300
        assert {(piece.line, piece.end_line) for piece in document.pieces} == {(1, 1)}


def test_a_desert_of_blanks_is_crossed_in_one_step() -> None:
    # were it not, this would take an hour
    for blanks in (" " * 8_000_000, " \n" * 4_000_000):
        pieces = Reader()("a.txt", f"one{blanks}two".encode()).pieces
        assert [piece.text for piece in pieces] == ["one", "two"]
        assert pieces[1].line == blanks.count("\n") + 1


def test_prose_is_cut_between_sentences_and_overlaps_by_whole_ones() -> None:
    sentences = [f"This is the sentence number {number} of them." for number in range(60)]
    pieces = Reader(Cutting(400, 80))("a.txt", " ".join(sentences).encode()).pieces
    for before, after in pairwise(pieces):
        assert before.text.endswith("of them.")
        assert after.text.startswith("This is")
        repeated = re.findall(r"number \d+", after.text)[0]
        assert repeated in before.text


def test_code_does_not_overlap() -> None:
    lines = [f"    total_{number} = compute(number={number})  # One. Two." for number in range(200)]
    pieces = Reader()("a.py", "\n".join(["def f():", *lines]).encode()).pieces
    assert len(pieces) > 5
    assert [piece.line for piece in pieces[1:]] == [(piece.end_line or 0) + 1 for piece in pieces[:-1]]
    assert {piece.heading for piece in pieces} == {"f"}


def test_no_piece_crosses_a_section_and_pages_are_kept() -> None:
    text = "Page one.\n\nPage two."
    sections = [Section(0, 9, "H1", page=1), Section(11, 20, "H2", page=2)]
    pieces = list(cut(Loaded(text, "pdf", sections, lined=False), Cutting()))
    assert [(piece.text, piece.heading, piece.page, piece.line) for piece in pieces] == [
        ("Page one.", "H1", 1, None),
        ("Page two.", "H2", 2, None),
    ]


@pytest.mark.parametrize(("size", "overlap"), [(63, 0), (100, 26), (100, -1)])
def test_settings_that_make_no_sense_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=repr(size)):
        Cutting(size, overlap)


def test_a_document_of_many_small_sections_takes_time_in_proportion() -> None:
    loaded = read_text("a.md", b"\n".join(b"# H%d\ntext" % number for number in range(5_000)))
    assert len(loaded.sections) == 5_000
    assert sum(1 for _ in cut(loaded, Cutting())) == 5_000
