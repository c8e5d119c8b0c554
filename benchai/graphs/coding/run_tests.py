"""Runs test files with nothing but Python, and tells of the first failure in few words: a program of its own.

Usage: run_tests.py MARK MAIN TEST...: the public names of MAIN are there in tests that import nothing from it. The
statements of a test file run first, then its functions ``test*``, its classes ``Test*`` and its unittest.TestCases.
MARK stands on a line of its own before the verdict, which is the last thing on stdout. Exit code 0: all passed; 1: one
failed; 2: nothing was tested.

What it says of a failed assert has the form that coding models know: ``assert CALL == RIGHT`` with plain values in
place of variables, then ``AssertionError: got VALUE``.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import signal
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULE = "benchai_tests"
#: Where an assert keeps what it got.
GOT = "_benchai_got"
SECONDS = 60.0
MOST_VALUE, MOST_NAME = 300, 80


class Stuck(BaseException):
    """A statement or a test takes too long; no ``except Exception`` of the code under test catches it."""


def main(arguments: list[str], seconds: float = SECONDS) -> int:
    """Run the tests in the files, each statement and test for so many seconds at most; returns the exit code."""
    mark, main_file, *tests = arguments
    sys.path[:0] = list(dict.fromkeys([str(Path.cwd()), *(str(Path(name).absolute().parent) for name in tests)]))
    tested = 0
    for name in tests:
        try:
            tested += run_file(main_file, name, seconds)
        except BaseException as error:  # SystemExit in a test is a failure, too
            _say(mark, told(error, name))
            return 1
    _say(mark, f"{tested} passed" if tested else "nothing was tested: the tests hold no assert that ran")
    return 0 if tested else 2


def _say(mark: str, verdict: str) -> None:
    print(f"\n{mark}\n{verdict}", flush=True)  # noqa: T201 - a program: stdout is its answer


def run_file(main_file: str, name: str, seconds: float = SECONDS) -> int:
    """Run one file; how many tests and statements with asserts passed."""
    tree = ast.parse(Path(name).read_text(encoding="utf-8"), name)
    module = types.ModuleType(MODULE)
    module.__file__ = name
    sys.modules[MODULE] = module
    space = module.__dict__
    with limited(seconds):
        space |= {} if imports(tree, main_file) else public(main_file)
        tested = sum(tests_something(statement, tree) for statement in tree.body)
        exec(compile(keeping_values(tree), name, "exec", dont_inherit=True), space)  # noqa: S102 - in a sandbox
    for key, value in list(space.items()):
        if getattr(value, "__module__", None) == MODULE:
            tested += run_named(key, value, seconds)
    return tested


def run_named(name: str, value: object, seconds: float) -> int:
    """Run what a name of a test file stands for, if it is a test; how many passed."""
    # whoever defines a TestCase has imported unittest; the others do not wait for it
    unittest = sys.modules.get("unittest")
    if unittest is not None and isinstance(value, type) and issubclass(value, unittest.TestCase):
        return run_case(value, seconds)
    if isinstance(value, type) and name.startswith("Test"):
        return sum(run_one(getattr(value(), key), seconds) for key in vars(value) if key.startswith("test"))
    return run_one(value, seconds) if isinstance(value, types.FunctionType) and name.startswith("test") else 0


def run_one(test: object, seconds: float) -> int:
    """Call one test; a coroutine is waited for."""
    if not callable(test):
        return 0
    with limited(seconds):
        result = test()
        if isinstance(result, types.CoroutineType):
            importlib.import_module("asyncio").run(result)
    return 1


def run_case(case: Any, seconds: float) -> int:
    """Run a TestCase as unittest does; raises what its first failing test raised."""
    unittest = importlib.import_module("unittest")
    failed: list[BaseException] = []

    class Result(unittest.TestResult):  # type: ignore[name-defined,misc]
        def _exc_info_to_string(self, err: Any, test: object) -> str:
            # every way to fail comes past here
            failed.append(err[1])
            return ""

    result = Result()
    result.failfast = True
    with limited(seconds):
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    if failed:
        raise failed[0]
    return int(result.testsRun)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Stuck in what takes longer."""

    def stop(*_: object) -> None:
        raise Stuck

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def imports(tree: ast.Module, main_file: str) -> bool:
    """Whether a test file imports the main module, or anything from it."""
    name = module_name(Path(main_file)).rpartition(".")[2]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or "", *(alias.name for alias in node.names)]
    return any(name in path.split(".") for path in found)


def module_name(file: Path) -> str:
    """The name that a file is imported by: with its packages, without the folders above them."""
    parts = [] if file.stem == "__init__" else [file.stem]
    folder = file.absolute().parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) or folder.name


def public(main_file: str) -> dict[str, object]:
    """The names that the main file defines; none where it is missing, or no Python."""
    file = Path(main_file)
    if file.suffix != ".py" or not file.is_file():
        return {}
    return {key: value for key, value in vars(load(file)).items() if not key.startswith("__")}


