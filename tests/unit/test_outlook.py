"""`fleet plan`: a bar for each device that adds up, and words for what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.runtime.placement.estimate import Estimate
from benchai.runtime.placement.memory import Need
from benchai.runtime.placement.outlook import WIDTH, Outlook

Sizes = dict[str, tuple[int, int]]


def need(*options: dict[str, int], kv: int = 0) -> Need:
    total = sum(options[0].values())
    return Need(options, Estimate(total - kv, kv, 0, 0), {})


def view(needs: dict[str, Need], total: int = 1000, budget: int = 800, **more: Any) -> Outlook:
    return Outlook(["gpu0"], {"gpu0": total, "cpu": 4000}, {"gpu0": budget, "cpu": 3000}, needs, {}, **more)


def bar(line: str) -> str:
    return line[line.index("[") + 1 : line.rindex("]")]


def test_a_bar_and_its_legend() -> None:
    lines = list(view({"a": need({"gpu0": 400}, kv=100), "b": need({"gpu0": 200})}).bars())
    assert lines[0] == f"gpu0 [{'#' * 10}{'A' * 14}~~~~~{'B' * 9}{'.' * 10}] 1000 MiB"
    assert lines[1] == (
        "  # reserved or in use by others 200, A a 400 (~ KV cache 100), B b 200 (~ KV cache 0), . free 200"
    )
    assert lines[2] == f"cpu [{'#' * 12}{'.' * 36}] 4000 MiB"


def test_more_than_there_is_takes_turns() -> None:
    lines = list(view({name: need({"gpu0": 700}) for name in "ab"}).bars())
    assert "600 too much at once: they take turns" in lines[1]
    assert len(bar(lines[0])) == WIDTH
    assert "." not in bar(lines[0])


def test_a_model_lives_on_the_first_device_that_ever_holds_it() -> None:
    shown = view({"a": need({"gpu0": 900}, {"cpu": 900}), "b": need({"gpu0": 9000}, {"cpu": 9000})})
    assert shown.claim("a") == {"cpu": 900}
    assert shown.claim("b") is None
    assert "b fits nowhere: it needs {'gpu0': 9000} MiB" in list(shown.bars())
    assert shown.of("a") == {"weights": 900, "kv": 0, "total": 900, "claim": {"cpu": 900}, "measured": {}}
    assert shown.of("b") == {"weights": 9000, "kv": 0, "total": 9000, "claim": {}, "measured": {}}
    assert shown.of("far") is None


def test_a_device_that_is_not_there_holds_nothing() -> None:
    assert view({"a": need({"gpu1": 1}, {"cpu": 1})}).claim("a") == {"cpu": 1}


def test_a_model_that_cannot_be_read() -> None:
    shown = Outlook([], {"cpu": 10}, {"cpu": 10}, {}, {"a": "it is no GGUF"})
    assert list(shown.bars())[-1] == "a: it is no GGUF"
    assert shown.of("a") == {"problem": "it is no GGUF"}


def test_a_machine_without_room() -> None:
    lines = list(Outlook([], {"cpu": 0}, {"cpu": 0}, {}, {}).bars())
    assert len(bar(lines[0])) == WIDTH


def test_more_models_than_letters_are_all_named() -> None:
    lines = list(view({f"m{number}": need({"gpu0": 20}) for number in range(30)}).bars())
    assert all(f" m{number} 20 " in lines[1] for number in range(30))


@given(
    total=st.integers(0, 100_000),
    reserved=st.integers(0, 100_000),
    models=st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 60_000)), max_size=40),
)
def test_a_bar_is_always_as_long(total: int, reserved: int, models: list[tuple[int, int]]) -> None:
    needs = {f"m{number}": need({"gpu0": mib}, kv=kv) for number, (mib, kv) in enumerate(models)}
    lines = list(view(needs, total, max(0, total - reserved)).bars())
    assert len(bar(lines[0])) == WIDTH


@pytest.mark.parametrize("kv", [0, 300, 500])
def test_the_kv_cache_is_a_part_of_the_claim(kv: int) -> None:
    [line, *_] = view({"a": need({"gpu0": 300}, kv=kv)}, 480, 480).bars()
    assert bar(line) == "~" * (30 if kv else 0) + "A" * (0 if kv else 30) + "." * 18
