"""Reading documents: each format's text, places and meta data, and what can't be read."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time

import pytest

from benchai.errors import SourceError
from benchai.memory.cut import Cutting
from benchai.memory.loaders import CAP, Reader, load
from benchai.memory.sections import clean_meta
from benchai.memory.types import Document


def places(document: Document) -> list[tuple[str, int | None, int | None]]:
    return [(piece.heading, piece.line, piece.end_line) for piece in document.pieces]


def said(document: Document) -> str:
    return "\n".join(piece.text for piece in document.pieces)


def test_a_text_becomes_a_document_with_its_hash_and_places() -> None:
    data = b"First line.\n\nThird line.\n"
    document = load("/notes/plain.txt", data, 17)
    assert (document.title, document.media, document.size, document.mtime_ns) == ("plain.txt", "text", 25, 17)
    assert document.hash == hashlib.sha256(data).hexdigest()
    assert [(piece.text, piece.line, piece.end_line) for piece in document.pieces] == [
        ("First line.\n\nThird line.", 1, 3)
    ]


def test_the_version_tells_of_the_settings() -> None:
    assert Reader().version != Reader(Cutting(size=800)).version
    assert load("a.txt", b"x").version == Reader().version


@pytest.mark.parametrize(
    ("data", "text", "noticed"),
    [
        ("Gr\u00fc\u00dfe".encode(), "Gr\u00fc\u00dfe", False),
        ("Gr\u00fc\u00dfe".encode("utf-8-sig"), "Gr\u00fc\u00dfe", False),
        ("Gr\u00fc\u00dfe, world".encode("utf-16"), "Gr\u00fc\u00dfe, world", False),
        ("Hello, wide world".encode("utf-16-le"), "Hello, wide world", False),
        ("Hello, wide world".encode("utf-16-be"), "Hello, wide world", False),
        ("Gr\u00fc\u00dfe".encode("utf-32"), "Gr\u00fc\u00dfe", False),
        ("Gr\u00fc\u00dfe \u2013 \u20ac".encode("cp1252"), "Gr\u00fc\u00dfe \u2013 \u20ac", True),
        ("\u00e4\u00f6\u00fc\u00df".encode() * 20 + b"\xff", "\u00e4\u00f6\u00fc\u00df" * 20 + "\ufffd", True),
        (b"one\r\ntwo\rthree", "one\ntwo\nthree", False),
        ("sep\u202earated \U000e0041x".encode(), "sep arated  x", False),
        (b"a NUL\0in " + b"a long text " * 10, "a NUL in " + ("a long text " * 10).strip(), False),
    ],
)
def test_encodings_are_read_and_a_guess_is_told(data: bytes, text: str, noticed: bool) -> None:
    document = load("a.txt", data)
    assert document.pieces[0].text == text
    assert ("notice" in document.meta) is noticed


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
        b"%PDF-1.7\n1 0 obj",
        b"PK\x03\x04" + bytes(200),
        bytes(range(256)) * 4,
        b"\x7fELF\x02\x01\x01" + bytes(100),
    ],
)
def test_binary_data_named_txt_is_refused_with_the_mend(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"'/x/holiday\.txt' is") as caught:
        load("/x/holiday.txt", data)
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b" \n\t\n"])
def test_what_holds_nothing_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match="is empty"):
        load("/x/nothing.md", data)


def test_what_is_larger_than_the_cap_is_refused() -> None:
    with pytest.raises(SourceError, match="11 bytes, more than the 10"):
        Reader(cap=10)("a.txt", b"0123456789+")
    assert CAP == 64 * 1024**2


def test_what_comes_out_goes_into_json_and_sqlite() -> None:
    book = {"cells": [{"cell_type": "code", "source": "x = '\ud800\0\x1b'", "outputs": []}]}
    note = '---\ntitle: "\\ud800 odd"\nbig: 123456789012345678901234567890\nnan: .nan\n---\n# \x01head\n\nbody\x7f'
    for document in (load("a.ipynb", json.dumps(book).encode()), load("a.md", note.encode())):
        text = document.model_dump_json()
        assert Document.model_validate_json(text) == document
        assert json.loads(json.dumps(document.meta, allow_nan=False)) == document.meta
        with sqlite3.connect(":memory:") as connection:
            row = connection.execute("SELECT ?, ?", (said(document), document.title)).fetchone()
        connection.close()
        assert row == (said(document), document.title)
        assert not {"\0", "\x01", "\x1b", "\x7f"} & set(text)


def test_markdown_has_a_section_for_each_heading_under_those_above() -> None:
    note = (
        "---\ntitle: The note\ntags: [a, b]\nauthor: {name: Ada}\ndate: 2024-05-01\nempty:\n---\n"
        "Before.\n\n# One\n\n## Two\nText of *two*.\n\n```sh\n# no heading\n```\n\n"
        "Three `x`\n-----\nUnder three.\n\n# Four\nEnd.\n"
    )
    document = load("/v/note.md", note.encode())
    assert document.title == "The note"
    assert document.meta == {"title": "The note", "tags": ["a", "b"], "author.name": "Ada", "date": "2024-05-01"}
    assert places(document) == [("", 1, 8), ("One > Two", 10, 17), ("One > Three x", 19, 21), ("Four", 23, 24)]
    lines = note.split("\n")
    for piece in document.pieces:
        assert piece.line is not None
        assert piece.end_line is not None
        assert piece.text == "\n".join(lines[piece.line - 1 : piece.end_line]).strip()


@pytest.mark.parametrize(
    "front", ["---\na: [\n---\n", "---\nno end\n", "---\n" + "[" * 3000 + "\n---\n", "---\n- x\n---\n"]
)
def test_frontmatter_that_is_none_stays_text(front: str) -> None:
    document = load("a.md", f"{front}\nBody".encode())
    assert document.meta == {}
    assert "Body" in said(document)
    assert document.pieces[0].line == 1


def test_very_long_markdown_has_its_headings_too() -> None:
    note = "# One\n\n```\n# not this\n```\n" + "word word.\n" * 110_000 + "\n## Two\n\nEnd.\n"
    headings = list(dict.fromkeys(piece.heading for piece in load("a.md", note.encode()).pieces))
    assert headings == ["One", "One > Two"]


PYTHON = '''"""Module."""
import os

# about f
# and more
@decorated
def f(a):
    def inner():
        return 1
    return inner


class A(B):
    """Says."""

    x = 1

    def m(self):
        return 1

    class C:
        async def n(self): ...

    y = 2


if os:
    z = f
'''


def test_code_is_cut_by_functions_classes_and_methods_and_nothing_is_lost() -> None:
    document = load("/p/mod.py", PYTHON.encode())
    assert document.media == "code"
    assert document.meta == {"language": "python"}
    assert places(document) == [
        ("", 1, 2),
        ("f", 4, 10),
        ("A", 13, 16),
        ("A.m", 18, 19),
        ("A.C", 21, 21),
        ("A.C.n", 22, 22),
        ("A", 24, 24),
        ("", 27, 28),
    ]
    assert "".join(said(document).split()) == "".join(PYTHON.split())


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        (
            "a.js",
            "import x from 'y';\n/** Adds. */\nexport class A {\n  m(a) {\n    return a;\n  }\n}\n"
            "const f = (a) => {\n  a;\n};\nf();",
            [("", 1, 1), ("A", 2, 3), ("A.m", 4, 7), ("f", 8, 10), ("", 11, 11)],
        ),
        (
            "a.tsx",
            "interface I {\n  a: X;\n}\nexport default function P() {\n  return <b/>;\n}",
            [("I", 1, 3), ("P", 4, 6)],
        ),
        (
            "a.ts",
            "namespace N {\n  export function f() {\n  }\n}\ntype T = string;",
            [("N", 1, 1), ("N.f", 2, 4), ("T", 5, 5)],
        ),
        (
            "a.go",
            "package p\n// Add adds.\nfunc Add() {\n}\ntype S struct {\n}\nfunc (s *S) M() {\n}",
            [("", 1, 1), ("Add", 2, 4), ("S", 5, 6), ("S.M", 7, 8)],
        ),
        (
            "a.rs",
            "use x;\n#[derive(Debug)]\nstruct S {\n}\nimpl S {\n    /// Doc.\n    fn m() {}\n}",
            [("", 1, 1), ("S", 2, 4), ("S", 5, 5), ("S.m", 6, 8)],
        ),
        ("a.c", "int x;\nstatic int *f(int a)\n{\n}\ntypedef struct {\n} S;", [("", 1, 1), ("f", 2, 4), ("S", 5, 6)]),
        (
            "a.cpp",
            "namespace n {\ntemplate <class T>\nclass C {\n  int f() {\n  }\n};\n}\nint n::C::g() {\n}",
            [("n", 1, 1), ("n.C", 2, 3), ("n.C.f", 4, 7), ("n::C::g", 8, 9)],
        ),
        (
            "A.java",
            "package a;\n/** Doc. */\nclass A {\n  int a;\n  @X\n  int m() {\n  }\n}",
            [("", 1, 1), ("A", 2, 4), ("A.m", 5, 8)],
        ),
        ("a.rb", "require 'x'\nclass A\nend\ndef f(x)\nend", [("", 1, 1), ("class A", 2, 3), ("def f(x)", 4, 5)]),
        ("a.dart", "void f() {\n}", [("", 1, 2)]),
    ],
)
def test_each_language_names_its_parts(name: str, code: str, expected: list[tuple[str, int, int]]) -> None:
    assert places(load(name, code.encode())) == expected


def test_broken_and_minified_code_is_read_all_the_same() -> None:
    broken = "def f(:\n    x = (\nclass A\n  def g(self): pass\n"
    assert "".join(said(load("a.py", broken.encode())).split()) == "".join(broken.split())
    minified = "function f(a){return a};" * 20_000
    document = load("a.js", minified.encode())
    assert "".join(said(document).split()) == "".join(minified.split())
    assert {(piece.line, piece.end_line) for piece in document.pieces} == {(1, 1)}


PAGE = """<!DOCTYPE html><html lang="en"><head><title>The  page</title><meta name="author" content="Ada">
<meta name="keywords" content="x, y"><style>.a{}</style></head><body><nav>menu</nav>
<h1>Top</h1><p>Seen &amp; <b>bold</b>.</p><p hidden>HIDDEN</p><div style="display: none">HIDDEN <i>HIDDEN</i></div>
<span aria-hidden="true">HIDDEN</span><script>HIDDEN()</script><!-- HIDDEN --><template>HIDDEN</template>
<h2>Below</h2><ul><li>one<li>two</ul><pre>def f():
    pass</pre><table><tr><td>a</td><td>b</td></tr></table><img src="x" alt="a cat"></body></html>"""


def test_of_a_page_is_read_what_is_seen() -> None:
    document = load("https://example.org/x", PAGE.encode(), media_type="text/html; charset=utf-8")
    text = said(document)
    assert (document.title, document.media) == ("The page", "html")
    assert document.meta == {"author": "Ada", "tags": ["x", "y"], "lang": "en"}
    assert [piece.heading for piece in document.pieces] == ["Top", "Top > Below"]
    assert "HIDDEN" not in text
    assert "menu" not in text
    assert "Seen & bold." in text
    assert "def f():\n    pass" in text
    assert "a cat" in text
    assert {piece.line for piece in document.pieces} == {None}


def test_a_page_tells_its_own_charset_and_deep_nesting_is_no_danger() -> None:
    page = '<html><meta charset="iso-8859-5"><p>\u041f\u0440\u0438\u0432\u0435\u0442</p>'.encode("iso-8859-5")
    assert said(load("a.html", page)) == "\u041f\u0440\u0438\u0432\u0435\u0442"
    deep = b"<div>" * 20_000 + b"core" + b"</div>" * 20_000
    assert said(load("deep.html", deep)) == "core"


def test_a_table_repeats_its_header_and_keeps_rows_whole() -> None:
    rows = ["name,remark"] + [f'name{number},"first\nsecond {number}"' for number in range(200)]
    document = load("t.csv", "\n".join(rows).encode())
    assert len(document.pieces) > 3
    for piece in document.pieces:
        assert piece.text.startswith("name,remark\nname")
        assert piece.text.count('"') % 2 == 0
        assert len(piece.text) <= 1200
    assert document.pieces[0].line == 1
    assert document.pieces[1].line == (document.pieces[0].end_line or 0) + 1
    assert document.pieces[-1].end_line == 401


def test_a_table_with_a_quote_that_never_ends_is_read_by_lines() -> None:
    text = "a,b\n" + 'x,"open\n' * 30_000
    document = load("t.csv", text.encode())
    assert document.pieces[-1].end_line == 30_001
    assert max(len(piece.text) for piece in document.pieces) <= 1200


def test_a_notebook_is_read_cell_by_cell_with_the_beginning_of_what_it_wrote() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Prose."]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["\x1b[31mred\x1b[0m ", "out " * 1000]},
                {"output_type": "error", "ename": "E", "evalue": "v"},
                {"data": {"image/png": "AAAA", "text/plain": "<Figure>"}},
            ],
        },
        {
            "cell_type": "code",
            "source": "y = 2",
            "outputs": [{"output_type": "error", "ename": "KeyError", "evalue": "'k'"}],
        },
    ]
    book = {"cells": cells, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4}
    document = load("n.ipynb", json.dumps(book).encode())
    assert document.title == "Title"
    assert document.meta == {"language": "python"}
    assert [piece.heading for piece in document.pieces] == ["Title > cell 1", "Title > cell 2", "Title > cell 3"]
    second, third = document.pieces[1].text, document.pieces[2].text
    assert second.startswith("print(1)\n\nred out out")
    assert second.endswith("[...]")
    assert len(second) < 700
    assert third == "y = 2\n\nKeyError: 'k'"
    assert "AAAA" not in said(document)


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": 3}', "[" * 100_000, "null"])
def test_what_is_no_notebook_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="is no notebook"):
        load("n.ipynb", text.encode())


def test_sources_without_a_suffix_are_known_by_their_content() -> None:
    assert load("https://example.org/", b"<!DOCTYPE html><html><body>Hello</body></html>").media == "html"
    assert load("/x/Makefile", b"all:\n\ttrue\n").media == "text"
    assert load("https://example.org/a.php", b"# hi", media_type="text/markdown").media == "markdown"
    assert load("https://example.org/docs/", b"text").title == "docs"


def test_merge_keys_of_frontmatter_are_keys_like_others() -> None:
    """Chained, they make a value of millions of parts."""
    lines = ["b0: &b0 {a: 1}", *(f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 4)}]}}" for n in range(1, 15))]
    text = "---\ntitle: Short\n" + "\n".join(lines) + "\n---\nText.\n"
    before = time.process_time()
    document = load("/a.md", text.encode())
    assert time.process_time() - before < 2
    assert document.meta["title"] == "Short"


def test_frontmatter_of_markdown_keeps_what_was_written() -> None:
    document = load(
        "/a.md", b"---\ndate: 2024-13-45\nat: 12:30\nok: yes\ndone: true\nlong: [0x" + b"f" * 5000 + b"]\n---\nText.\n"
    )
    assert document.meta == {"date": "2024-13-45", "at": "12:30", "ok": "yes", "done": True}


def test_empty_maps_of_meta_data_are_not_looked_through_without_end() -> None:
    leaf = dict.fromkeys(range(200))
    values = {n: dict.fromkeys(range(200), leaf) for n in range(200)}
    before = time.process_time()
    assert clean_meta({"a": 1, **{str(n): one for n, one in values.items()}}) == {"a": 1}
    assert time.process_time() - before < 1


@pytest.mark.parametrize("data", [b"\0\1\2\3" * 100, b"\1\0\2\3" * 100, b"A\0\1\xd8" * 100])
def test_binary_data_with_many_zeros_is_no_text(data: bytes) -> None:
    with pytest.raises(SourceError, match="no text"):
        load("/a.txt", data)


@pytest.mark.parametrize(
    "text", ["Hello, w\u00f6rld.\r\n\tNext\u00a0line \u2013 \u201cquoted\u201d\n" * 9, "a\u200bb " * 50]
)
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_wide_text_without_a_mark_is_read(text: str, codec: str) -> None:
    assert load("/a.txt", text.encode(codec)).pieces[0].text.startswith(text.split()[0])
