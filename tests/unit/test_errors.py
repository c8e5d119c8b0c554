"""The tree of errors and its hints; and what the package shows to the world."""

from __future__ import annotations

import importlib.resources
import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchai
from benchai import errors
from benchai.errors import BenchAIError, ContextExceeded, EngineStartError, did_you_mean, nearest


def documented_tree() -> dict[str, str | None]:
    """Class -> base, from the indented lines of the module docstring."""
    found: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"( *)([A-Z]\w+)(?:  |$)", line)
        if match is None:
            continue
        indent, name = len(match[1]), match[2]
        above = [(depth, base) for depth, base in above if depth < indent]
        found[name] = above[-1][1] if above else None
        above.append((indent, name))
    return found


def classes() -> list[type[BenchAIError]]:
    members = [member for _, member in inspect.getmembers(errors, inspect.isclass)]
    return [member for member in members if issubclass(member, BenchAIError)]


def subclasses(base: type[BenchAIError]) -> set[type[BenchAIError]]:
    return {base}.union(*(subclasses(sub) for sub in base.__subclasses__()))


def test_the_docstring_is_the_tree() -> None:
    assert documented_tree() == {
        one.__name__: one.__bases__[0].__name__ if one is not BenchAIError else None for one in classes()
    }


def test_no_other_module_adds_to_the_tree() -> None:
    assert {one.__module__ for one in subclasses(BenchAIError)} == {"benchai.errors"}


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_error_tells_message_hint_and_codes(kind: type[BenchAIError]) -> None:
    error = kind("what", hint="mend")
    assert (str(error), error.message, error.hint) == ("what", "what", "mend")
    assert kind("what").hint is None
    assert error.exit_code in (1, 2)
    assert 400 <= error.status < 600
    assert kind.__doc__


def test_further_facts_of_an_error() -> None:
    start = EngineStartError("what", log=(line for line in ("a", "b")), exit_code_of_process=-9)
    assert (start.log, start.exit_code_of_process, start.exit_code) == (("a", "b"), -9, 2)
    overflow = ContextExceeded("what", n_prompt_tokens=10, n_ctx=5)
    assert (overflow.n_prompt_tokens, overflow.n_ctx, overflow.status) == (10, 5, 400)


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("threds", ["threads", "slots"], "did you mean 'threads'?"),
        ("THREADS", ["threads"], "did you mean 'threads'?"),
        ("code", ["Code", "node"], "did you mean 'Code'?"),
        ("zzz", ["b", "a"], "valid names: a, b"),
        ("zzz", [], "there are none"),
        ("", ["a"], "valid names: a"),
    ],
)
def test_hints_for_a_name(name: str, names: list[str], expected: str) -> None:
    assert did_you_mean(name, names) == expected
    assert did_you_mean(name, iter(names)) == expected


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=5))
def test_the_nearest_name_is_one_of_the_names(name: str, names: list[str]) -> None:
    assert nearest(name, names) in {None, *names}
    if name in names:
        found = nearest(name, names)
        assert found is not None
        assert found.lower() == name.lower()


def test_public_names() -> None:
    assert sorted(benchai.__all__) == benchai.__all__
    for name in benchai.__all__:
        assert getattr(benchai, name) is not None
    assert set(benchai.__all__) <= {*dir(benchai), "Bench", "workflow"}
    with pytest.raises(AttributeError, match="has no attribute 'Fleet'"):
        benchai.Fleet  # noqa: B018


def test_the_package_is_typed_and_has_a_version() -> None:
    assert importlib.resources.files("benchai").joinpath("py.typed").is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", benchai.__version__)
