"""The vector index brought up to what is kept: resumed, repeated, killed; a refused text stops no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchai.errors import ContextExceeded, EmbedderError, EndpointLost
from benchai.memory.index import ChromaIndex
from benchai.memory.reindex import reindex
from benchai.memory.worker import Worker
from tests.conftest import REPO
from tests.integration.vector_source import DIMENSION, Rows, WordEmbedder

# the import of Chroma takes a second, and many on a busy machine
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
# 200 for a long look; each takes a second or less
ROUNDS = int(os.environ.get("MEMORY_CRASH_ROUNDS", "6"))


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    opened = Rows(tmp_path / "rows.sqlite")
    yield opened
    opened.connection.close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ChromaIndex]:
    opened = ChromaIndex.in_folder(tmp_path / "vectors", WordEmbedder().fingerprint, DIMENSION)
    yield opened
    opened.close()


async def test_everything_is_embedded_once(rows: Rows, index: ChromaIndex) -> None:
    embedder = WordEmbedder()
    rows.add([(number % 2, f"apple word{number}") for number in range(150)])
    seen: list[tuple[int, int]] = []
    report = await reindex(rows, embedder, index, progress=lambda done, total: seen.append((done, total)))
    assert (report.embedded, report.deleted, report.failed) == (150, 0, {})
    assert seen == [(64, 150), (128, 150), (150, 150)]
    assert index.ids() == set(rows.all())
    embedder.calls.clear()
    assert (await reindex(rows, embedder, index)).embedded == 0
    assert embedder.calls == []


async def test_what_is_gone_goes_and_what_is_new_comes(rows: Rows, index: ChromaIndex) -> None:
    embedder = WordEmbedder()
    rows.add([(1, f"word{number}") for number in range(20)])
    await reindex(rows, embedder, index)
    rows.drop([3, 4])
    rows.add([(1, "pear")])
    report = await reindex(rows, embedder, index)
    assert (report.embedded, report.deleted) == (1, 2)
    assert index.ids() == set(rows.all()) == set(range(1, 22)) - {3, 4}
    assert rows.gone(10) == []


async def test_a_passage_that_goes_while_it_is_embedded(rows: Rows, index: ChromaIndex) -> None:
    class Slow(WordEmbedder):
        async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
            rows.drop([2])
            return await super().embed(texts)

    rows.add([(1, f"word{number}") for number in range(5)])
    report = await reindex(rows, Slow(), index)
    assert report.deleted == 1
    assert index.ids() == {1, 3, 4, 5}


async def test_another_embedder_embeds_everything_anew(rows: Rows, tmp_path: Path, index: ChromaIndex) -> None:
    rows.add([(1, f"word{number}") for number in range(30)])
    await reindex(rows, WordEmbedder(), index)
    index.close()
    other = WordEmbedder("newer", 8)
    newer = ChromaIndex.in_folder(tmp_path / "vectors", other.fingerprint, 8)
    assert newer.count() == 0
    assert (await reindex(rows, other, newer)).embedded == 30
    assert newer.ids() == set(range(1, 31))
    assert newer.vectors([1])[1].shape == (8,)
    newer.clear(others=True)
    newer.close()
    older = ChromaIndex.in_folder(tmp_path / "vectors", WordEmbedder().fingerprint, DIMENSION)
    assert older.count() == 0
    older.close()


async def test_a_text_that_is_refused_stops_no_other(rows: Rows, index: ChromaIndex) -> None:
    embedder = WordEmbedder()
    rows.add([(1, "LONG" if number in (0, 63, 64, 99) else f"word{number} CUT") for number in range(100)])
    report = await reindex(rows, embedder, index)
    assert sorted(report.failed) == [1, 64, 65, 100]
    assert report.failed[1] == "the text is too long"
    assert (report.embedded, report.truncated) == (96, 96)
    assert rows.count_pending(embedder.fingerprint) == 4
    again = await reindex(rows, embedder, index)
    assert (again.embedded, len(again.failed)) == (0, 4)


async def test_only_refused_texts_are_no_broken_embedder(rows: Rows, index: ChromaIndex) -> None:
    rows.add([(1, "LONG")] * 70)
    report = await reindex(rows, WordEmbedder(), index)
    assert len(report.failed) == 70


@pytest.mark.parametrize("error", [EmbedderError("the model is broken"), EndpointLost("it went away")])
async def test_an_embedder_that_works_no_more_ends_it(rows: Rows, index: ChromaIndex, error: Exception) -> None:
    class Breaks(WordEmbedder):
        async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
            if len(self.calls) >= 2:
                self.calls.append(list(texts))
                raise error
            return await super().embed(texts)

    embedder = Breaks()
    rows.add([(1, f"word{number}") for number in range(1000)])
    with pytest.raises(type(error), match=str(error)):
        await reindex(rows, embedder, index)
    assert len(embedder.calls) < 50
    assert index.ids() == set(range(1, 129))
    assert rows.count_pending(embedder.fingerprint) == 872
    assert (await reindex(rows, WordEmbedder(), index)).embedded == 872


async def test_it_runs_where_it_is_told(tmp_path: Path) -> None:
    worker = Worker("memory")
    rows = await worker.run(Rows, tmp_path / "rows.sqlite")
    index = await worker.run(ChromaIndex.in_folder, tmp_path / "vectors", WordEmbedder().fingerprint, DIMENSION)
    await worker.run(rows.add, [(1, "apple")] * 3)
    # its connection belongs to that thread: anywhere else SQLite refuses
    report = await reindex(rows, WordEmbedder(), index, run=worker.run)
    assert report.embedded == 3
    await worker.run(index.close)
    await worker.run(rows.connection.close)
    worker.close()


@pytest.mark.parametrize("method", ["delete", "upsert"])
async def test_broken_off_between_index_and_mark_it_is_done_again(
    rows: Rows, index: ChromaIndex, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    embedder = WordEmbedder()
    rows.add([(1, f"word{number}") for number in range(10)])
    await reindex(rows, embedder, index)
    rows.drop([1, 2])
    rows.add([(1, "new")])
    done: Callable[..., Any] = getattr(index, method)

    def then_break(*args: Any) -> None:
        done(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index, method, then_break)
        with pytest.raises(KeyboardInterrupt):
            await reindex(rows, embedder, index)
    assert rows.count_pending(embedder.fingerprint) == 1
    await reindex(rows, embedder, index)
    assert index.ids() == set(rows.all())


@pytest.mark.timeout(150 + 6 * ROUNDS)
def test_killed_at_any_moment_the_index_holds_what_is_kept(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.integration.vector_crash", str(tmp_path), str(ROUNDS), str(os.getpid())]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=REPO, timeout=140 + 6 * ROUNDS, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rounds"] == ROUNDS


async def test_a_refused_text_is_told_by_its_own_error(rows: Rows, index: ChromaIndex) -> None:
    class Particular(WordEmbedder):
        async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
            for text in texts:
                if text.startswith("n"):
                    raise ContextExceeded(f"too long: {text}")
            return await super().embed(texts)

    rows.add([(1, text) for text in ("a", "n1", "b", "n2")])
    report = await reindex(rows, Particular(), index)
    assert report.failed == {2: "too long: n1", 4: "too long: n2"}
    assert index.ids() == {1, 3}
