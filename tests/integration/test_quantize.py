"""``benchai models quantize``, and the perplexity that engines tell, against one that is computed here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from benchai.errors import EngineError, ModelFileError, UsageError
from benchai.runtime.engine.quantize import Job, plan, quantise
from benchai.runtime.measure.perplexity import cut, perplexity
from benchai.runtime.measure.quality import launch_settings
from benchai.runtime.measure.rig import started, with_model
from benchai.runtime.placement.model_info import read_model_info
from tests.conftest import TINY
from tests.integration.helpers import TINY_MODEL, benchai, commands, ended, loaded, running, until, write_config
from tests.integration.stand_in_quantize import install

__all__ = ["commands"]
pytestmark = pytest.mark.anyio
Array = npt.NDArray[np.float32]

# what the bundled model was trained on, more or less
_NAMES = ("falcon", "meadow", "copper", "lantern", "harbour", "violet")
_BODIES = ("return {0}[-1]", "return len({0})", "return sum({0})", "return max({0})")
TEXT = "\n".join(f"def {name}({name}s):\n    {body.format(name + 's')}\n" for body in _BODIES for name in _NAMES)


def settings() -> dict[str, Any]:
    return TINY_MODEL | {"extra_args": ["--no-warmup", "--no-repack"]}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return install(tmp_path / "bin")


@pytest.fixture
def job(program: Path, tmp_path: Path) -> Job:
    return plan(program, TINY, tmp_path / "out.gguf", "q8_0")


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, how: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("STAND_IN", how)
        yield


def partials(folder: Path) -> list[Path]:
    return list(folder.glob(".out.gguf.*.partial"))


class Forward:
    """The bundled model in NumPy: what llama.cpp must compute, written down once more."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.weights = {one.name: np.asarray(one.data, dtype=np.float32) for one in reader.tensors}
        self.layers, self.heads, self.base, self.epsilon = (
            reader.fields[f"qwen3.{key}"].contents()
            for key in ("block_count", "attention.head_count", "rope.freq_base", "attention.layer_norm_rms_epsilon")
        )

    def logprobs(self, tokens: list[int]) -> Array:
        """``ln p`` of each token but the first, behind those before it."""
        x = self.weights["token_embd.weight"][tokens]
        for layer in range(self.layers):
            x = x + self._attention(layer, self._normed(x, f"blk.{layer}.attn_norm"))
            y = self._normed(x, f"blk.{layer}.ffn_norm")
            gate, up = self._by(y, f"blk.{layer}.ffn_gate"), self._by(y, f"blk.{layer}.ffn_up")
            x = x + self._by(gate / (1 + np.exp(-gate)) * up, f"blk.{layer}.ffn_down")
        logits = self._by(self._normed(x, "output_norm"), "token_embd")
        logits -= logits.max(axis=-1, keepdims=True)
        found = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return np.asarray(found[np.arange(len(tokens) - 1), tokens[1:]], dtype=np.float32)

    def _attention(self, layer: int, x: Array) -> Array:
        q, k, v = (self._by(x, f"blk.{layer}.attn_{one}").reshape(len(x), self.heads, -1) for one in "qkv")
        q, k = (self._rotated(self._normed(one, f"blk.{layer}.attn_{n}_norm")) for one, n in ((q, "q"), (k, "k")))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        scores += np.triu(np.full((len(x), len(x)), -np.inf), 1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self._by(np.einsum("hij,jhd->ihd", weights, v).reshape(len(x), -1), f"blk.{layer}.attn_output")

    def _rotated(self, x: Array) -> Array:
        half = x.shape[-1] // 2
        angles = np.arange(len(x))[:, None, None] * self.base ** (-np.arange(half) / half)
        first, second = x[..., :half], x[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)

    def _normed(self, x: Array, name: str) -> Array:
        scale = np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.epsilon)
        return np.asarray(x / scale * self.weights[f"{name}.weight"])

    def _by(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self.weights[f"{name}.weight"].T)


ACCENTS = "def größe(élève): return 'Gruß für zwölf 漢字 😀'\n" * 6


