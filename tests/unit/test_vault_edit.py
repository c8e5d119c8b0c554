"""Text put into a note under a heading or at its end, and paths that notes can have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import UsageError
from benchai.memory.vault.edit import appended
from benchai.memory.vault.folder import note_parts


@pytest.mark.parametrize(
    ("text", "addition", "heading", "expected"),
    [
        ("a\n", "b", None, "a\nb\n"),
        ("a", "b\n", "", "a\nb\n"),
        ("", "b", None, "b\n"),
        ("\ufeff", "b", None, "\ufeffb\n"),
        ("a\r\nb\r\n", "c\nd", None, "a\r\nb\r\nc\r\nd\r\n"),
        ("a\r\nb\nc\r\n", "d", None, "a\r\nb\nc\r\nd\r\n"),
        ("# A\n\nx\n\n# B\ny\n", "z", "A", "# A\n\nx\nz\n\n# B\ny\n"),
        ("# A\nx\n# B\ny\n", "z", "a", "# A\nx\nz\n\n# B\ny\n"),
        ("# A\nx\n## B\ny\n", "z", "A", "# A\nx\nz\n\n## B\ny\n"),
        ("# A\nx\n", "z", "## A", "# A\nx\nz\n"),
        ("# A", "z", "A", "# A\nz\n"),
        ("# A\n\n\n# B\n", "z", "A", "# A\nz\n\n\n# B\n"),
        ("# A\r\nx\r\n\r\n# B\r\n", "z", "A", "# A\r\nx\r\nz\r\n\r\n# B\r\n"),
        ("One\n===\nx\n\nTwo\n---\ny\n", "z", "One", "One\n===\nx\nz\n\nTwo\n---\ny\n"),
        ("x\n", "z", "New", "x\n\n## New\n\nz\n"),
        ("x\n\n", "z", "# New", "x\n\n# New\n\nz\n"),
        ("", "z", "New", "## New\n\nz\n"),
        ("x", "z", "New", "x\n\n## New\n\nz\n"),
        ("```\n# A\n```\nx\n", "z", "A", "```\n# A\n```\nx\n\n## A\n\nz\n"),
        ("%%\n# A\n%%\n\n# A\nx\n", "z", "A", "%%\n# A\n%%\n\n# A\nx\nz\n"),
        ("---\n# A: 1\nb: 2\n---\nx\n", "z", "A: 1", "---\n# A: 1\nb: 2\n---\nx\n\n## A: 1\n\nz\n"),
        ("---\na: 1\n---\n", "z", None, "---\na: 1\n---\nz\n"),
        ("# A\n## T\na\n# B\n## T\nb\n", "z", "B#T", "# A\n## T\na\n# B\n## T\nb\nz\n"),
        ("# **A** [[n|b]]\nx\n# C\n", "z", "A b", "# **A** [[n|b]]\nx\nz\n\n# C\n"),
        ("# A\nx\n\n\n", "z", "A", "# A\nx\nz\n\n\n"),
    ],
)
def test_lines_are_put_where_they_belong(text: str, addition: str, heading: str | None, expected: str) -> None:
    assert appended(text, addition, heading) == expected


@pytest.mark.parametrize("heading", ["a\nb", "#", "##  ", " # # "])
def test_a_heading_that_is_none_is_refused(heading: str) -> None:
    with pytest.raises(UsageError, match="no heading"):
        appended("x\n", "y", heading)


LINES = st.lists(
    st.sampled_from(["# A", "## B", "A", "===", "text", "", "```", "- x", "%%", "---", "> # A"]), max_size=15
)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.sampled_from([None, "A", "B", "C"]), st.booleans())
def test_nothing_but_the_addition_changes(lines: list[str], end: str, heading: str | None, ended: bool) -> None:
    text = end.join(lines) + (end if ended and lines else "")
    new = appended(text, "ADDED", heading)
    before, found, behind = new.partition("ADDED")
    assert found
    # what was there is there still, in order; line ends and a heading may come with the addition
    head = next(n for n in range(len(text), -1, -1) if before.startswith(text[:n]) and behind.endswith(text[n:]))
    rest = before[head:] + behind[: len(behind) - len(text) + head]
    assert rest.replace(f"## {heading}", "").strip() == ""
    assert appended(new, "AGAIN", heading).count("AGAIN") == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", ["a.md"]),
        ("a.md", ["a.md"]),
        ("a.MD", ["a.MD"]),
        ("f/g h/a.b", ["f", "g h", "a.b.md"]),
        (" a ", ["a.md"]),
        ("Cafe\u0301", ["Café.md"]),
        ("家/👩\u200d💻", ["家", "👩\u200d💻.md"]),
    ],
)
def test_paths_of_notes(path: str, expected: list[str]) -> None:
    assert note_parts(path) == expected


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "a/", "a//b", "../a", "a/../b", "./a", ".obsidian/a", ".Obsidian/a", "a/.hidden/b", ".md", ".a.md",
     "\u200b.obsidian/a", "a\\b", "c:a", "a*", "a?", 'a"b', "a<b", "a>b", "a|b", "a#b", "a^b", "a[b", "a]b", "a\0b",
     "a\nb", "a\ud800", "con", "NUL.md", "Com1/a", "aux.x.md", "a ./b", "a./b", "a .md", "x" * 300, "é" * 150,
     "/".join("a" * 40)],
)  # fmt: skip
def test_paths_that_no_note_can_have(path: str) -> None:
    with pytest.raises(UsageError, match=r"no path of a note|folders"):
        note_parts(path)
