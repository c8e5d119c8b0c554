"""Files of the hub: resumed, checked, and never half there."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchai.config import hub_fetch
from benchai.config.hub import cached_file, cached_ggufs, download
from benchai.config.hub_fetch import HubFile, fetch, list_files, missing_bytes
from benchai.errors import ModelFileError
from tests.integration.hub_server import Hub, hub

NAME = "m-Q4_K_M.gguf"
DATA = b"GGUF" + bytes(range(256)) * 4000
PART = 300_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that the client of this process asks, and a cache of its own."""
    from huggingface_hub import constants

    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    with hub({"owner/name": {"README.md": b"# m", NAME: DATA}}) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        # the pauses between tries: there are no delays on the way to this server
        monkeypatch.setattr(hub_fetch, "PAUSE", 0.0)
        yield running


def remote() -> HubFile:
    [found] = [file for file in list_files("owner/name") if file.name == NAME]
    return found


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_file_comes_whole_and_is_told_about(server: Hub, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    target = tmp_path / "new" / "folder" / "mine.gguf"
    assert fetch(remote(), target, lambda *one: told.append(one)) == target
    assert target.read_bytes() == DATA
    assert told[0] == (NAME, 0, len(DATA))
    assert told[-1] == (NAME, len(DATA), len(DATA))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert list(target.parent.iterdir()) == [target]
    server.requests.clear()
    assert fetch(HubFile("owner/name", NAME, 1, None), target) == target
    assert server.requests == []


def test_a_broken_connection_is_made_again_where_it_ended(server: Hub, tmp_path: Path) -> None:
    server.cut = PART
    assert fetch(remote(), tmp_path / "m.gguf").read_bytes() == DATA
    assert server.sent[NAME] == len(DATA)


def test_what_was_cut_off_goes_on_with_the_next_call(server: Hub, tmp_path: Path) -> None:
    file, target = remote(), tmp_path / "m.gguf"
    server.cut, server.cuts, server.dies = PART, 2, True
    with pytest.raises(ModelFileError, match=r"cut off after 0\.6 of 1\.0 MiB") as raised:
        fetch(file, target)
    assert "goes on where it stopped" in str(raised.value.hint)
    assert not target.exists()
    [kept] = parts(tmp_path)
    assert kept.read_bytes() == DATA[: 2 * PART]
    assert missing_bytes(file, target) == len(DATA) - 2 * PART
    server.cut, server.dead = None, False
    told: list[int] = []
    fetch(file, target, lambda _name, done, _total: told.append(done))
    assert told[0] == 2 * PART
    assert target.read_bytes() == DATA
    assert server.sent[NAME] == len(DATA)
    assert parts(tmp_path) == []


def test_a_server_that_cannot_go_on_in_the_middle_is_asked_for_all(server: Hub, tmp_path: Path) -> None:
    server.cut, server.cuts, server.ranges = PART, 1, False
    assert fetch(remote(), tmp_path / "m.gguf").read_bytes() == DATA
    assert server.sent[NAME] == PART + len(DATA)


def test_a_page_in_place_of_the_file_ends_and_keeps_what_came(server: Hub, tmp_path: Path) -> None:
    """The network of a hotel answers everything with its own page, and that with success."""
    file, target = remote(), tmp_path / "m.gguf"
    server.cut, server.cuts, server.dies = PART, 1, True
    with pytest.raises(ModelFileError, match="cut off"):
        fetch(file, target)
    server.cut, server.dead, server.page = None, False, (200, b"<html>please log in</html>", "")
    with pytest.raises(ModelFileError, match="26 bytes come in place of"):
        fetch(file, target)
    [kept] = parts(tmp_path)
    assert kept.read_bytes() == DATA[:PART]
    server.page = None
    assert fetch(file, target).read_bytes() == DATA


def test_a_file_that_ends_before_its_told_size(server: Hub, tmp_path: Path) -> None:
    file = remote()
    longer = HubFile(file.repo, file.name, file.size + 1000, file.sha256)
    server.ranges = True
    kept = hub_fetch._partial(longer, tmp_path / "m.gguf")
    kept.write_bytes(DATA)
    with pytest.raises(ModelFileError, match="what comes ends before the file does"):
        fetch(longer, tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("status", "code", "words", "hint", "times"),
    [
        (401, "", "401", "HF_TOKEN", 1),
        (403, "", "403", "permissions", 1),
        (403, "GatedRepo", "accepted its terms", "accept its terms", 1),
        (503, "", "503", "call again later", hub_fetch.TRIES),
    ],
)
def test_a_hub_that_refuses_a_file(
    server: Hub, tmp_path: Path, status: int, code: str, words: str, hint: str, times: int
) -> None:
    file = remote()
    server.page = (status, b"{}", code)
    with pytest.raises(ModelFileError, match=words) as caught:
        fetch(file, tmp_path / "m.gguf")
    assert hint in (caught.value.hint or "")
    assert "\n" not in caught.value.message
    assert server.pages == times


def test_a_wrong_hash_removes_what_came(server: Hub, tmp_path: Path) -> None:
    file, target = remote(), tmp_path / "m.gguf"
    wrong = HubFile(file.repo, file.name, file.size, "0" * 64)
    with pytest.raises(ModelFileError, match=r"its SHA-256 is .*, the hub's is 000.*: it was removed"):
        fetch(wrong, target)
    assert list(tmp_path.glob("*.gguf*")) == []
    assert parts(tmp_path) == []


def test_damage_in_what_was_kept_is_found(server: Hub, tmp_path: Path) -> None:
    file, target = remote(), tmp_path / "m.gguf"
    server.cut, server.cuts, server.dies = PART, 1, True
    with pytest.raises(ModelFileError, match="cut off"):
        fetch(file, target)
    [kept] = parts(tmp_path)
    kept.write_bytes(b"other" + DATA[5:PART])
    server.cut, server.dead = None, False
    with pytest.raises(ModelFileError, match="it was removed"):
        fetch(file, target)
    # the next call begins anew
    assert fetch(file, target).read_bytes() == DATA


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond so many bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_becomes_full(server: Hub, tmp_path: Path) -> None:
    file, target = remote(), tmp_path / "m.gguf"
    with largest_file(500_000), pytest.raises(ModelFileError, match=r"the disk is full after 0.5 of 1.0 MiB") as raised:
        fetch(file, target)
    assert "goes on where it stopped" in str(raised.value.hint)
    assert not target.exists()
    assert fetch(file, target).read_bytes() == DATA
    assert server.sent[NAME] < 2 * len(DATA)


def test_a_disk_that_is_too_small_is_told_before(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="has too little space"):
        fetch(HubFile("owner/name", NAME, 2**60, "0" * 64), tmp_path / "m.gguf")
    assert server.requests == []


def test_a_folder_that_cannot_be(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelFileError, match="cannot be written"):
        fetch(remote(), tmp_path / "file" / "m.gguf")


def test_a_token_stays_with_the_hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(remote(), tmp_path / "here.gguf")
    assert server.tokens[-1] == "Bearer hf_secret"
    # the same server under another name stands for where the hub keeps its files
    server.elsewhere = server.url.replace("127.0.0.1", "localhost")
    assert fetch(remote(), tmp_path / "there.gguf").read_bytes() == DATA
    assert server.tokens[-1] is None


def test_two_at_once(server: Hub, tmp_path: Path) -> None:
    file, target = remote(), tmp_path / "m.gguf"
    server.cut, server.cuts, server.dies = PART, 1, True
    with pytest.raises(ModelFileError, match="cut off"):
        fetch(file, target)
    server.cut, server.dead = None, False
    [kept] = parts(tmp_path)
    with kept.open("rb") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        with pytest.raises(ModelFileError, match="another process is fetching it now"):
            fetch(file, target)
    assert fetch(file, target).read_bytes() == DATA


def test_a_reference_goes_on_too_and_the_hubs_client_finds_it(server: Hub, tmp_path: Path) -> None:
    server.cut, server.cuts, server.dies = PART, 1, True
    with pytest.raises(ModelFileError, match="cut off"):
        download("owner/name")
    server.cut, server.dead = None, False
    told: list[int] = []
    path = download("owner/name", lambda _name, done, _total: told.append(done))
    assert told[0] == PART
    assert path.read_bytes() == DATA
    assert path.is_relative_to(tmp_path / "cache")
    # once, by us: the hub's client only linked it
    assert server.sent[NAME] == len(DATA)
    assert cached_file("owner/name:Q4_K_M") == path
    assert cached_ggufs("owner/name") == [path]
    assert cached_ggufs("owner/other") == []
