"""Edits of texts: where they fit, what they leave alone, and how they are read from replies."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.errors import ToolError
from benchai.tools.blocks import WholeFile, parse, render
from benchai.tools.edits import Edit, apply, locate

CODE = "import os\n\ndef foo(x):\n    y = x + 1\n    return y\n"


def edit(search: str, replace: str) -> Edit:
    return Edit("src/a.py", search, replace)


def message_of(text: str, search: str, replace: str) -> str:
    with pytest.raises(ToolError) as raised:
        apply(text, edit(search, replace))
    return f"{raised.value}; {raised.value.hint}"


@pytest.mark.parametrize(
    ("search", "replace", "changed"),
    [
        ("x + 1", "x + 2", "import os\n\ndef foo(x):\n    y = x + 2\n    return y\n"),
        ("import os\n\n", "", "def foo(x):\n    y = x + 1\n    return y\n"),
        ("    return y\n", "    return y\n    # end\n", CODE + "    # end\n"),
        ("    y = x + 1  \n    return y", "    return x", "import os\n\ndef foo(x):\n    return x\n"),
        ("y = x + 1\nreturn y\n", "if x:\n    return x\n", CODE[:23] + "    if x:\n        return x\n"),
        ("      y = x + 1\n      return y\n", "      return x\n", CODE[:23] + "    return x\n"),
    ],
)
def test_apply(search: str, replace: str, changed: str) -> None:
    assert apply(CODE, edit(search, replace)) == changed


def test_whole_lines_start_at_lines() -> None:
    assert apply("max = 1\nx = 1\n", edit("x = 1\n", "x = 2\n")) == "max = 1\nx = 2\n"
    assert "lines 1, 2" in message_of("max = 1\nx = 1\n", "x = 1", "x = 2")


def test_line_ends_stay() -> None:
    assert apply("a\r\nb\r\nc\r\n", edit("b\n", "d\ne\n")) == "a\r\nd\r\ne\r\nc\r\n"
    assert apply("a\r\nb\r\n", edit("b", "c\nd")) == "a\r\nc\r\nd\r\n"
    assert apply("a\nb\r\nc\n", edit("a\n", "d\n")) == "d\nb\r\nc\n"
    assert apply("a\nb\r\nc\n", edit("b\r\n", "d\r\n")) == "a\nd\r\nc\n"
    assert apply("a\nb", edit("b\n", "c\n")) == "a\nc"
    assert apply("a\nb  ", edit("b\n", "c\n")) == "a\nc"
    assert apply("\ufeffa\nb\n", edit("a\n", "c\n")) == "\ufeffc\nb\n"


def test_create() -> None:
    assert apply("", edit("", "new\r\n")) == "new\r\n"
    assert apply("\ufeff", edit("\n", "new\n")) == "\ufeffnew\n"
    assert "search is empty, but 'src/a.py' is not" in message_of(CODE, "", "x")
    assert "leave search empty" in message_of("", "a", "x")


@pytest.mark.parametrize(
    ("search", "replace"), [("foo", "foo"), ("a\r\n", "a\n"), ("", ""), ("return y\n", "return y  \n")]
)
def test_nothing_changes(search: str, replace: str) -> None:
    assert "changes nothing" in message_of("    return y  \n", search, replace)
    assert "changes nothing" in message_of("", "\r", "")


def test_several_places() -> None:
    message = message_of("a\nb\na\n  a\n", "a\n", "c\n")
    assert message == (
        "the search text stands in 'src/a.py' more than once, at lines 1, 3; "
        "add lines before or after it until only one place fits"
    )
    assert "at lines 1, 2;" in message_of(" a \n  a  \n", "a\n", "c\n")
    assert "19, 20 and more" in message_of("a\n" * 500, "a\n", "c\n")
    assert "lines 1, 2;" in message_of("a\na\na\n", "a\na\n", "c\n")


def test_indentation_must_differ_uniformly() -> None:
    assert "nearest to it:\n3| def foo(x):\n4|     y" in message_of(CODE, "def foo(x):\n  y = x + 1\n", "z\n")
    # A replacement that has not the indentation to take away
    assert "nearest" in message_of("a\n  b\n", "  a\n    b\n", "c\n")


def test_nearest_region() -> None:
    text = "".join(f"value_{n} = compute({n}, other={n * 7})\n" for n in range(3000))
    message = message_of(text, "value_70 = comptue(70, other=490)\nvalue_71 = x\n", "z\n")
    assert "\n71| value_70 = compute(70, other=490)\n72| value_71 = compute(71, other=497);" in message
    assert "nor anything like it" in message_of(text, "###", "z")
    long = message_of("x" * 5000 + "\n" + text, "x" * 300 + "y\n" + text[:2000], "z")
    assert len(long) < 2500
    assert long.count("| ") <= 12


def test_done_already() -> None:
    assert "stands at line 3 already" in message_of(CODE, "def foo(y):\n", "def foo(x):\n")


TEXTS = st.lists(st.sampled_from(["a", "b", " ", "\t", "\n", "\r\n", "\r", "=======", "\ufeff", "é", "x y"])).map(
    "".join
)


@settings(deadline=None)
@given(before=TEXTS, middle=TEXTS, after=TEXTS, replace=TEXTS)
def test_only_the_match_changes(before: str, middle: str, after: str, replace: str) -> None:
    text = before + middle + after
    try:
        splice = locate(text, edit(middle, replace))
    except ToolError:
        return
    changed = apply(text, edit(middle, replace))
    assert changed.startswith(text[: splice.start])
    assert changed.endswith(text[splice.end :])
    assert len(changed) == len(text) - (splice.end - splice.start) + len(splice.new)


@settings(max_examples=60, deadline=None)
@given(text=st.text(), search=st.text(), replace=st.text())
def test_only_tool_errors(text: str, search: str, replace: str) -> None:
    with contextlib.suppress(ToolError):
        assert apply(text, edit(search, replace)) != text


REPLY = """Here it is.

