"""The runner of test files: what it runs, what it counts, and how it tells of a failure."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from benchai.errors import ToolError
from benchai.graphs.coding.run_tests import MODULE, imports, main
from benchai.graphs.coding.testing import check_tests, comparable

ADD = "def add(a, b):\n    return a - b\n\ndef _hidden():\n    pass\n"


class Folder:
    """A workspace in which the runner runs, in this process."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.capsys = path, capsys

    def run(self, tests: str, code: str = ADD, name: str = "solution.py", seconds: float = 5) -> tuple[int, str]:
        """Exit code and verdict."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(code, encoding="utf-8")
        (self.path / "test_it.py").write_text(tests, encoding="utf-8")
        code_of_exit = main(["MARK", name, "test_it.py"], seconds)
        return code_of_exit, self.capsys.readouterr().out.rpartition("\nMARK\n")[2].strip()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("solution", "pkg", "pkg.solution", MODULE):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, name, sys)  # so that it is taken away afterwards
        del sys.modules[name]
    return Folder(tmp_path, capsys)


FAILED = "assert add(1, 2) == 3\nAssertionError: got -1"


@pytest.mark.parametrize(
    "tests",
    [
        "assert add(1, 2) == 3\n",
        "from solution import add\nassert add(1, 2) == 3\n",
        "import solution as s\nadd = s.add\nassert add(1, 2) == 3\n",
        "def test_add():\n    assert add(1, 2) == 3\n",
        "async def test_add():\n    assert add(1, 2) == 3\n",
        "class TestAdd:\n    def test_it(self):\n        assert add(1, 2) == 3\n",
        "def check(candidate):\n    assert candidate(2, 0) == 2\n    assert candidate(1, 2) == 3\n\ncheck(add)\n",
        "for a, b, c in [(2, 0, 2), (1, 2, 3)]:\n    assert add(a, b) == c\n",
        "def test_all():\n    for a, b, c in [(1, 2, 3)]:\n        assert add(a, b) == c\n",
        "RIGHT = 3\nassert add(\n    1,\n    2,\n) == RIGHT\n",
        "if True:\n    from solution import *\nassert add(1, 2) == 3\n",
    ],
)
def test_a_failed_assert_is_told_in_one_form(folder: Folder, tests: str) -> None:
    assert folder.run(tests) == (1, FAILED)


@pytest.mark.parametrize(
    ("tests", "code", "told"),
    [
        ("assert add(1, 2) == 3, 'sum'\n", ADD, "assert add(1, 2) == 3, 'sum'\nAssertionError: got -1 (sum)"),
        ("assert even(3)\n", "def even(n):\n    return 0\n", "assert even(3)\nAssertionError: got 0"),
        ("assert not even(3)\n", "def even(n):\n    return 1\n", "assert not even(3)\nAssertionError: got 1"),
        ("assert add(1, 2) == 3\n", "def add(a, b):\n    return c\n", "NameError: name 'c' is not defined"),
        ("assert add(1, 2) == 3\n", "def add(a):\n    return a\n", "TypeError: add() takes 1 positional argument but"),
        ("assert add(1, 2) == 3\n", "def sub(a):\n    return a\n", "NameError: name 'add' is not defined"),
        ("assert add(1, 2) == 3\n", "def add(a, b):\n    assert a > 9\n", "assert add(1, 2) == 3\nAssertionError"),
        ("assert add(1, 2) == 3\n", "raise SystemExit(0)\n", "SystemExit: 0"),
        ("assert add(1, 2) == 3\n", "def add(a, b:\n", "SyntaxError: '(' was never closed"),
        ("assert add(1, 2) == = 3\n", ADD, "SyntaxError: invalid syntax"),
        ("x = add(1, 2)\nassert 0 < x < 9\n", ADD, "assert 0 < -1 < 9\nAssertionError"),
        ("with open('none.txt') as f:\n    assert f\n", ADD, "with open('none.txt') as f:\nFileNotFoundError"),
        ("", ADD, "nothing was tested"),
        ("x = 1\n", ADD, "nothing was tested"),
        ("def check(c):\n    assert c(1, 2) == 3\n", ADD, "nothing was tested"),
        ("from unittest import TestCase\nclass A(TestCase):\n  def test_a(self):\n   self.assertEqual(add(1, 2), 3)\n",
         ADD, "self.assertEqual(add(1, 2), 3)\nAssertionError: -1 != 3"),
        ("import unittest\nclass A(unittest.TestCase):\n    def setUp(self):\n        raise ValueError('no')\n"
         "    def test_a(self):\n        pass\n", ADD, "raise ValueError('no')\nValueError: no"),
    ],
)  # fmt: skip
def test_failures(folder: Folder, tests: str, code: str, told: str) -> None:
    exit_code, said = folder.run(tests, code)
    assert exit_code == (2 if "nothing" in told else 1)
    assert told in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("tests", "passed"),
    [
        ("assert add(3, 2) == 1\n", 1),
        ("assert add(3, 2) == 1\nassert add(1, 1) == 0\n", 2),
        ("def check(candidate):\n    assert candidate(3, 2) == 1\ncheck(add)\n", 1),
        ("def test_a():\n    assert add(3, 2) == 1\n\ndef helper():\n    raise ValueError\n", 1),
        ("for x in [3]:\n    assert add(x, 2) == 1\n", 1),
        ("if __name__ == '__main__':\n    raise ValueError\nassert add(3, 2) == 1\n", 1),
        ("from unittest import TestCase, IsolatedAsyncioTestCase as Slow\n"
         "class A(TestCase):\n    def test_a(self):\n        self.assertEqual(add(3, 2), 1)\n"
         "    def test_b(self):\n        pass\n"
         "class B(Slow):\n    async def test_c(self):\n        assert add(3, 2) == 1\n", 3),
        # a second look would be another value
        ("it = iter([1, 2])\nassert next(it) == 1\n", 1),
    ],
)  # fmt: skip
def test_what_is_counted(folder: Folder, tests: str, passed: int) -> None:
    exit_code, said = folder.run(tests)
    assert (exit_code, said) == (0, f"{passed} passed")


def test_a_value_is_looked_at_once(folder: Folder) -> None:
    assert folder.run("it = iter([1, 2])\nassert next(it) == 2\n") == (1, "assert next(it) == 2\nAssertionError: got 1")


def test_what_takes_too_long_is_stopped(folder: Folder) -> None:
    code = "def add(a, b):\n  while True:\n    try:\n      a += 1\n    except Exception:\n      pass\n"
    assert folder.run("assert add(1, 2) == 3\n", code, seconds=0.1) == (
        1, "assert add(1, 2) == 3\nTimeoutError: it takes too long",
    )  # fmt: skip


def test_what_the_code_prints_is_no_verdict(folder: Folder) -> None:
    code = "print('test:\\nassert 1 == 2')\n" + ADD
    assert folder.run("assert add(1, 2) == 3\n", code) == (1, FAILED)


def test_code_in_a_package_is_imported_once(folder: Folder) -> None:
    (folder.path / "src" / "pkg").mkdir(parents=True)
    (folder.path / "src" / "pkg" / "__init__.py").write_text("", encoding="utf-8")
    (folder.path / "src" / "pkg" / "other.py").write_text("ONE = 1\n", encoding="utf-8")
    code = "from .other import ONE\nseen = []\n\ndef add(a, b):\n    seen.append(a)\n    return a - b\n"
    tests = "from pkg import other\nassert other.ONE == 1\nassert add(1, 2) == 3\n"
    assert folder.run(tests, code, "src/pkg/solution.py") == (1, FAILED)


def test_dataclasses_of_the_code_work(folder: Folder) -> None:
    code = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass P:\n    x: int\n"
    assert folder.run("assert P(1).x == 1\n", code) == (0, "1 passed")


@pytest.mark.parametrize(
    ("tests", "imported"),
    [
        ("import solution", True),
        ("import solution as s", True),
        ("from solution import add", True),
        ("from . import solution", True),
        ("from pkg import solution", True),
        ("import pkg.solution", True),
        ("def f():\n    from solution import add", True),
        ("import solutions", False),
        ("# import solution\nx = 'from solution import y'", False),
        ("from pkg import solution_helper", False),
        ("import os", False),
    ],
)
def test_imports(tests: str, imported: bool) -> None:
    assert imports(ast.parse(tests), "solution.py") is imported


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def test(:\n", "no Python"),
        ("x = 1\n", "assert nothing"),
        ("# assert that it works\nprint('assert')\n", "assert nothing"),
        ("def test_a(tmp_path):\n    assert tmp_path\n", "'?test_a'? takes arguments"),
        ("class TestA:\n    def test_b(self, x):\n        assert x\n", "test_b"),
        ("def test_a(*, x):\n    assert x\n", "test_a"),
        ("\0", "no Python"),
        ("(" * 500, "no Python"),
    ],
)
def test_tests_that_test_nothing(text: str, complaint: str) -> None:
    with pytest.raises(ToolError, match=complaint):
        check_tests(text)


@pytest.mark.parametrize(
    "text",
    [
        "assert f(1) == 2\n",
        "def test_a(x=1, *args, **more):\n    assert f(x)\n",
        "class A(unittest.TestCase):\n    def test_a(self):\n        self.assertTrue(f(1))\n",
        "with pytest.raises(ValueError):\n    f(1)\n",
        "@patch('a.b')\ndef test_a(b):\n    assert b\n",
    ],
)
def test_tests_that_test_something(text: str) -> None:
    check_tests(text)


def test_the_same_failure_is_known_again() -> None:
    one = "1 failed in 0.12s\n<object at 0x7f01>: 3 != 4"
    assert comparable(one) == comparable("1 failed in 3.4s\n<object at 0x7fAB>: 3 != 4")
    assert comparable(one) != comparable("1 failed in 0.12s\n<object at 0x7f01>: 3 != 5")