async def test_an_engine_tells_the_perplexity_that_the_weights_give(tmp_path: Path) -> None:
    window, count = 128, 150
    config = loaded(tmp_path, {"models": {"tiny": settings()}, "roles": {"general": "tiny"}})
    model = launch_settings(read_model_info(TINY), 300, config.config.models["tiny"])
    seen: list[tuple[int, int]] = []
    async with started(with_model(config, "tiny", model), "tiny") as rig:
        root = rig.ready.root
        found = await perplexity(root, TEXT, count, window=window, told=lambda *at: seen.append(at))
        async with httpx.AsyncClient(base_url=root, trust_env=False) as client:
            answer = await client.post("/tokenize", json={"content": TEXT, "add_special": False})
            tokens = answer.json()["tokens"]
            # with the slots of the engine, one after the other, and token by token: the same
            single = await _one_by_one(client, cut(tokens, None, 5, window)[0])
            # characters of several tokens: an engine tells of no token that ends within one
            answer = await client.post("/tokenize", json={"content": ACCENTS, "add_special": False})
            [accents] = cut(answer.json()["tokens"], None, 24, 64)
            whole = await perplexity(root, ACCENTS, 24, window=64)
        with pytest.raises(UsageError, match=r"too short: \d+ of its tokens would count"):
            await perplexity(root, "return", count)
    assert found.logprobs[:5] == pytest.approx(single, abs=0.02)
    windows = cut(tokens, None, count, window)
    forward = Forward(TINY)
    expected = [
        float(value)
        for one in windows
        for value in forward.logprobs([*one.context, *one.targets])[len(one.context) - 1 :]
    ]
    assert len(expected) == len(found.logprobs) == count
    parts = forward.logprobs([*accents.context, *accents.targets])[len(accents.context) - 1 :]
    assert whole.logprobs == pytest.approx([float(one) for one in parts], abs=0.2)
    # the engine keeps K and V in 16 bits
    assert found.logprobs == pytest.approx(expected, abs=0.1)
    assert found.value == pytest.approx(float(np.exp(-np.mean(expected))), rel=0.01)
    assert sorted(done for done, _ in seen)[-1] == count
    assert {total for _, total in seen} == {count}


async def _one_by_one(client: httpx.AsyncClient, window: Any) -> list[float]:
    from benchai.runtime.measure.perplexity import _Measurement

    measurement = _Measurement(client, lambda done, total: None)
    measurement._by_grammar = False
    return await measurement._scores(list(window.context), window.targets, 0)


def test_quantising_makes_a_smaller_file_and_tells_what_it_costs(tmp_path: Path, program: Path) -> None:
    write_config(tmp_path, {"models": {"tiny": settings()}, "roles": {"general": "tiny"}})
    (tmp_path / "text.txt").write_text(TEXT)
    # a real llama-quantize comes first
    env = {"PATH": f"{os.environ['PATH']}{os.pathsep}{program.parent}"}
    words = ("models", "quantize", "tiny", "out.gguf", "--type", "q8_0", "--text", "text.txt", "--tokens", "200")
    done = benchai(*words, "--json", cwd=tmp_path, env=env)
    assert done.code == 0, done
    done.clean()
    report = json.loads(done.out)
    info = read_model_info(tmp_path / "out.gguf")
    assert (report["type"], info.quantisation, report["after"]["quantisation"]) == ("Q8_0", "Q8_0", "Q8_0")
    assert report["before"]["file_bytes"] == TINY.stat().st_size
    assert report["after"]["file_bytes"] == (tmp_path / "out.gguf").stat().st_size
    assert 30 < report["saved_percent"] < 50
    before, after, ratio = (report[key] for key in ("before", "after", "perplexity_ratio"))
    assert 1 < before["perplexity"] < 1000
    assert ratio["ratio"] == pytest.approx(after["perplexity"] / before["perplexity"])
    assert ratio["low"] < ratio["ratio"] < ratio["high"]
    assert 0.9 < ratio["ratio"] < 1.1
    assert (report["tokens"], report["text"]) == (200, "text.txt")
    assert report["verdict"].startswith(f"Q8_0 is {report['saved_percent']:.0f} % smaller")
    again = benchai(*words, cwd=tmp_path, env=env)
    again.refused("'out.gguf' is there already", "--force")
    assert not list(tmp_path.glob(".*"))