**src/a.py**:
```python
<<<<<<< SEARCH
a
=======
b
>>>>>>> REPLACE

<<<<< SEARCH
c
=====
>>>>> REPLACE
```

### `docs/my notes.md`

````markdown
# T
```python
x
```
````

And then:

```python
# file: src/b.py
pass
```
```js:src/c.js
f()
```
``` {.python title="src/d.py"}
```
```bash
ls
```
"""


def test_parse() -> None:
    assert parse(REPLY) == [
        Edit("src/a.py", "a\n", "b\n"),
        Edit("src/a.py", "c\n", ""),
        WholeFile("docs/my notes.md", "# T\n```python\nx\n```\n", "markdown"),
        WholeFile("src/b.py", "# file: src/b.py\npass\n", "python"),
        WholeFile("src/c.js", "f()\n", "js"),
        WholeFile("src/d.py", "", "python"),
        WholeFile(None, "ls\n", "bash"),
    ]
    assert parse(REPLY.replace("\n", "\r\n")) == parse(REPLY)
    assert parse("") == parse("nothing at all\n\nsrc/a.py\n") == []


BLOCK = "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n"


@pytest.mark.parametrize(
    "line",
    [
        "src/a.py",
        "`src/a.py`",
        "**src/a.py**",
        "**`src/a.py`:**",
        "File: src/a.py",
        "#### 2. src/a.py:",
        "- `./src/a.py`",
        "# file: src/a.py",
        "// src/a.py",
        "<!-- src/a.py -->",
        "/* src/a.py */",
        '"src/a.py"',
    ],
)
def test_paths_of_blocks(line: str) -> None:
    for reply in (f"{line}\n{BLOCK}", f"{line}\n\n```python\n{BLOCK}```\n", f"```\n{line}\n{BLOCK}```\n"):
        assert parse(reply) == [Edit("src/a.py", "a\n", "b\n")]
    assert parse(f"{line}\n```python\npass\n```\n") == [WholeFile("src/a.py", "pass\n", "python")]


@pytest.mark.parametrize(
    "line",
    ["Now run it:", "Output", "See https://example.com/a.py", "3.14", "a.py and b.py", "Done.", "and/or", "x" * 400],
)
def test_no_paths(line: str) -> None:
    assert parse(f"{line}\n```\nx\n```\n") == [WholeFile(None, "x\n", "")]
    with pytest.raises(ToolError, match="has no path"):
        parse(f"{line}\n{BLOCK}")


def test_a_path_serves_one_fence_only() -> None:
    items = parse("a.py\n```\n1\n```\n```\n2\n```\nThen\n```\n3\n```\n")
    assert [item.path for item in items] == ["a.py", None, None]


def test_diffs_are_no_files() -> None:
    assert parse("a.py\n```diff\n-x\n```\n") == [WholeFile(None, "-x\n", "diff")]
    assert parse("a.patch\n```diff\n-x\n```\n") == [WholeFile("a.patch", "-x\n", "diff")]


def test_indented_blocks() -> None:
    reply = "1. src/a.py\n   ```python\n   def f():\n       pass\n   ```\n"
    assert parse(reply) == [WholeFile("src/a.py", "def f():\n    pass\n", "python")]
    indented = "".join(f"   {line}\n" for line in BLOCK.splitlines())
    assert parse("src/a.py\n" + indented) == parse("src/a.py\n" + BLOCK)


def block(search: str, replace: str) -> Edit:
    items = parse(f"a.md\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n")
    assert len(items) == 1
    assert isinstance(items[0], Edit)
    return items[0]


@pytest.mark.parametrize(
    ("search", "replace"),
    [
        ("a\n", "Title\n=====\nb\n"),
        ("a\n", "Heading\n=======\nb\n"),
        ("Heading\n=======\n", "New\n"),
        ("Heading\n=======\n", "A title\n=======\n"),
        ("<<<<<<< HEAD\na\n=======\nb\n>>>>>>> main\n", "a\n"),
        ("```python\n", "```\n~~~\n"),
        ("", ""),
    ],
)
def test_dividers_in_texts(search: str, replace: str) -> None:
    assert block(search, replace) == Edit("a.md", search, replace)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("a.py\n```python\npass\n", "the fence that opens at line 2 of the reply is never closed"),
        ("a.py\n````python\npass\n```\n", "never closed by '````'"),
        ("a.py\n```python\npass\n\nb.py\n```python\npass\n```\n", "never closed"),
        ("a.py\n<<<<<<< SEARCH\na\n=======\nb", "search block that opens at line 2 of the reply is never closed"),
        ("a.py\n<<<<<<< SEARCH\na\n=======\nb\n" + BLOCK, "opens at line 2"),
        ("a.py\n<<<<<<< SEARCH\na\n>>>>>>> REPLACE\n", "has no line '======='"),
        (f"a.py\n```python\nimport os\nimport re\n{BLOCK}```\n", "mixes code with search blocks"),
    ],
)
def test_broken_replies(reply: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        parse(reply)


def test_a_fence_around_whole_blocks_may_stay_open() -> None:
    assert parse(f"a.py\n```python\n{BLOCK}") == [Edit("a.py", "a\n", "b\n")]


LINES = st.lists(
    st.sampled_from(
        ["a", "", "  b", "# c.py", "src/x.py", "```", "````", "~~~", "```python", "=======", "=====", "Title"]
    )
    | st.sampled_from(["<<<<<<< HEAD", ">>>>>>> main", "<<<<<<< SEARCH", ">>>>>>> REPLACE", "=========", "  ======"])
    | st.text(st.characters(exclude_characters="\n\r"), max_size=8),
    max_size=8,
).map(lambda lines: "".join(f"{line}\n" for line in lines))
PATHS = st.sampled_from(
    ["a.py", "src/b.js", "./c.md", "Makefile", "bin/run", "d", ".env", "__init__.py", "my notes/e.txt"]
)


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.builds(Edit, PATHS, LINES, LINES) | st.builds(WholeFile, PATHS, LINES, st.just("md")), max_size=4)
)
def test_round_trip(items: list[Edit | WholeFile]) -> None:
    with contextlib.suppress(ValueError):
        reply = "\nSome prose.\n".join(map(render, items))
        assert parse(reply) == items


def test_what_cannot_be_rendered() -> None:
    marks = "".join("=" * size + "\n" for size in range(5, 10))
    with pytest.raises(ValueError, match="markers of every length"):
        render(edit(marks, ""))
    with pytest.raises(ValueError, match="contains heads"):
        render(WholeFile("a.py", BLOCK, "python"))
    with pytest.raises(ValueError, match="cannot be written as the path"):
        render(WholeFile("a:b", "", ""))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*REPLY.split("\n"), *BLOCK.split("\n"), "~~~~ x", "`a b`"])).map("\n".join) | st.text()
)
def test_parse_raises_only_tool_errors(reply: str) -> None:
    with contextlib.suppress(ToolError):
        parse(reply)
