"""What is asked of llama-quantize, how a text is cut, and what two perplexities say of each other."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config.models import DraftConfig, EngineConfig, ModelConfig
from benchai.errors import EngineNotFound, UsageError
from benchai.runtime.engine.quantize import find_quantizer, output_bytes, parse_types
from benchai.runtime.measure.perplexity import SAMPLE, Change, Perplexity, change, cut, read_text
from benchai.runtime.measure.quality import launch_settings, predicts, verdict
from benchai.runtime.placement.model_info import read_model_info
from tests.conftest import TINY

HELP = """usage: llama-quantize [--help] [--dry-run] model-f32.gguf [model-quant.gguf] type [nthreads]

  --dry-run
                                      example: llama-quantize --dry-run model-f32.gguf Q4_K
 allowed quantization types
  41  or  Q2_0    :  2.25 bpw quantization (group 64)
  38  or  MXFP4_MOE :  MXFP4 MoE
  15  or  Q4_K    : alias for Q4_K_M
  15  or  Q4_K_M  :  4.58G, +0.1754 ppl @ Llama-3-8B
   1  or  F16     : 14.00G, +0.0020 ppl @ Mistral-7B
   0  or  COPY    : only copy tensors, no quantizing
          COPY    : only copy tensors, no quantizing
"""


def program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_types_are_those_of_the_help() -> None:
    assert parse_types(HELP) == ("Q2_0", "MXFP4_MOE", "Q4_K", "Q4_K_M", "F16")
    assert parse_types("llama-server: no such option") == ()


def test_the_quantizer_beside_the_engine_comes_before_that_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = program(tmp_path / "opt", "llama-server")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    config = EngineConfig(path=str(server))
    with pytest.raises(EngineNotFound, match="neither beside the engine nor on PATH"):
        find_quantizer(config)
    on_path = program(tmp_path / "bin", "llama-quantize")
    assert find_quantizer(config) == on_path
    beside = program(tmp_path / "opt", "llama-quantize")
    assert find_quantizer(config) == beside
    assert find_quantizer(EngineConfig(kind="native")) == on_path


def test_a_linked_engine_has_its_quantizer_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = program(tmp_path / "cellar", "llama-quantize")
    server = program(tmp_path / "cellar", "llama-server")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "llama-server").symlink_to(server)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_quantizer(EngineConfig()) == beside


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("Q8_0", 8.5),
        ("Q5_K_M", 5.7),
        ("Q4_0", 4.5),
        ("Q3_K_L", 3.4375),
        ("BF16", 16),
        ("IQ3_M", 3),
        ("MXFP4_MOE", 4.25),
    ],
)
def test_about_how_large_a_file_becomes(name: str, bits: float) -> None:
    info = read_model_info(TINY)
    assert output_bytes(info, name) == int(info.parameters * bits / 8)


@given(
    length=st.integers(0, 200),
    bos=st.sampled_from([None, 1000]),
    tokens=st.integers(1, 150),
    window=st.integers(8, 64),
)
def test_each_target_stands_once_and_behind_what_precedes_it(
    length: int, bos: int | None, tokens: int, window: int
) -> None:
    text = list(range(length))
    windows = cut(text, bos, tokens, window)
    targets = [target for one in windows for target in one.targets]
    assert len(targets) == len(set(targets)) <= tokens
    for one in windows:
        assert len(one.context) + len(one.targets) <= window
        assert len(one.context) > len(one.targets) or not one.targets
        plain = [*one.context, *one.targets][bos is not None :]
        assert plain == list(range(plain[0], plain[0] + len(plain))) if plain else True
        assert bos is None or one.context[0] == bos


def test_windows_are_those_of_llama_perplexity() -> None:
    """Tokens 0 to 511 with BOS in the place of the first: those behind position 256 count."""
    windows = cut(range(2000), None, 10_000, 512)
    assert [(one.context[0], len(one.context), one.targets[0], one.targets[-1]) for one in windows] == [
        (0, 257, 257, 511),
        (512, 257, 769, 1023),
        (1024, 257, 1281, 1535),
    ]
    [first, second] = cut(range(1023), 9999, 300, 512)
    # BOS moves the text by one, and takes the place of the first token of the second window
    assert (first.context[:2], first.targets[-1]) == ((9999, 0), 510)
    assert (second.context[:2], len(second.targets)) == ((9999, 512), 300 - 255)


def test_a_perplexity_and_its_error() -> None:
    """Of four equally likely tokens, whichever comes; an uneven row has an error."""
    even = Perplexity((math.log(0.25),) * 10)
    assert even.value == pytest.approx(4)
    assert even.error == pytest.approx(0)
    uneven = Perplexity((math.log(0.5), math.log(0.125)))
    assert uneven.value == pytest.approx(4)
    # nll: mean ln 4, variance (ln 2)^2; two values
    assert uneven.error == pytest.approx(4 * math.log(2))


def test_a_change_is_taken_token_by_token() -> None:
    """The tokens differ by a factor of 1000, the models by 1 % on each: that is certain all the same."""
    before = Perplexity(tuple(math.log(p) for p in (0.9, 0.0009, 0.5, 0.0005) * 20))
    after = Perplexity(tuple(value - 0.01 for value in before.logprobs))
    found = change(before, after)
    assert found.ratio == pytest.approx(math.exp(0.01))
    assert found.percent == pytest.approx(1.005, abs=0.001)
    assert (found.low, found.high) == pytest.approx((found.ratio, found.ratio))
    assert before.error / before.value > 0.3
    with pytest.raises(ValueError, match="shorter"):
        change(before, Perplexity(after.logprobs[1:]))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (None, "Q4_K_M is 66 % smaller; what it loses was not measured"),
        (Change(0.99, 0.985, 0.995), "and no loss: the perplexity changes by -1.00 %"),
        (Change(1.004, 0.999, 1.009), "no loss can be told from chance: perplexity +0.40 % (-0.10 % to +0.90 %)"),
        (Change(1.004, 0.95, 1.06), "more text (--text, --tokens) would tell more"),
        (Change(1.004, 1.001, 1.007), "at hardly any loss: perplexity +0.40 % (+0.10 % to +0.70 %)"),
        (Change(1.03, 1.01, 1.05), "at a small loss"),
        (Change(1.1, 1.05, 1.15), "at a clear loss"),
        (Change(1.6, 1.5, 1.7), "at a heavy loss"),
    ],
)
def test_the_verdict(loss: Change | None, words: str) -> None:
    assert words in verdict("Q4_K_M", 66.3, loss)
    assert not verdict("Q4_K_M", 66.3, loss).endswith(".")


def test_a_larger_file_is_called_so() -> None:
    assert verdict("F32", -99.6, None).startswith("F32 is 100 % larger")


def test_an_engine_that_measures_has_the_model_alone() -> None:
    info = read_model_info(TINY)
    draft = DraftConfig(file="d.gguf")
    base = ModelConfig(hf="a/b", threads=3, draft=draft, ngram=True, mmproj="m.gguf", context=9)
    found = launch_settings(info, 600, base)
    assert (found.file, found.hf, found.threads) == (str(TINY), None, 3)
    assert (found.draft, found.ngram, found.mmproj) == (None, False, None)
    assert not launch_settings(info, 600, ModelConfig(hf="a/b", embedding=True)).embedding
    # 255 tokens count of a window of 512: three windows
    assert found.slots == 3
    assert found.context is not None
    assert found.context >= 3 * 512
    assert launch_settings(info, 100_000).slots == 4
    short = launch_settings(replace(info, context_length=64), 32)
    assert (short.slots, short.context) == (2, 2 * 72)


def test_encoders_and_projectors_predict_no_text() -> None:
    info = read_model_info(TINY)
    assert predicts(info)
    assert not predicts(replace(info, projector=True))
    assert not predicts(replace(info, kv_heads=(0, 0)))
    assert predicts(replace(info, kv_heads=(0, 0), recurrent=True))


def test_a_text_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "zero").write_bytes(b"a\0b")
    faults = [("none", "No such file"), ("latin", "utf-8"), ("empty", "is empty"), (".", "directory"), ("zero", "zero")]
    for name, words in faults:
        with pytest.raises(UsageError, match=words):
            read_text(tmp_path / name)


def test_the_bundled_text_is_long_enough_for_the_default() -> None:
    text, source = read_text(None)
    assert source == "bundled text"
    # three windows of 512 tokens, at about four characters each
    assert len(text) > 4.5 * 3 * 512
    assert os.access(SAMPLE, os.R_OK)
