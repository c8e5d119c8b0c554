"""Which requests may be answered from the cache, and what their key depends on."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config.models import ModelConfig
from benchai.runtime.router.cache.identity import FileMark, Identity, identify, mark
from benchai.runtime.router.cache.key import cacheable, canonical, flight_key, key_of

MESSAGES: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {}, "b": {}}}}}
BODY: dict[str, Any] = {"model": "auto", "messages": MESSAGES, "temperature": 0, "tools": [TOOL], "max_tokens": 9}
MODEL = Identity("model.gguf", (FileMark("model.gguf", 10, 20, "abc"),), "engine 1", {"context": 100})


def image(url: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": url}]}]


@pytest.mark.parametrize(
    ("change", "defaults", "reason"),
    [
        ({}, {}, "temperature 0"),
        ({"temperature": 0.0}, {}, "temperature 0"),
        ({"temperature": None}, {"temperature": 0}, "temperature 0"),
        ({"temperature": 0.7}, {"temperature": 0}, None),
        ({"temperature": None}, {}, None),
        ({"temperature": False}, {}, None),
        ({"temperature": "0"}, {}, None),
        ({"temperature": 1, "seed": 7}, {}, "fixed seed"),
        ({"temperature": 1}, {"seed": 7}, "fixed seed"),
        ({"temperature": 1, "seed": 0}, {}, "fixed seed"),
        ({"temperature": 1, "seed": -1}, {"seed": 7}, None),
        ({"temperature": 1, "seed": 2**32 - 1}, {}, None),
        ({"temperature": 1, "seed": True}, {}, None),
        ({"temperature": 1, "seed": 1.0}, {}, None),
        ({"n": 1}, {}, "temperature 0"),
        ({"n": 2}, {}, None),
        ({"n": 2, "benchai": {"cache": True}}, {}, None),
        ({"n": True}, {}, None),
        ({"temperature": 1, "benchai": {"cache": True}}, {}, "asked for"),
        ({"benchai": {"cache": False}}, {}, None),
        ({"benchai": "cache"}, {}, "temperature 0"),
        # chance that is left at temperature 0
        ({"samplers": ["top_k"]}, {}, None),
        ({"xtc_probability": 0.5}, {}, None),
        ({"dynatemp_range": 0.5}, {}, None),
        ({"mirostat": 2}, {}, None),
        ({}, {"mirostat": 2}, None),
        ({"mirostat": 0}, {}, "temperature 0"),
        # what the request does not hold itself
        ({"messages": image({"url": "https://example.org/a.png"})}, {}, None),
        ({"messages": image({"url": "file:///a.png"})}, {}, None),
        ({"messages": image({"url": "data:image/png;base64,AAAA"})}, {}, "temperature 0"),
        ({"messages": image("data:image/png;base64,AAAA")}, {}, "temperature 0"),
        ({"messages": image(None)}, {}, None),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, {}, None),
        ({"messages": [{"role": "user", "content": ["text"]}]}, {}, None),
        ({"messages": "no list"}, {}, "temperature 0"),
        ({"messages": [1, None]}, {}, "temperature 0"),
        ({"tools": [{"type": "web_search"}]}, {}, None),
        ({"tools": [3]}, {}, None),
        ({"web_search_options": {}}, {}, None),
    ],
)
def test_what_may_be_cached(change: dict[str, Any], defaults: dict[str, Any], reason: str | None) -> None:
    assert cacheable(BODY | change, defaults, {}) == reason


@pytest.mark.parametrize(
    ("headers", "cached"),
    [
        ({"X-BenchAI-No-Cache": "1"}, False),
        ({"x-benchai-no-cache": "true"}, False),
        ({"X-BenchAI-No-Cache": "anything"}, False),
        ({"X-BenchAI-No-Cache": "0"}, True),
        ({"X-BenchAI-No-Cache": " False "}, True),
        ({"X-BenchAI-Role": "code"}, True),
    ],
)
def test_the_header_switches_it_off(headers: dict[str, str], cached: bool) -> None:
    assert bool(cacheable(BODY | {"benchai": {"cache": True}}, {}, headers)) is cached


@pytest.mark.parametrize(
    "change",
    [
        {"stream": True},
        {"stream_options": {"include_usage": True}},
        {"user": "somebody"},
        {"metadata": {"a": "b"}},
        {"model": "code"},
        {"benchai": {"cache": True}},
        {"benchai": {}},
    ],
)
def test_fields_that_do_not_matter(change: dict[str, Any]) -> None:
    assert key_of(MODEL, BODY | change) == key_of(MODEL, BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0001},
        {"seed": 1},
        {"max_tokens": 10},
        {"tools": []},
        {"tool_choice": "none"},
        {"response_format": {"type": "json_object"}},
        {"some_field_of_tomorrow": None},
        {"benchai": {"session": "s"}},
        {"messages": MESSAGES[1:]},
        {"messages": MESSAGES[::-1]},
        {"messages": [MESSAGES[0], MESSAGES[1] | {"content": "hello"}]},
        {"messages": [MESSAGES[0], MESSAGES[1] | {"name": "n"}]},
        # the order of a schema's fields changes the prompt and the grammar
        {"tools": [{**TOOL, "function": {"name": "add", "parameters": {"properties": {"b": {}, "a": {}}}}}]},
    ],
)
def test_every_other_field_matters(change: dict[str, Any]) -> None:
    assert key_of(MODEL, BODY | change) != key_of(MODEL, BODY)


@pytest.mark.parametrize(
    "other",
    [
        Identity("other.gguf", MODEL.files, MODEL.engine, MODEL.settings),
        Identity(MODEL.source, (MODEL.files[0]._replace(changed=21),), MODEL.engine, MODEL.settings),
        Identity(MODEL.source, (MODEL.files[0]._replace(size=11),), MODEL.engine, MODEL.settings),
        Identity(MODEL.source, (MODEL.files[0]._replace(content="abd"),), MODEL.engine, MODEL.settings),
        Identity(MODEL.source, (*MODEL.files, FileMark("lora.gguf", 1, 2, "c")), MODEL.engine, MODEL.settings),
        Identity(MODEL.source, MODEL.files, "engine 2", MODEL.settings),
        Identity(MODEL.source, MODEL.files, MODEL.engine, {"context": 101}),
        Identity(MODEL.source, MODEL.files, MODEL.engine, MODEL.settings, "{{ messages }}"),
    ],
)
def test_everything_of_the_model_matters(other: Identity) -> None:
    assert key_of(other, BODY) != key_of(MODEL, BODY)


def test_the_order_of_the_bodys_fields_does_not_matter() -> None:
    assert key_of(MODEL, dict(reversed(BODY.items()))) == key_of(MODEL, BODY)
    assert len(key_of(MODEL, BODY) or b"") == 32


def test_a_template_that_writes_the_date_makes_replies_last_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for day in ("2026-01-01", "2026-01-02", "2026-01-01"):
        monkeypatch.setattr("time.strftime", lambda _, day=day: day)
        dated = Identity("m", template="{{ strftime_now('%d %b %Y') }}")
        keys.append((key_of(dated, BODY), key_of(MODEL, BODY)))
    assert keys[0] == keys[2]
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_without_json_have_no_key(odd: float) -> None:
    assert key_of(MODEL, BODY | {"x": [{"y": odd}]}) is None
    assert key_of(MODEL, BODY | {"x": [{"y": None}]}) is not None


def test_values_that_fast_json_refuses() -> None:
    keys = [key_of(MODEL, BODY | {"x": x}) for x in (2**70, 2**70 + 1, "\ud800", "\ud801", "\\ud800")]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert key_of(MODEL, BODY | {"x": deep}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """A value as JSON sees it: 1, 1.0 and true are three things, 0.0 and -0.0 two."""
    if isinstance(value, dict):
        return tuple((name, exact(one)) for name, one in value.items())
    if isinstance(value, list):
        return [exact(one) for one in value]
    return (type(value).__name__, repr(value))


@given(JSON, JSON)
def test_different_values_have_different_keys(a: Any, b: Any) -> None:
    same = canonical({"x": a}) == canonical({"x": b})
    assert same == (exact(a) == exact(b)) or canonical({"x": a}) is None


def test_the_form_of_an_answer_parts_calls_but_not_keys() -> None:
    forms: list[dict[str, Any]] = [
        {},
        {"stream": False, "stream_options": None},
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
    ]
    key = key_of(MODEL, BODY) or b""
    flights = [flight_key(key, BODY | form) for form in forms]
    assert flights[0] == flights[1]
    assert len(set(flights)) == 3


def test_marks_of_files(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"one")
    first = mark(file)
    assert first.current
    os.utime(file, ns=(1, first.changed + 1))
    assert not first.current
    file.write_bytes(b"two")
    os.utime(file, ns=(1, first.changed))
    assert mark(file).content != first.content
    file.unlink()
    assert not first.current


def test_the_identity_of_a_model(tmp_path: Path) -> None:
    model, lora = tmp_path / "m-00001-of-00002.gguf", tmp_path / "l.gguf"
    for file in (model, tmp_path / "m-00002-of-00002.gguf", lora, tmp_path / "m-00003-of-00003.gguf"):
        file.write_bytes(b"weights")
    config = ModelConfig(file=str(model), lora=[str(lora)], temperature=0)
    found = identify(config, [model, lora], engine="b1")
    assert [Path(one.path).name for one in found.files] == [model.name, "m-00002-of-00002.gguf", lora.name]
    assert found.source == str(model)
    assert found.current
    moved = identify(config.model_copy(update={"port": 9, "ttl": 1.0}), [model, lora], engine="b1")
    assert moved.digest() == found.digest()
    colder = identify(config.model_copy(update={"top_p": 0.5}), [model, lora], engine="b1")
    assert colder.digest() != found.digest()
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"others")
    assert not found.current
    assert identify(config, [model, lora], engine="b1").version != found.version


def test_a_remote_model_is_its_url_and_name() -> None:
    config = ModelConfig(endpoint="https://example.org/v1", model="large")
    found = identify(config)
    assert (found.source, found.files, found.current) == ("https://example.org/v1 large", (), True)
    other = copy.copy(config).model_copy(update={"model": "small"})
    assert identify(other).digest() != found.digest()
