"""search_files: what is found, what is left out, and that no pattern takes long."""

from __future__ import annotations

import re
import threading
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchai.errors import ToolError
from benchai.tools import ToolContext
from benchai.tools.search import MAX_FILE, SEARCH_FILES, Pattern, search

SECRET = "needle of the secret outside"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with texts, a binary, links out, and a secret beside it."""
    root = tmp_path / "workspace"
    for folder in ("src/deep", ".git", "node_modules", "docs"):
        (root / folder).mkdir(parents=True)
    (root / "src" / "main.py").write_text("import os\nneedle = 1\n  Needle(2)\r\n")
    (root / "src" / "deep" / "b.js").write_text("let needle\n")
    (root / "docs" / "a.md").write_text("# needle (foo\n")
    (root / ".git" / "config").write_text("needle\n")
    (root / "node_modules" / "x.js").write_text("needle\n")
    (root / "picture").write_bytes(b"needle\n\0")
    (root / "big").write_text("needle\n" * (MAX_FILE // 7 + 1))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "leak.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    return root.resolve()


NOTES = ["[folders left out: node_modules; path names one]", "[files over 1 MB left out: 1]"]


def test_search(workspace: Path) -> None:
    expected = ["docs/a.md:1: # needle (foo", "src/deep/b.js:1: let needle", "src/main.py:2: needle = 1"]
    assert search(workspace, "needle").split("\n") == expected + NOTES
    assert (
        search(workspace, r"^\s*[Nn]eedle\b.*\d\)?$", "src") == "src/main.py:2: needle = 1\nsrc/main.py:3:   Needle(2)"
    )
    assert search(workspace, "(?i)NEEDLE", "src/main.py").count("\n") == 1
    assert search(workspace, "needle", "node_modules") == "node_modules/x.js:1: needle"
    assert search(workspace, "nothing", "src") == "[no line matches]"


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("*.py", ["main.py"]),
        ("*.{py,js}", ["b.js", "main.py"]),
        ("src/**/*.js", ["b.js"]),
        ("src/**/*.py", ["main.py"]),
        ("**/main.*", ["main.py"]),
        ("docs/*", ["a.md"]),
        ("[[a]*", ["a.md"]),
        ("[!a]*.js", ["b.js"]),
        ("*.PY", []),
    ],
)
def test_glob(workspace: Path, glob: str, names: list[str]) -> None:
    lines = [line for line in search(workspace, "needle", ".", glob).split("\n") if not line.startswith("[")]
    assert [line.split(":")[0].rsplit("/", 1)[-1] for line in lines] == names


def test_a_pattern_that_does_not_compile_is_plain_text(workspace: Path) -> None:
    lines = search(workspace, "(foo", "docs").split("\n")
    assert lines[0] == "docs/a.md:1: # needle (foo"
    assert lines[1].startswith("[no regular expression (missing ), unterminated subpattern), so searched as plain text")


def test_many_and_long_lines(workspace: Path) -> None:
    (workspace / "docs" / "many").write_text("needle\n" * 200)
    lines = search(workspace, "needle", "docs/many").split("\n")
    assert lines[99:] == ["docs/many:100: needle", "[the first 100 lines; narrow the search for others]"]
    (workspace / "docs" / "long").write_text("x" * 10_000 + "needle" + "y" * 10_000)
    line = search(workspace, "needle", "docs/long")
    assert "xneedley" in line
    assert len(line) < 230


@pytest.mark.parametrize(
    ("pattern", "path", "message"),
    [
        ("", ".", "must be one line, and not empty"),
        ("a\nb", ".", "must be one line"),
        ("x" * 999 + "()", ".", "longer than 1000"),
        ("(?=a)", ".", "uses assert, which search_files does not know"),
        ("(?<!a)b", ".", "uses assert not,"),
        (r"(a)\1", ".", "uses groupref,"),
        ("a++", ".", "uses possessive repeat,"),
        (r"(?a)\w", ".", "uses the flag a,"),
        ("(a{1000}){1000}", ".", "too large"),
        ("(" * 490 + ")" * 490, ".", "nested too deeply"),
        ("needle", "../outside", "leads outside"),
        ("needle", "out", "leads outside"),
        ("needle", "sr", "did you mean 'src'?"),
    ],
)
def test_mistakes(workspace: Path, pattern: str, path: str, message: str) -> None:
    with pytest.raises(ToolError) as raised:
        search(workspace, pattern, path)
    assert message in f"{raised.value}; {raised.value.hint}"


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("(a+)+$", "a" * 20_000 + "b"),
        ("(a|a)*b", "a" * 20_000),
        ("(a?){30}a{30}b", "a" * 3_000),
        ("(.*)(.*)(.*)x.*.*y", "a" * 20_000),
        ("(?:(?:){1000000000}){1000000000}b", "a"),
        ("((a*)*)*b", "a" * 20_000),
        (r"(\w+\s?)*:", "word " * 4_000),
    ],
)
def test_no_pattern_takes_long(pattern: str, line: str) -> None:
    assert Pattern(pattern).find(line) == -1


def test_states_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchai.tools.pattern.MAX_KEPT", 50)
    pattern = Pattern("[ab]*a[ab]{6}c")
    assert pattern.find("abbababbabab" * 20) == -1
    assert pattern.find("abbababbabab" * 20 + "c") == 241
    assert pattern.kept < 100


def test_a_search_ends_when_nobody_waits(workspace: Path) -> None:
    stop = threading.Event()
    stop.set()
    assert "stopped after 10 s" in search(workspace, "needle", stop=stop)


def test_time_is_bounded(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchai.tools.search.SECONDS", 0.0)
    assert search(workspace, "n.*dle", "src") == "[no line matches]\n[stopped after 0 s; name a folder or a glob]"


def test_no_warning_from_patterns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pattern("[[a]").find("x[") == 2
        assert Pattern("[a&&b]").find("x&") == 2


ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "A",
        ".",
        r"\w",
        r"\W",
        r"\d",
        r"\s",
        r"\b",
        r"\B",
        "^",
        "$",
        "[ab]",
        "[^a]",
        "[^A-Z_]",
        r"[\d\s]",
        "_",
        "é",
        "",
    ]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.tuples(inner, inner).map("|".join).map("({})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "{0}"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
        inner.map("(?i:{})".format),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(pattern=PATTERNS, line=st.text("abAB_1 -é", max_size=8))
def test_as_re_finds(pattern: str, line: str) -> None:
    # Before Python 3.14 re finds no \B in an empty line
    if line or r"\B" not in pattern:
        found = Pattern(pattern).find(line)
        assert (found >= 0) == (re.search(pattern, line) is not None)
        ends = [end for end in range(len(line) + 1) if re.search(f"(?:{pattern})(?<=^.{{{end}}})", line)]
        assert not ends or found <= ends[0]
        assert Pattern(pattern).needed in line or found < 0


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pattern=st.text(max_size=6),
    path=st.lists(st.sampled_from(["..", "src", "out", "leak.txt", "outside", ""]), max_size=4).map("/".join),
    glob=st.text("*?[]{},/.abp!", max_size=8),
)
def test_nothing_outside_is_found(workspace: Path, pattern: str, path: str, glob: str) -> None:
    try:
        text = search(workspace, pattern, path, glob)
    except ToolError:
        return
    assert "secret" not in text


@pytest.mark.anyio
async def test_as_tool(workspace: Path) -> None:
    assert SEARCH_FILES.permission == "read"
    result = await SEARCH_FILES.invoke({"pattern": "needle", "glob": "*.py"}, ToolContext(workspace))
    assert result.ok
    assert result.text.split("\n")[0] == "src/main.py:2: needle = 1"
    result = await SEARCH_FILES.invoke({"pattern": "needle", "path": "out"}, ToolContext(workspace))
    assert not result.ok
