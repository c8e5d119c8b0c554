"""The vector index: one contract for a folder and for a real Chroma server; damage of files never ends this process."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from benchai.errors import EmbedderError, StoreDamaged, StoreError
from benchai.memory import marker, segments
from benchai.memory.index import ChromaIndex
from benchai.memory.probe import probe
from tests.conftest import REPO
from tests.integration.chroma_server import chroma_server

# the import of Chroma, and the start of its server, take a second each, and many on a busy machine
pytestmark = pytest.mark.timeout(120)
DIMENSION = 16
PRINT = "model@1:16:unit"


def vectors(count: int, seed: int = 0, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Random ones of unit length."""
    found = np.random.default_rng(seed).normal(size=(count, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("server") / "data") as url:
        yield url


@pytest.fixture(params=["folder", "server"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChromaIndex]:
    """An empty index."""
    if request.param == "folder":
        opened = ChromaIndex.in_folder(tmp_path / "vectors", PRINT, DIMENSION)
    else:
        opened = ChromaIndex.on_server(request.getfixturevalue("server"), PRINT, DIMENSION, store=str(tmp_path))
    yield opened
    opened.close()


def test_the_nearest_come_first_with_their_cosine(index: ChromaIndex) -> None:
    kept = vectors(200)
    index.upsert(range(1, 201), kept, [7] * 200)
    found = index.query(kept[41], [7], 5)
    expected = np.argsort(-(kept @ kept[41]))[:5]
    assert [number for number, _ in found] == [int(row) + 1 for row in expected]
    assert [score for _, score in found] == pytest.approx([float(kept[row] @ kept[41]) for row in expected], abs=1e-4)


def test_only_the_named_namespaces_are_seen(index: ChromaIndex) -> None:
    kept = vectors(90)
    index.upsert(range(90), kept, [row % 3 for row in range(90)])
    for asked in ([0], [1], [2], [0, 2], [1, 0, 1]):
        found = index.query(kept[4], asked, 90)
        assert {number for number, _ in found} == {row for row in range(90) if row % 3 in asked}
        assert len(found) == len({number for number, _ in found})
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert index.query(kept[4], [3], 5) == []
    assert index.query(kept[4], [], 5) == []


def test_a_vector_is_replaced(index: ChromaIndex) -> None:
    one, other = vectors(2)
    index.upsert([5], one[None], [1])
    index.upsert([5], other[None], [1])
    assert index.count() == 1
    assert index.vectors([5])[5] == pytest.approx(other, abs=1e-6)
    index.upsert([5, 5], np.stack([other, one]), [1, 1])
    assert index.vectors([5, 5])[5] == pytest.approx(one, abs=1e-6)


def test_what_is_deleted_is_found_no_more(index: ChromaIndex) -> None:
    kept = vectors(30)
    index.upsert(range(30), kept, [row % 2 for row in range(30)])
    index.delete([3, 4, 4, 999])
    index.delete([])
    assert index.ids() == set(range(30)) - {3, 4}
    assert index.count() == 28
    assert not {3, 4} & {number for number, _ in index.query(kept[3], [0, 1], 30)}


def test_vectors_of_those_that_are_there(index: ChromaIndex) -> None:
    kept = vectors(4)
    index.upsert([1, 2, 3, 4], kept, [1, 1, 2, 2])
    found = index.vectors([2, 3, 99])
    assert sorted(found) == [2, 3]
    assert found[3].dtype == np.float32
    assert found[3] == pytest.approx(kept[2], abs=1e-6)
    assert sorted(index.vectors([2, 3, 99], [1])) == [2]
    assert index.vectors([], [1]) == {}


def test_an_empty_index_answers(index: ChromaIndex) -> None:
    assert (index.count(), index.ids(), index.vectors([1])) == (0, set(), {})
    assert index.query(vectors(1)[0], [1], 3) == []
    index.upsert([], np.zeros((0, DIMENSION), np.float32), [])
    index.delete([1])


def test_another_dimension_is_refused(index: ChromaIndex) -> None:
    index.upsert([1], vectors(1), [1])
    with pytest.raises(EmbedderError, match="8 dimensions") as caught:
        index.upsert([2], vectors(1, dimension=8), [1])
    assert "rebuild" in str(caught.value.hint)
    with pytest.raises(EmbedderError):
        index.query(vectors(1, dimension=8)[0], [1], 3)
    assert index.ids() == {1}


def test_more_than_a_batch_of_chroma(index: ChromaIndex) -> None:
    count = 6000
    index.upsert(range(count), vectors(count), [1] * count)
    assert index.ids() == set(range(count))
    index.delete(range(5900))
    assert index.ids() == set(range(5900, count))


def test_clear_leaves_what_others_keep(index: ChromaIndex) -> None:
    newer = ChromaIndex(index._link, "model@2:16:unit", DIMENSION, "")
    newer._mine, newer._prefix = index._mine, index._mine + "newer-"
    for one in (index, newer):
        one.upsert([1, 2], vectors(2), [1, 2])
    newer.clear(others=True)
    assert (index.count(), newer.count()) == (0, 2)
    newer.clear()
    assert newer.count() == 0
    newer.upsert([1], vectors(1), [1])
    assert newer.count() == 1


def test_two_memories_on_a_server_do_not_meet(server: str) -> None:
    first, second = (ChromaIndex.on_server(server, PRINT, DIMENSION, store=store) for store in ("first", "second"))
    first.upsert([1], vectors(1), [1])
    second.upsert([1, 2], vectors(2, seed=1), [1, 1])
    assert first.ids() == {1}
    assert first.query(vectors(1)[0], [1], 1) == [(1, pytest.approx(1.0, abs=1e-4))]
    first.close()
    second.close()


def test_what_another_machine_drops_is_made_anew(server: str) -> None:
    first, second = (ChromaIndex.on_server(server, PRINT, DIMENSION, store="shared") for _ in range(2))
    first.upsert([1], vectors(1), [1])
    assert second.count() == 1
    first.clear()
    assert second.query(vectors(1)[0], [1], 1) == []
    second.upsert([2], vectors(1), [1])
    first.clear()
    second.upsert([3], vectors(1), [1])
    assert first.ids() == second.ids() == {3}
    first.close()
    second.close()


def test_a_dotenv_that_is_no_text(tmp_path: Path, sound: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    code = "import sys; from pathlib import Path; from benchai.memory.index import ChromaIndex; "
    argv = [sys.executable, "-c", code + "ChromaIndex.in_folder(Path('vectors'), 'model', 4)"]
    env = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=env, check=False)
    assert "benchai.errors.StoreError: Chroma can't be loaded" in done.stderr
    assert not (tmp_path / "vectors").exists()


def test_closed_and_opened_again_in_one_process(tmp_path: Path) -> None:
    for turn in range(3):
        index = ChromaIndex.in_folder(tmp_path / "vectors", PRINT, DIMENSION)
        assert index.ids() == set(range(turn * 10))
        index.upsert(range(turn * 10, turn * 10 + 10), vectors(10, seed=turn), [1] * 10)
        index.close()
        index.close()
        assert not [one for one in psutil.Process().open_files() if "chroma.sqlite3" in one.path]
    shutil.rmtree(tmp_path / "vectors")
    index = ChromaIndex.in_folder(tmp_path / "vectors", PRINT, DIMENSION)
    assert index.count() == 0
    index.close()


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9") as caught:
        ChromaIndex.on_server("http://127.0.0.1:9", PRINT, DIMENSION)
    assert "chroma run" in str(caught.value.hint)


def test_a_server_that_goes_away(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "data") as url:
        index = ChromaIndex.on_server(url, PRINT, DIMENSION)
        index.upsert([1], vectors(1), [1])
    with pytest.raises(StoreError, match="failed"):
        index.query(vectors(1)[0], [1], 1)
    index.close()


LONELY = """
import sys
from pathlib import Path
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen"):
        print("refused", event, args, flush=True)
        raise RuntimeError(event)
sys.addaudithook(refuse)
import numpy as np, psutil, threading
from benchai.memory.index import ChromaIndex
index = ChromaIndex.in_folder(Path(sys.argv[1]), "model", 4)
index.upsert([1], np.eye(4, dtype=np.float32)[:1], [1])
index.query(np.eye(4, dtype=np.float32)[0], [1], 1)
inet = [one for one in psutil.Process().net_connections("inet")]
index.close()
print([thread.name for thread in threading.enumerate()], inet)
"""


def test_nothing_is_told_to_anybody(tmp_path: Path) -> None:
    env = os.environ | {"ANONYMIZED_TELEMETRY": "true", "CHROMA_SERVER_HOST": "example.invalid"}
    (tmp_path / ".env").write_text("ANONYMIZED_TELEMETRY=true\nCHROMA_API_IMPL=chromadb.api.fastapi.FastAPI\n")
    argv = [sys.executable, "-c", LONELY, str(tmp_path / "vectors")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=env, check=False)
    assert (done.stdout, done.returncode) == ("['MainThread'] []\n", 0), done.stderr


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph on disk, left in order."""
    folder = tmp_path_factory.mktemp("sound") / "vectors"
    index = ChromaIndex.in_folder(folder, PRINT, DIMENSION)
    index.upsert(range(1500), vectors(1500), [1] * 1500)
    index.upsert(range(1500, 1520), vectors(20, seed=1), [2] * 20)
    index.close()
    assert list(folder.glob("*/data_level0.bin"))
    return folder


def test_a_folder_that_was_left_in_order_needs_no_look(sound: Path, tmp_path: Path) -> None:
    assert marker.holds(sound)
    folder = tmp_path / "vectors"
    shutil.copytree(sound, folder)
    assert marker.holds(folder)
    index = ChromaIndex.in_folder(folder, PRINT, DIMENSION)
    assert not marker.holds(folder)
    index.upsert([1], vectors(1), [1])
    index.close()
    assert marker.holds(folder)
    next(folder.glob("*/length.bin")).write_bytes(b"")
    assert not marker.holds(folder)


def test_a_sound_folder_passes_the_look(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(sound, folder)
    marker.remove(folder)
    assert probe(folder) is None
    assert probe(tmp_path / "none") is None
    (tmp_path / "empty").mkdir()
    assert probe(tmp_path / "empty") is None


def test_a_look_that_hangs_is_ended(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(sound, folder)
    marker.remove(folder)
    assert probe(folder, timeout=0.01) == "a look at it took more than 0.01 s"


def graph(folder: Path, name: str) -> Path:
    """A file of the larger graph, or of the folder itself."""
    larger = max(folder.glob("*/data_level0.bin"), key=lambda path: path.stat().st_size).parent
    return next(found for found in folder.glob(name) if found.parent in (folder, larger))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _garble(path: Path) -> None:
    """A little of each page."""
    with path.open("r+b") as opened:
        for start in range(0, path.stat().st_size, 4096):
            opened.seek(start)
            opened.write(random.Random(start).randbytes(16))


def _flood(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("harm", [_cut, _empty, _garble, _flood, Path.unlink])
@pytest.mark.parametrize("name", ["chroma.sqlite3", "*/header.bin", "*/data_level0.bin", "*/link_lists.bin"])
def test_a_damaged_file_is_seen_before_it_is_opened(sound: Path, tmp_path: Path, name: str, harm: object) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(sound, folder)
    harm(graph(folder, name))  # type: ignore[operator]
    said = probe(folder)
    assert said is not None
    shutil.rmtree(folder)
    index = ChromaIndex.in_folder(folder, PRINT, DIMENSION)
    index.upsert([1], vectors(1), [1])
    assert index.ids() == {1}
    index.close()


def _garble_middle(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as opened:
        opened.seek(size // 3)
        opened.write(random.Random(5).randbytes(size // 3))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("chroma.sqlite3", _garble_middle),
        ("*/index_metadata.pickle", _garble_middle),
        ("*/index_metadata.pickle", Path.unlink),
        ("*/length.bin", _cut),
    ],
)
def test_other_files_do_no_harm_or_are_seen(sound: Path, tmp_path: Path, name: str, harm: object) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(sound, folder)
    harm(graph(folder, name))  # type: ignore[operator]
    if probe(folder) is None:
        index = ChromaIndex.in_folder(folder, PRINT, DIMENSION)
        assert len(index.query(vectors(1)[0], [1], 10)) == 10
        index.close()


def test_a_wrong_link_anywhere_is_seen(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(sound, folder)
    path = graph(folder, "*/data_level0.bin")
    kept = path.read_bytes()
    element = len(kept) // 1500
    assert segments.damage(folder) is None
    for row in (0, 700, 1499):
        for at, value in ((4, b"\xff\xff\xff\x7f"), (0, b"\xff\x7f"), (132, b"\x00\x00\xc0\x7f")):
            start = row * element + at
            path.write_bytes(kept[:start] + value + kept[start + len(value) :])
            assert segments.damage(folder) is not None, (row, at)
    path.write_bytes(kept)
    assert segments.damage(folder) is None


def test_a_database_that_breaks_while_it_is_open(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(sound, folder)
    index = ChromaIndex.in_folder(folder, PRINT, DIMENSION)
    with sqlite3.connect(folder / "chroma.sqlite3") as connection:
        connection.execute("DROP TABLE embeddings")
    connection.close()
    with pytest.raises(StoreDamaged) as caught:
        index.ids()
    assert "rebuild" in str(caught.value.hint)
    index.close()
    assert not marker.holds(folder)


FILLS = """
import sys
from pathlib import Path
import numpy as np
from benchai.errors import StoreFull
from benchai.memory.index import ChromaIndex
from benchai.memory import marker
folder = Path(sys.argv[1], "vectors")
index = ChromaIndex.in_folder(folder, "model", 64)
vectors = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
try:
    for start in range(0, 50_000, 500):
        index.upsert(range(start, start + 500), vectors, [1] * 500)
except StoreFull as error:
    print("full", error.hint)
index.close()
print(marker.holds(folder))
"""


def test_a_full_disk_is_called_so_and_the_folder_left_in_order(tmp_path: Path) -> None:
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file systems of one's own here")
    script = 'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    argv = [*own, "sh", "-c", script, "sh", str(tmp_path), sys.executable, FILLS]
    env = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, env=env, check=False)
    assert done.stdout.splitlines() == ["full make room on the disk", "True"], done.stderr
