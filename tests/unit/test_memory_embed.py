"""Embedders: what they refuse, and what their fingerprint depends on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from benchai.errors import EmbedderError, EndpointLost
from benchai.memory import identity
from benchai.memory.embed import BATCH, CallEmbedder, unit
from benchai.memory.local import SentenceTransformerEmbedder

pytestmark = pytest.mark.anyio
Call = Callable[[list[str]], Awaitable[list[list[float]]]]


def gives(*vectors: list[float]) -> Call:
    async def call(texts: list[str]) -> list[list[float]]:
        return list(vectors)

    return call


async def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


async def test_vectors_are_of_unit_length_and_in_order() -> None:
    asked: list[list[str]] = []

    async def call(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return await lengths(texts)

    embedder = CallEmbedder(call, "model@1", dimension=2)
    texts = ["x" * (number % 7 + 1) for number in range(BATCH * 2 + 3)]
    found = await embedder.embed(texts)
    assert found.shape == (len(texts), 2)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0)
    assert found[:, 0] / found[:, 1] == pytest.approx([len(text) for text in texts])
    assert [len(part) for part in asked] == [BATCH, BATCH, 3]
    assert (await embedder.embed([])).shape == (0, 2)


async def test_the_dimension_is_asked_for_once_where_it_is_not_known() -> None:
    asked: list[list[str]] = []

    async def call(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return await lengths(texts)

    embedder = CallEmbedder(call, "model@1")
    with pytest.raises(EmbedderError, match="not prepared"):
        _ = embedder.fingerprint
    await embedder.prepare()
    await embedder.prepare()
    assert (embedder.fingerprint, embedder.dimension) == ("model@1:2:unit", 2)
    assert asked == [["word"]]
    assert CallEmbedder(call, "model@1", dimension=2).fingerprint == embedder.fingerprint
    assert CallEmbedder(call, "model@2", dimension=2).fingerprint != embedder.fingerprint


async def test_prompts_stand_before_the_texts() -> None:
    asked: list[str] = []

    async def call(texts: list[str]) -> list[list[float]]:
        asked.extend(texts)
        return await lengths(texts)

    embedder = CallEmbedder(call, "m", dimension=2, query_prompt="query: ", document_prompt="passage: ")
    await embedder.embed(["a"])
    await embedder.embed(["b"], query=True)
    assert asked == ["passage: a", "query: b"]
    assert embedder.fingerprint != CallEmbedder(call, "m", dimension=2).fingerprint


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([[0.0, 0.0]], "zero or not finite"),
        ([[float("nan"), 1.0]], "zero or not finite"),
        ([[float("inf"), 1.0]], "zero or not finite"),
        ([[1.0, 2.0], [1.0, 2.0]], "shape"),
        ([], "shape"),
        ([[]], "shape"),
        ([[1.0, 2.0, 3.0]], "3 dimensions; those kept have 2"),
        ([["a", "b"]], "no vectors"),
        ([[1.0, 2.0], [1.0]], "no vectors"),
        ([None], "no vectors|shape"),
    ],
)
async def test_what_can_not_be_compared_is_refused(vectors: list[list[float]], words: str) -> None:
    with pytest.raises(EmbedderError, match=words):
        await CallEmbedder(gives(*vectors), "m", dimension=2).embed(["a"])


async def test_one_bad_vector_among_good_ones_is_refused() -> None:
    with pytest.raises(EmbedderError, match="1 of 3"):
        await CallEmbedder(gives([1, 1], [0, 0], [1, 0]), "m", dimension=2).embed(["a", "b", "c"])


def test_large_components_do_not_overflow() -> None:
    found = unit([[1e30, 1e30], [1e-10, 0.0]], 2, 2, "m")
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0)


async def test_errors_of_the_call_pass_through() -> None:
    async def lost(texts: list[str]) -> list[list[float]]:
        raise EndpointLost("away")

    async def odd(texts: list[str]) -> list[list[float]]:
        raise KeyError("embedding")

    with pytest.raises(EndpointLost):
        await CallEmbedder(lost, "m", dimension=2).embed(["a"])
    with pytest.raises(EmbedderError, match="gave no vectors: KeyError"):
        await CallEmbedder(odd, "m", dimension=2).embed(["a"])


def model_folder(folder: Path) -> Path:
    """Files like those of a model; no library opens them."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").write_text("[]")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_identity_follows_the_content_not_the_place(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    first = model_folder(tmp_path / "a" / "model")
    second = model_folder(tmp_path / "b" / "model")
    found = identity.of_folder(first, cache)
    assert identity.of_folder(second, cache) == found
    (second / "README.md").write_text("words")
    (second / ".git").mkdir()
    (second / ".git" / "HEAD").write_text("x")
    assert identity.of_folder(second, cache) == found
    for name in ("model.safetensors", "1_Pooling/config.json", "modules.json"):
        kept = (second / name).read_bytes()
        (second / name).write_bytes(kept + b" ")
        assert identity.of_folder(second, cache).hash != found.hash
        (second / name).write_bytes(kept)
    assert identity.of_folder(second, cache).hash == found.hash
    (second / "extra.bin").write_bytes(b"")
    assert identity.of_folder(second, cache).hash != found.hash


def test_the_files_are_read_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    folder = model_folder(tmp_path / "model")
    found = identity.of_folder(folder, cache)
    weights = folder / "model.safetensors"
    status = weights.stat()
    # the same size and date, other bytes: only who reads them sees it
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert identity.of_folder(folder, cache) == found
    cache.unlink()
    assert identity.of_folder(folder, cache) != found


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', "\x00"])
def test_a_broken_cache_is_no_cache(tmp_path: Path, text: str) -> None:
    cache = tmp_path / "cache.json"
    folder = model_folder(tmp_path / "model")
    found = identity.of_folder(folder, tmp_path / "other.json")
    cache.write_text(text)
    assert identity.of_folder(folder, cache) == found
    stamp = identity.stamp_of(folder)
    for value in (None, [], {}, {"name": "x"}, {"name": "x", "hash": "y", "dimension": "many"}):
        cache.write_text(json.dumps({stamp: value}))
        assert identity.of_folder(folder, cache) == found


async def test_a_folder_without_a_model(tmp_path: Path) -> None:
    for model in (tmp_path, tmp_path / "none", "./none", "C:/some/where/else"):
        embedder = SentenceTransformerEmbedder(model, cache=tmp_path / "cache.json")
        with pytest.raises(EmbedderError, match=r"modules\.json") as caught:
            await embedder.prepare()
        assert "OWNER/NAME" in str(caught.value.hint)
        await embedder.close()


async def test_the_library_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    embedder = SentenceTransformerEmbedder(model_folder(tmp_path / "model"), cache=tmp_path / "cache.json")
    with pytest.raises(EmbedderError, match="not installed") as caught:
        await embedder.embed(["a"])
    assert caught.value.hint == "pip install 'benchai[embeddings]'"
    await embedder.close()


def test_names_of_the_hub_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "here").mkdir(parents=True)
    assert not identity.is_folder("owner/name")
    for folder in ("owner/here", "/owner/name", "./name", "name", "a/b/c", "~/model"):
        assert identity.is_folder(folder)
