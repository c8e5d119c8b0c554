"""From typed settings to the flags of llama-server, build b11434."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from benchai.config import ModelConfig
from benchai.errors import ConfigError
from benchai.runtime.engine import native_flags
from benchai.runtime.engine.argv import ModelFiles, build_flags, resolve_files, unknown_flags

HERE = Path(__file__).parent
FILES = ModelFiles(model=Path("/m/a.gguf"), slot_dir=Path("/cache/slots/code"))


def flags_of(settings: dict[str, Any], slots: int = 1) -> list[str]:
    model = ModelConfig.model_validate({"file": "a.gguf", **settings})
    files = resolve_files("code", model, lambda file: Path("/m", file), FILES.model, FILES.slot_dir)
    return build_flags("code", model, files, slots)


def test_the_whole_vector_of_a_model_without_settings() -> None:
    assert flags_of({}, slots=2) == [
        *("--model", "/m/a.gguf", "--alias", "code", "--host", "127.0.0.1", "--port", "0"),
        *("--gpu-layers", "auto", "--parallel", "2", "--kv-unified", "--flash-attn", "auto", "--cont-batching"),
        *("--cache-ram", "256", "--slot-save-path", "/cache/slots/code/", "--metrics", "--jinja"),
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"context": 8192}, "--ctx-size 8192"),
        ({"context": 0}, "--ctx-size 0"),
        ({"gpu_layers": 35}, "--gpu-layers 35"),
        ({"gpu_layers": 0}, "--gpu-layers 0"),
        ({"gpu_layers": "all"}, "--gpu-layers all"),
        ({"threads": 8}, "--threads 8"),
        ({"threads_batch": 4}, "--threads-batch 4"),
        ({"batch_size": 512}, "--batch-size 512"),
        ({"ubatch_size": 256}, "--ubatch-size 256"),
        ({"flash_attn": True}, "--flash-attn on"),
        ({"flash_attn": False}, "--flash-attn off"),
        ({"flash_attn": "auto"}, "--flash-attn auto"),
        ({"cont_batching": False}, "--no-cont-batching"),
        ({"cache_type_k": "q8_0"}, "--cache-type-k q8_0"),
        ({"cache_type_v": "q4_0"}, "--cache-type-v q4_0"),
        ({"cache_reuse": 256}, "--cache-reuse 256"),
        ({"cache_reuse": 0}, "--cache-reuse 0"),
        ({"mlock": True}, "--load-mode mlock"),
        ({"mlock": True, "load_mode": "mmap+mlock"}, "--load-mode mmap+mlock"),
        ({"load_mode": "none"}, "--load-mode none"),
        ({"slot_save_path": "saved"}, "--slot-save-path /m/saved/"),
        ({"jinja": False}, "--no-jinja"),
        ({"chat_template_file": "t.jinja"}, "--chat-template-file /m/t.jinja"),
        ({"mmproj": "p.gguf"}, "--mmproj /m/p.gguf"),
        ({"draft": {"file": "d.gguf"}}, "--spec-type draft-simple --model-draft /m/d.gguf --spec-draft-n-max 16"),
        (
            {"draft": {"file": "d.gguf", "max_tokens": 4, "gpu_layers": 0}},
            "--spec-draft-n-max 4 --spec-draft-p-min 0.75 --gpu-layers-draft 0",
        ),
        ({"ngram": True}, "--spec-type ngram-mod"),
        ({"lora": ["a.gguf", "b.gguf"]}, "--lora /m/a.gguf,/m/b.gguf"),
        ({"embedding": True, "pooling": "mean"}, "--embedding --pooling mean"),
        ({"rerank": True}, "--rerank"),
        ({"host": "0.0.0.0", "port": 8093}, "--host 0.0.0.0 --port 8093"),
        ({"extra_args": ["--temp", "0.7"]}, "--jinja --temp 0.7"),
    ],
)
def test_each_key_and_its_flags(settings: dict[str, Any], expected: str) -> None:
    flags = flags_of(settings)
    assert f" {expected} " in f" {' '.join(flags)} "
    names = [flag for flag in flags if flag.startswith("--")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({}, "--ctx-size --threads --threads-batch --batch-size --ubatch-size --cache-type-k --cache-type-v"),
        ({}, "--load-mode --mmproj --model-draft --spec-type --lora --embedding --rerank --pooling --cache-reuse"),
        ({"metrics": False}, "--metrics"),
        ({"mlock": True}, "--mlock --no-mmap"),
        ({"draft": {"file": "d"}}, "--draft-max --draft-min --gpu-layers-draft"),
        ({"temperature": 0.5, "top_p": 0.5, "max_tokens": 5}, "--temp --top-p --predict"),
    ],
)
def test_what_is_not_set_is_left_to_the_engine(settings: dict[str, Any], absent: str) -> None:
    assert not set(flags_of(settings)) & set(absent.split())


def test_draft_and_ngram_together_are_both_named() -> None:
    """llama-server adds up the types that it is given; each way of drafting is among them once."""
    flags = flags_of({"draft": {"file": "d.gguf"}, "ngram": True})
    settings = native_flags.parse([flag.replace("/cache/slots/code/", str(HERE)) for flag in flags])
    types = [kind for flag, value in settings if "--spec-type" in flag.names for kind in value]
    assert sorted(types) == ["draft-simple", "ngram-mod"]


def test_extra_args_come_last_and_as_they_are() -> None:
    extra = ["--temp", "0.7", "--temp", "-1", "", "ä b"]
    assert flags_of({"embedding": True, "pooling": "cls", "extra_args": extra})[-6:] == extra


def test_the_engines_folder_of_slots_ends_with_one_slash() -> None:
    flags = flags_of({"slot_save_path": "saved/"})
    assert flags[flags.index("--slot-save-path") + 1] == "/m/saved/"


def test_a_comma_in_the_path_of_an_adapter() -> None:
    with pytest.raises(ConfigError, match=r"models\.code\.lora = 'a,b\.gguf': the path holds a comma") as raised:
        flags_of({"lora": ["a,b.gguf"]})
    assert raised.value.hint == "rename the file"


NUMBER = st.integers(1, 2**31 - 1)
TYPES = st.sampled_from(["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"])
LAYERS = st.one_of(st.integers(0, 999), st.sampled_from(["auto", "all"]))
NAME = st.text("abc.ä -", min_size=1, max_size=8).map(lambda name: f"{name}.gguf")
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "context": st.integers(0, 2**31 - 1),
        "gpu_layers": LAYERS,
        "threads": NUMBER,
        "threads_batch": NUMBER,
        "batch_size": NUMBER,
        "ubatch_size": NUMBER,
        "flash_attn": st.sampled_from([True, False, "auto"]),
        "cont_batching": st.booleans(),
        "cache_type_k": TYPES,
        "cache_type_v": TYPES,
        "cache_reuse": st.integers(0, 2**31 - 1),
        "load_mode": st.sampled_from(["none", "mmap", "mlock", "mmap+mlock", "dio"]),
        "mlock": st.booleans(),
        "metrics": st.booleans(),
        "jinja": st.booleans(),
        "mmproj": NAME,
        "draft": st.fixed_dictionaries({"file": NAME}, optional={"max_tokens": NUMBER, "gpu_layers": LAYERS}),
        "ngram": st.booleans(),
        "lora": st.lists(NAME, max_size=3),
        "embedding": st.booleans(),
        "pooling": st.sampled_from(["none", "mean", "cls", "last"]),
        "rerank": st.booleans(),
        "host": st.sampled_from(["127.0.0.1", "::1", "localhost", "/tmp/engine.sock"]),
        "port": st.integers(0, 65535),
        "max_tokens": NUMBER,
        "temperature": st.floats(0, 5),
        "top_p": st.floats(0.01, 1),
    },
)


@given(SETTINGS, st.integers(1, 64))
def test_whatever_validates_is_a_command_line_that_the_engine_reads(settings: dict[str, Any], slots: int) -> None:
    try:
        model = ModelConfig.model_validate({"file": "a.gguf", **settings})
    except ValidationError:
        return
    files = resolve_files("code", model, lambda file: Path("/m", file), FILES.model, HERE)
    flags = build_flags("code", model, files, slots)
    assert all(type(flag) is str for flag in flags)
    assert unknown_flags([flag for flag in flags if flag.startswith("--")], native_flags.known_flags()) == []
    native_flags.parse(flags)


@pytest.mark.parametrize("host", ["", " ", ","])
def test_an_address_that_no_engine_takes_is_refused_with_the_configuration(host: str) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate({"file": "a.gguf", "host": host})


@pytest.mark.parametrize("key", ["context", "threads", "batch_size", "cache_reuse", "slots"])
def test_a_number_that_no_engine_holds_is_refused_with_the_configuration(key: str) -> None:
    """The engine reads 32-bit integers."""
    with pytest.raises(ValidationError):
        ModelConfig.model_validate({"file": "a.gguf", key: 2**31})


@pytest.mark.parametrize(
    ("flags", "unknown"),
    [
        (["--temp", "0.7"], []),
        (["--temperatur", "0.7"], ["--temperatur"]),
        (["-c", "-1", "-np", "-2.5"], []),
        (["-xyz"], ["-xyz"]),
        (["-"], []),
        (["value", ""], []),
        (["--ctx_size", "512"], []),
    ],
)
def test_flags_that_an_engine_does_not_take(flags: list[str], unknown: list[str]) -> None:
    """llama-server takes ``--ctx_size`` for ``--ctx-size``."""
    known = frozenset({"--temp", "-c", "--ctx-size", "-np"})
    assert unknown_flags(flags, known) == unknown