def load(file: Path) -> types.ModuleType:
    """The main file as a module; one within a package is imported by its full name."""
    name = module_name(file)
    if "." in name or file.stem == "__init__":
        sys.path.insert(0, str(file.absolute().parents[name.count(".") + (file.stem == "__init__")]))
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # a main file may bear the name of a module that is loaded already
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def tests_something(statement: ast.stmt, tree: ast.Module) -> bool:
    """Whether a statement asserts, or calls a function of the test file that does, as ``check(candidate)``."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    checks = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and has_assert(node)}
    called = {
        node.func.id for node in ast.walk(statement) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return has_assert(statement) or bool(called & checks)


def has_assert(node: ast.AST) -> bool:
    """Whether an assert stands in it."""
    return any(isinstance(one, ast.Assert) for one in ast.walk(node))


def keeping_values(tree: ast.Module) -> ast.Module:
    """The tree, changed so that what an assert looks at is kept: to ask for it again might give another value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and (looked_at := what_is_tested(node)) is not None:
            kept = ast.copy_location(ast.NamedExpr(ast.Name(GOT, ast.Store()), looked_at), looked_at)
            if isinstance(node.test, ast.Compare):
                node.test.left = kept
            elif isinstance(node.test, ast.UnaryOp):
                node.test.operand = kept
            else:
                node.test = kept
    return ast.fix_missing_locations(tree)


def what_is_tested(node: ast.Assert) -> ast.expr | None:
    """The left side of a comparison, or the call whose truth is asserted."""
    test = node.test
    if isinstance(test, ast.Compare):
        return test.left if len(test.ops) == 1 else None
    operand = test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else test
    return operand if isinstance(operand, ast.Call) else None


def told(error: BaseException, test: str) -> str:
    """A failure: the statement of the test, and what it got or raised."""
    frame, line, deepest = place_in(error, test)
    if frame is None or (isinstance(error, SyntaxError) and not deepest):
        return last_lines(error)
    statement = statement_at(test, line)
    lines = [] if statement is None else [with_values(statement, frame)]
    if isinstance(error, AssertionError) and deepest:
        lines.append(f"AssertionError{got(error, statement, frame)}")
    else:
        lines += last_lines(error).splitlines()
    return "\n".join(lines)


def last_lines(error: BaseException) -> str:
    """What an error says, in three lines at most."""
    if isinstance(error, Stuck):
        return "TimeoutError: it takes too long"
    text = "".join(traceback.format_exception_only(error)).strip()
    return text if isinstance(error, SyntaxError) else "\n".join(text.splitlines()[-3:])


def place_in(error: BaseException, test: str) -> tuple[types.FrameType | None, int, bool]:
    """The innermost frame of the test file that an error came through, its line, and whether it was raised there."""
    frame, line, deepest = None, 0, False
    step = error.__traceback__
    while step is not None:
        deepest = step.tb_frame.f_code.co_filename == test
        if deepest:
            frame, line = step.tb_frame, step.tb_lineno
        step = step.tb_next
    return frame, line, deepest


def statement_at(test: str, line: int) -> ast.stmt | None:
    """The innermost statement of a test file at a line."""
    nodes = ast.walk(ast.parse(Path(test).read_text(encoding="utf-8")))
    found = [node for node in nodes if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)]
    return max(found, key=lambda node: node.lineno, default=None)


def with_values(statement: ast.stmt, frame: types.FrameType) -> str:
    """A statement, with short plain values in place of variables and a function's own name in place of a parameter.

    A model that did not write the test knows ``add(1, 2)``, not ``candidate(a, b)``. Only the head of a loop or of
    another compound statement is shown.
    """
    if not isinstance(statement, ast.Assert | ast.Expr):
        text = ast.unparse(statement)
        return text.partition("\n")[0] if hasattr(statement, "body") else text
    nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    bound = {node.id for node in nodes if not isinstance(node.ctx, ast.Load)}
    names = {key: value for key, value in {**frame.f_globals, **frame.f_locals}.items() if key not in bound}
    # the first name is the oldest: the function's own
    own = {id(value): key for key, value in reversed(frame.f_globals.items()) if callable(value)}
    return ast.unparse(Named(names, own).visit(statement))


class Named(ast.NodeTransformer):
    """Puts values in place of names."""

    def __init__(self, names: dict[str, object], own: dict[int, str]) -> None:
        self.names, self.own = names, own

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The value of a name where it is short and plain, another name of the same function otherwise."""
        value = self.names.get(node.id)
        if callable(value):
            return ast.Name(self.own.get(id(value), node.id))
        if node.id in self.names and is_plain(value) and len(text := repr(value)) <= MOST_NAME:
            return ast.parse(text, mode="eval").body
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        """Its parameters hide names: left alone."""
        return node


def is_plain(value: object) -> bool:
    """Whether a value is written as its repr."""
    if isinstance(value, float):
        return value - value == 0  # neither infinite nor NaN
    if isinstance(value, list | tuple):
        return len(value) <= MOST_NAME and all(map(is_plain, value))
    if isinstance(value, dict):
        return len(value) <= MOST_NAME and all(is_plain(one) for pair in value.items() for one in pair)
    return value is None or type(value) in (bool, int, str, bytes)


def got(error: AssertionError, statement: ast.stmt | None, frame: types.FrameType) -> str:
    """What a failed assert got, and its own message."""
    said = str(error)
    if not isinstance(statement, ast.Assert) or what_is_tested(statement) is None or GOT not in frame.f_locals:
        return f": {said}" if said else ""
    return f": got {frame.f_locals[GOT]!r:.{MOST_VALUE}}" + (f" ({said})" if said else "")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
