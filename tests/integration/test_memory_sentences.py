"""The embedder in this process, on a small sentence-transformers model that is made here."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from benchai.errors import EmbedderError
from benchai.memory.index import ChromaIndex
from benchai.memory.local import SentenceTransformerEmbedder
from benchai.memory.reindex import reindex
from tests.integration.tiny_sentences import WORDS, build
from tests.integration.vector_source import Rows

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
    ),
    # what torch and transformers warn of is not ours
    pytest.mark.filterwarnings("default"),
    # the import of torch alone takes seconds
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


async def test_texts_get_the_vectors_of_the_model(model: Path, cache: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [" ".join(WORDS[number : number + 4]) for number in range(40)]
    embedder = SentenceTransformerEmbedder(model, cache=cache)
    found = await embedder.embed(texts)
    expected = SentenceTransformer(str(model), device="cpu").encode(texts, normalize_embeddings=True)
    assert found.shape == (40, 32)
    assert np.allclose(found, expected, atol=1e-5)
    assert embedder.dimension == 32
    await embedder.close()


async def test_the_fingerprint_is_known_without_the_model(model: Path, cache: Path) -> None:
    first = SentenceTransformerEmbedder(model, cache=cache)
    await first.prepare()
    second = SentenceTransformerEmbedder(model, cache=cache)
    await second.prepare()
    assert (second.fingerprint, second.dimension) == (first.fingerprint, 32)
    assert first._model is not None
    assert second._model is None
    assert (await second.embed(["kaka"])).shape == (1, 32)
    await first.close()
    await second.close()


async def test_other_weights_have_another_fingerprint(model: Path, cache: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(model, tmp_path / "tiny")
    other = build(tmp_path / "other" / "tiny", seed=1)
    prints = []
    for folder in (model, moved, other):
        embedder = SentenceTransformerEmbedder(folder, cache=cache)
        await embedder.prepare()
        prints.append(embedder.fingerprint)
        await embedder.close()
    assert prints[0] == prints[1] != prints[2]
    assert prints[0].startswith("tiny@")
    assert prints[0].endswith(":32:unit")


async def test_questions_and_documents_have_their_prompts(cache: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "prompted", prompts={"query": "query: ", "document": "passage: "})
    embedder = SentenceTransformerEmbedder(folder, cache=cache)
    document = (await embedder.embed(["kalo"]))[0]
    query = (await embedder.embed(["kalo"], query=True))[0]
    plain = SentenceTransformerEmbedder(build(tmp_path / "plain"), cache=cache)
    assert np.allclose(document, (await plain.embed(["passage: kalo"]))[0], atol=1e-5)
    assert np.allclose(query, (await plain.embed(["query: kalo"]))[0], atol=1e-5)
    assert not np.allclose(query, document, atol=1e-3)
    await embedder.close()
    await plain.close()


async def test_texts_that_the_model_cuts_are_counted(model: Path, cache: Path) -> None:
    embedder = SentenceTransformerEmbedder(model, cache=cache)
    # 30 words and two marks are all that it takes
    await embedder.embed([" ".join(WORDS[:30]), " ".join(WORDS[:31]), "kaka", " ".join(WORDS)])
    assert embedder.truncated == 2
    await embedder.embed([" ".join(WORDS)], query=True)
    assert embedder.truncated == 2
    await embedder.close()


async def test_broken_weights_are_never_stored(cache: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = build(tmp_path / "broken")
    path = folder / "model.safetensors"
    save_file(
        {name: np.full_like(weights, np.nan) for name, weights in load_file(path).items()}, path, {"format": "pt"}
    )
    embedder = SentenceTransformerEmbedder(folder, cache=cache)
    with pytest.raises(EmbedderError, match="zero or not finite"):
        await embedder.embed(["kaka"])
    # it is not taken for one that was measured, either
    again = SentenceTransformerEmbedder(folder, cache=cache)
    with pytest.raises(EmbedderError, match="zero or not finite"):
        await again.prepare()
    await again.close()
    await embedder.close()


@pytest.mark.parametrize("harm", ["cut", "gone", "config"])
async def test_a_folder_that_is_not_whole(model: Path, cache: Path, tmp_path: Path, harm: str) -> None:
    folder = shutil.copytree(model, tmp_path / "tiny")
    if harm == "config":
        (folder / "config.json").write_text("{")
    elif harm == "cut":
        (folder / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    else:
        (folder / "model.safetensors").unlink()
    embedder = SentenceTransformerEmbedder(folder, cache=cache)
    with pytest.raises(EmbedderError, match="can't be opened"):
        await embedder.prepare()
    await embedder.close()


async def test_a_name_that_the_hub_can_not_be_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing", "no body/at all"):
        embedder = SentenceTransformerEmbedder(name, cache=cache)
        with pytest.raises(EmbedderError):
            await embedder.prepare()
        await embedder.close()


async def test_the_loop_goes_on_meanwhile_and_the_thread_ends(model: Path, cache: Path) -> None:
    embedder = SentenceTransformerEmbedder(model, cache=cache)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    before = set(threading.enumerate())
    ticking = asyncio.create_task(tick())
    await embedder.embed(["kaka"] * 100)
    ticking.cancel()
    assert ticks > 10
    assert "embedder" in [thread.name for thread in set(threading.enumerate()) - before]
    await embedder.close()
    assert "embedder" not in [thread.name for thread in set(threading.enumerate()) - before]
    assert (await embedder.embed(["kaka"])).shape == (1, 32)
    await embedder.close()


async def test_from_texts_to_what_is_found(model: Path, cache: Path, tmp_path: Path) -> None:
    embedder = SentenceTransformerEmbedder(model, cache=cache)
    await embedder.prepare()
    rows = Rows(tmp_path / "rows.sqlite")
    texts = [" ".join(WORDS[number : number + 3]) for number in range(90)]
    rows.add([(1, text) for text in texts])
    index = ChromaIndex.in_folder(tmp_path / "vectors", embedder.fingerprint, embedder.dimension)
    assert (await reindex(rows, embedder, index)).embedded == 90
    question = (await embedder.embed([texts[41]], query=True))[0]
    assert index.query(question, [1], 1) == [(42, pytest.approx(1.0, abs=1e-3))]
    index.close()
    rows.connection.close()
    await embedder.close()
