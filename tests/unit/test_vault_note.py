"""Notes as Obsidian writes them: what counts as a link, a tag, a block id, a property, and what is searched."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import SourceError
from benchai.memory.types import Link
from benchai.memory.vault.mask import blank, find_hidden
from benchai.memory.vault.note import parse_note
from benchai.memory.vault.reader import NoteReader

READ = NoteReader("/v")


def targets(text: str) -> list[str]:
    return [f"{link.target}#{link.part}" if link.part else link.target for link in parse_note(text, "n").links]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[Note]]", Link(target="Note")),
        ("[[Note|shown]]", Link(target="Note")),
        ("[[Note#Heading]]", Link(target="Note", part="Heading")),
        ("[[Note#A#B|shown]]", Link(target="Note", part="A#B")),
        ("[[Note#^id]]", Link(target="Note", part="^id")),
        ("[[#Heading here]]", Link(target="", part="Heading here")),
        ("![[Note]]", Link(target="Note", kind="embed")),
        ("![[a/b.png|100x80]]", Link(target="a/b.png", kind="embed")),
        ("| [[Note\\|shown]] | x |", Link(target="Note")),
        ("[x](folder/a%20b.md#h%C3%A9)", Link(target="folder/a b.md", part="hé")),
        ("[x](<a b.md>)", Link(target="a b.md")),
        ('[x](a.md "a title")', Link(target="a.md")),
        ("[x](a_(b).md)", Link(target="a_(b).md")),
        ("[x [y] z](a.md)", Link(target="a.md")),
        ("[x](a%23b.md)", Link(target="a#b.md")),
        ("![x](a.png)", Link(target="a.png", kind="embed")),
        ("[x](#here)", Link(target="", part="here")),
        ("> quoted [[Note]]", Link(target="Note")),
        ("> [!note] callout [[Note]]", Link(target="Note")),
        ("- item\n\n    [[Note]]", Link(target="Note")),
        ("# [[Note]]", Link(target="Note")),
        ("100%% [[Note]]", Link(target="Note")),
        ("a ` b [[Note]]", Link(target="Note")),
        ("\\` [[Note]] `", Link(target="Note")),
        ('---\nup: "[[Note|x]]"\n---\n', Link(target="Note")),
        ("---\nlist:\n  - '[[Note]]'\n---\n", Link(target="Note")),
    ],
)
def test_a_link_is_found(text: str, expected: Link) -> None:
    assert parse_note(text, "n").links == (expected,)


@pytest.mark.parametrize(
    "text",
    [
        "`[[x]]`",
        "``a ` [[x]]``",
        "`two\nlines [[x]]`",
        "```\n[[x]]\n```",
        "~~~md\n[[x]]\n```\n[[x]]\n~~~",
        "````\n```\n[[x]]\n````",
        "```\n[[x]] never closed",
        "> ```\n> [[x]]\n> ```",
        "- ```\n  [[x]]\n  ```",
        "text\n\n    [[x]]",
        "\t[[x]]",
        "%% [[x]] %%",
        "%%\n\n[[x]]\n%%",
        "%% ` %% `[[x]]`",
        "\\[[x]]",
        "[[]]",
        "[[ ]]",
        "[[a\nb]]",
        "[x](https://a.b/c.md)",
        "[x](mailto:a.md)",
        "[x](//a.b/c.md)",
        "[x](page)",
        "[x](a b.md)",
        "\\[x](a.md)",
    ],
)
def test_a_link_is_none(text: str) -> None:
    assert targets(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("> ```\n> [[no]]\n[[yes]]", ["yes"]),
        ("```\n[[no]]\n```\n[[yes]]", ["yes"]),
        ("`%%` [[yes]] `%%`", ["yes"]),
        ("%% `` %% [[yes]]", ["yes"]),
        ("```a`b [[yes]]", ["yes"]),
        ("a `open\n\n[[yes]] ` b", ["yes"]),
        ("[[a]] [[b]] [[a]] ![[a]]", ["a", "b", "a"]),
        ("[[b]] [x](a.md) [[c]]", ["b", "a.md", "c"]),
        ("1. one\n\n        [[deep]]\n\nout\n\n    [[code]]", ["deep"]),
    ],
)
def test_what_stands_beside_code_is_found(text: str, expected: list[str]) -> None:
    assert targets(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#tag", ["tag"]),
        ("a #nested/tag, b", ["nested/tag"]),
        ("#a-b_c #ü #标签 #🎉", ["a-b_c", "ü", "标签", "🎉"]),
        ("#one#two", ["one", "two"]),
        ("#Tag #tag", ["Tag"]),
        ("#end. #comma, #q?", ["end", "comma", "q"]),
        ("#2024 #y2024 #1/2", ["y2024"]),
        ("# heading", []),
        ("## heading", []),
        ("##two", []),
        ("a#b", []),
        ("(#b)", []),
        ("\\#b", []),
        ("`#b`", []),
        ("```\n#b\n```", []),
        ("https://a.b/c#d [x](<a.md #e>) [[n #f]] [y](<https://a.b/ #g>)", []),
        ("%% #b %%", []),
        ("---\ntags: [a, '#b/c', 7]\n---\n#d #A", ["a", "b/c", "d"]),
        ("---\ntags: a, b c\n---\n", ["a", "b", "c"]),
        ("---\nTag: one\n---\n", ["one"]),
        ("---\ntags:\n---\n", []),
    ],
)
def test_tags(text: str, expected: list[str]) -> None:
    assert list(parse_note(text, "n").tags) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A paragraph. ^one", ["one"]),
        ("two\nlines ^two", ["two"]),
        ("- item ^a1\n- other ^a-2\n\nend", ["a1", "a-2"]),
        ("|a|\n|-|\n\n^table\n\nx", ["table"]),
        ("> quoted ^q\n\nx", ["q"]),
        ("text ^mid\ngoes on", []),
        ("x^2", []),
        ("text ^under_score", []),
        ("`x ^code`", []),
        ("```\nx ^code\n```", []),
    ],
)
def test_block_ids(text: str, expected: list[str]) -> None:
    assert list(parse_note(text, "n").blocks) == expected


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("a: text", {"a": "text"}),
        ("a: 3\nb: 2.5\nc: 1e3\nd: 007", {"a": 3, "b": 2.5, "c": 1000.0, "d": "007"}),
        ("a: true\nb: yes\nc: No", {"a": True, "b": "yes", "c": "No"}),
        ("a: 2024-01-02\nb: 2024-13-45\nc: 12:30", {"a": "2024-01-02", "b": "2024-13-45", "c": "12:30"}),
        ("a: [1, x, [2, null]]", {"a": ["1", "x", "2"]}),
        ("a: {b: {c: 1}, d: x}", {"a.b.c": 1, "a.d": "x"}),
        ("a:\nb: ~\nc: ''", {}),
        ("1: x", {"1": "x"}),
        ("a: .nan\nb: .inf", {"a": "nan", "b": "inf"}),
        ("# " + "x" * 1100 + '\na: "\\ud800x"', {"a": "x"}),
        ("<<: {a: 1}", {"<<.a": 1}),
        ("vault: mine\nblocks: [x]", {}),
    ],
)
def test_properties_become_flat(front: str, expected: dict[str, object]) -> None:
    meta = parse_note(f"---\n{front}\n---\ntext\n", "n").meta
    assert meta == expected
    assert all(type(meta[key]) is type(expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("a: [", "line 3"),
        ("a: b: c", "line 2"),
        ("- a", "no mapping"),
        ("!!python/object/apply:os.getcwd []", "constructor"),
        ("a: !!int ''", "IndexError"),
        ("a: !!timestamp x", "AttributeError"),
        ("? [a]\n: b", "unhashable"),
        ("a: " + "[" * 3000, "deeply"),
        ("- " * 3000, "deeply"),
        ("a: " + "[x, " * 2000, "RecursionError"),
        ("\n".join(f"k{n}: {'x' * 100}" for n in range(1000)), "characters"),
    ],
)
def test_a_broken_frontmatter_stays_as_text(front: str, said: str) -> None:
    note = parse_note(f"---\n{front}\n---\n[[x]] #t\n", "n")
    assert said in str(note.meta["notice"])
    assert note.text.startswith("---\n")
    assert note.links[-1] == Link(target="x")


@pytest.mark.parametrize(
    "front",
    [
        "a: &a {}\nb: &b {" + ", ".join(f"k{n}: *a" for n in range(60)) + "}\nc: &c {"
        + ", ".join(f"k{n}: *b" for n in range(60)) + "}\nd: &d {" + ", ".join(f"k{n}: *c" for n in range(60))
        + "}\ne: {" + ", ".join(f"k{n}: *d" for n in range(60)) + "}",
        "a: &a []\nb: &b [" + ", ".join(["*a"] * 200) + "]\nc: &c [" + ", ".join(["*b"] * 200) + "]\ntags: &d ["
        + ", ".join(["*c"] * 200) + "]\naliases: [" + ", ".join(["*d"] * 200) + "]",
        "a: &a\n  b: *a\n  c: [*a]",
        "a: &a {x: 1}\n" + "\n".join(f"b{n}: &b{n} {{<<: [*a, *a, *a, *a, *a, *a, *a, *a]}}" for n in range(40)),
    ],
)  # fmt: skip
def test_anchors_that_multiply_do_not_hang(front: str) -> None:
    document = READ("/v/n.md", f"---\n{front}\n---\ntext".encode())
    assert len(document.meta) <= 205


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("aliases: [One, 'Two, three']", ["One", "Two, three"]),
        ("aliases: One, Two", ["One", "Two"]),
        ("alias: One", ["One"]),
        ("aliases:\n  - 2024\n  -\n", ["2024"]),
    ],
)
def test_aliases(front: str, expected: list[str]) -> None:
    assert parse_note(f"---\n{front}\n---\n", "n").meta["aliases"] == expected


def test_a_note_is_cut_at_its_headings_and_keeps_its_lines() -> None:
    text = "---\ntags: [a]\n---\nfirst\n\n%% gone\nsecret\n%%\n# One\nunder one ^b\n\n```\n# code\n```\n## Two\nunder\n"
    document = READ("/v/f/My note.md", text.encode())
    assert [(piece.heading, piece.line, piece.end_line) for piece in document.pieces] == [
        ("", 1, 4),
        ("One", 9, 14),
        ("One > Two", 15, 16),
    ]
    assert "secret" not in "".join(piece.text for piece in document.pieces)
    assert (document.title, document.media) == ("My note", "note")
    assert document.meta == {"tags": ["a"], "blocks": ["b"], "vault": "/v"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A\n\n## B\nx\n", [("A > B", 1)]),
        ("x\n# A\n", [("", 1), ("A", 2)]),
        ("# A\nx\n### C\ny\n## B\nz\n# D", [("A", 1), ("A > C", 3), ("A > B", 5), ("D", 7)]),
        ("---\na: 1\n---\n# A\nx", [("", 1), ("A", 4)]),
        ("> # Quoted\n\n- # in a list\n\nA\n===\nx", [("", 1), ("A", 5)]),
    ],
)
def test_sections(text: str, expected: list[tuple[str, int]]) -> None:
    assert [(piece.heading, piece.line) for piece in READ("/v/n.md", text.encode()).pieces] == expected


def test_line_ends_byte_order_marks_and_other_encodings() -> None:
    plain = READ("/v/n.md", b"---\na: 1\n---\n# H\n[[x]]\n")
    dos = READ("/v/n.md", b"\xef\xbb\xbf---\r\na: 1\r\n---\r\n# H\r\n[[x]]\r\n")
    assert (dos.meta, dos.links, dos.pieces) == (plain.meta, plain.links, plain.pieces)
    assert dos.hash != plain.hash
    assert "cp1252" in str(READ("/v/n.md", "Gr\u00fc\u00dfe, sch\u00f6n".encode("cp1252")).meta["notice"])


def test_an_empty_note_has_a_name_and_no_pieces() -> None:
    document = READ("/v/Stub.md", b"")
    assert (document.title, document.pieces) == ("Stub", ())


@pytest.mark.parametrize(("data", "said"), [(b"\0\1\2" * 99, "no text"), (b"x" * 5_000_001, "5,000,001")])
def test_what_is_no_note_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        READ("/v/n.md", data)


def test_the_title_is_the_property_else_the_name() -> None:
    assert READ("/v/n.md", b"---\ntitle: Real\n---\n# Head\n").title == "Real"
    assert READ("/v/n.md", b"---\ntitle: [x]\n---\n# Head\n").title == "n"


MARKS = st.sampled_from(
    ["[[", "]]", "![[", "|", "#", "^", "`", "``", "```", "~~~", "%%", "---", "\n", "\n\n", "    ", "\t", "> ", "- ",
     "](", ")", "a", "B c", "tag", ": ", "\\", "\r\n", "\ufeff", "\u2028", "é", "&a ", "*a", "[", "{", "!!int "]
)  # fmt: skip
TEXTS = st.one_of(st.lists(MARKS, max_size=60).map("".join), st.text(max_size=200))


@given(TEXTS)
def test_parsing_never_raises_and_keeps_all_lines(text: str) -> None:
    note = parse_note(text, "n")
    assert note.text.count("\n") == text.count("\n")
    json.dumps(note.meta)


@given(TEXTS)
def test_blanking_keeps_every_offset(text: str) -> None:
    hidden = find_hidden(text)
    spans = sorted([*hidden.code, *hidden.comments])
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    blanked = blank(text, spans)
    assert len(blanked) == len(text)
    assert [n for n, char in enumerate(blanked) if char == "\n"] == [n for n, char in enumerate(text) if char == "\n"]


SEEN = ["word [[{}]] word", "- item [[{}|x]]", "> [!tip] [[{}]]", "# Head [[{}#h]]", "1. one\n\n   [[{}]]", "a ![[{}]]"]
UNSEEN = [
    "```\n[[{}]]\n```", "~~~x\n[[{}]]\n\n[[{}]]\n~~~", "code `[[{}]]` end", "``x ` [[{}]] ``", "%% [[{}]] %%",
    "%%\n[[{}]]\n\n`%%", "> ```\n> [[{}]]\n> ```", "text\n\n    [[{}]]",
]  # fmt: skip


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=12))
def test_the_links_found_are_exactly_those_outside_of_code_and_comments(parts: list[tuple[bool, int]]) -> None:
    blocks, expected = [], []
    for number, (seen, which) in enumerate(parts):
        # a paragraph between, for a list goes on behind an empty line
        blocks.append("Plain text.")
        blocks.append((SEEN[which % len(SEEN)] if seen else UNSEEN[which]).replace("{}", f"n{number}"))
        expected += [f"n{number}"] if seen else []
    assert [target.partition("#")[0] for target in targets("\n\n".join(blocks))] == expected


@pytest.mark.parametrize("unit", ["`", "[[", "%%", "[a", "](", "![", "#a", "> ", "``` ", "[x](" + "y" * 9, "- ", "\\"])
def test_a_long_hostile_note_is_read_in_linear_time(unit: str) -> None:
    # quadratic work on so much would take minutes
    READ("/v/n.md", (unit * (300_000 // len(unit))).encode())