def test_without_the_program_it_says_where_to_get_it(tmp_path: Path) -> None:
    write_config(tmp_path, {"engine": {"kind": "native"}, "models": {"tiny": settings()}, "roles": {"general": "tiny"}})
    env = {"PATH": str(tmp_path)}
    done = benchai("models", "quantize", "tiny", "out.gguf", "--type", "Q8_0", cwd=tmp_path, env=env)
    done.refused("llama-quantize is neither beside the engine nor on PATH", "hint: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_a_broken_off_run_leaves_no_half_file(
    tmp_path: Path, program: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path, {"engine": {"kind": "native"}, "models": {"tiny": settings()}, "roles": {"general": "tiny"}})
    target = tmp_path / "out.gguf"
    target.write_bytes(b"what was there")
    env = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "STAND_IN": "half"}
    words = ("models", "quantize", "tiny", "out.gguf", "--type", "Q8_0", "--no-perplexity", "--force")
    with running(*words, cwd=tmp_path, env=env) as cli:
        until(lambda: any(one.stat().st_size for one in partials(tmp_path)))
        [child] = psutil.Process(cli.process.pid).children()
        cli.process.send_signal(number)
        code = cli.process.wait()
    assert code == (130 if number == signal.SIGINT else -number)
    assert ended(child.pid)
    assert target.read_bytes() == b"what was there"
    if number == signal.SIGKILL:
        # nobody could; the next run does
        assert partials(tmp_path)
        with failing(monkeypatch, "other"), pytest.raises(EngineError, match="something else"):
            await quantise(plan(program, TINY, target, "Q8_0", force=True))
    assert not partials(tmp_path)


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("full", EngineError, "is full; nothing of 'out.gguf' is kept"),
        ("matrix", EngineError, "Q8_0 needs an importance matrix"),
        ("other", EngineError, "failed with exit code 1: something else"),
        ("garbage", ModelFileError, "is no GGUF"),
    ],
)
async def test_a_run_that_fails_leaves_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch, how: str, kind: type[Exception], words: str
) -> None:
    seen: list[tuple[int, int]] = []
    with failing(monkeypatch, how), pytest.raises(kind, match=words):
        await quantise(job, lambda *at: seen.append(at))
    assert not list(job.target.parent.glob("*out.gguf*"))
    assert seen == ([] if how == "garbage" else [(1, 2)])


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path: Path, program: Path) -> None:
    source = tmp_path / "in.gguf"
    shutil.copy(TINY, source)
    link = tmp_path / "link.gguf"
    link.symlink_to(source)

    def refused(words: str, target: Path = tmp_path / "out.gguf", type_: str = "Q8_0", **further: Any) -> None:
        with pytest.raises(UsageError, match=words):
            plan(program, source, target, type_, **further)

    refused("'Q9_0': llama-quantize knows no such type", type_="Q9_0")
    refused("is the source itself", target=source, force=True)
    refused("is the source itself", target=link, force=True)
    refused("is a folder", target=tmp_path)
    refused("is not there", target=tmp_path / "none" / "out.gguf")
    refused("is no file", imatrix=tmp_path / "none")
    (tmp_path / "there.gguf").write_bytes(b"")
    refused("is there already", target=tmp_path / "there.gguf")
    with pytest.raises(ModelFileError, match="is missing"):
        plan(program, tmp_path / "none.gguf", tmp_path / "out.gguf", "Q8_0")


async def test_a_quantised_source_needs_a_word_more(tmp_path: Path, program: Path, job: Job) -> None:
    made = await quantise(job)
    assert (made.path, made.quantisation) == (job.target, "Q8_0")
    with pytest.raises(UsageError, match=r"is quantised already \(Q8_0\)"):
        plan(program, job.target, tmp_path / "next.gguf", "Q4_0")
    assert plan(program, job.target, tmp_path / "next.gguf", "Q4_0", requantise=True).requantise
