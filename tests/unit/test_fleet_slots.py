"""Keys and checks of saved KV caches, and what is deleted when there are too many."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.runtime.fleet.slots import (
    SAMPLE_BYTES,
    SAMPLES,
    SlotStore,
    cache_key,
    check,
    checksum,
    discard,
    fingerprint,
)

SETTINGS: dict[str, Any] = {"n_ctx": 4096, "k": "f16", "v": None, "lora": [], "args": []}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "key-0.kv"
    file.write_bytes(bytes(range(256)) * 8)
    describe(file)
    return file


def describe(file: Path, **changes: Any) -> None:
    size, crc = file.stat().st_size, zlib.crc32(file.read_bytes())
    about = {"tokens": 20, "bytes": size, "crc32": crc} | changes
    file.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")


def test_a_whole_file_passes(saved: Path) -> None:
    check(saved)


@given(position=st.integers(0, 2047), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    file = tmp_path_factory.mktemp("slot") / "key-0.kv"
    file.write_bytes(bytes(range(256)) * 8)
    describe(file)
    data = bytearray(file.read_bytes())
    data[position] ^= 1 << bit
    file.write_bytes(data)
    with pytest.raises(ValueError, match="checksum is wrong"):
        check(file)


@pytest.mark.parametrize("size", [0, 1, 2047, 2049])
def test_another_size_is_found(saved: Path, size: int) -> None:
    data = saved.read_bytes() + b"x"
    saved.write_bytes(data[:size])
    with pytest.raises(ValueError, match=f"it has {size} bytes, 2048 were written"):
        check(saved)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "[1]", "7", '"x"', "{}", '{"bytes": 2048}', '{"crc32": 1}'])
def test_a_description_that_makes_no_sense_is_a_value_error(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError):  # noqa: PT011 - the words are Python's own
        check(saved)


def test_a_description_in_another_encoding_is_a_value_error(saved: Path) -> None:
    saved.with_suffix(".json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError):  # noqa: PT011
        check(saved)


@pytest.mark.parametrize("suffix", [".kv", ".json"])
def test_a_file_that_is_missing_is_an_os_error(saved: Path, suffix: str) -> None:
    saved.with_suffix(suffix).unlink()
    with pytest.raises(OSError, match="No such file"):
        check(saved)


def test_discarding_takes_both_files_and_may_be_done_twice(saved: Path) -> None:
    discard(saved)
    discard(saved)
    assert not list(saved.parent.iterdir())


@given(data=st.binary(max_size=3000))
def test_the_checksum_is_that_of_zlib(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("sum") / "file"
    file.write_bytes(data)
    assert checksum(file) == zlib.crc32(data)


# ---- keys


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, SAMPLE_BYTES, SAMPLES * SAMPLE_BYTES + 7])
def test_a_fingerprint_is_stable_and_knows_the_size(tmp_path: Path, size: int) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(bytes(size))
    two.write_bytes(bytes(size + 1))
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(two)


@pytest.mark.parametrize("position", [0, 1000, SAMPLE_BYTES - 1])
def test_a_fingerprint_knows_the_beginning(tmp_path: Path, position: int) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    data = bytearray(3 * SAMPLES * SAMPLE_BYTES)
    one.write_bytes(data)
    data[position] = 1
    two.write_bytes(data)
    assert fingerprint(one) != fingerprint(two)


def test_a_fingerprint_does_not_depend_on_place_or_time(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.write_bytes(b"model" * 100)
    before = fingerprint(one)
    moved = tmp_path / "folder"
    moved.mkdir()
    one = one.rename(moved / "two")
    os.utime(one, (0, 0))
    assert fingerprint(one) == before


def test_a_key_depends_on_everything_that_makes_a_cache_useless_for_others(tmp_path: Path) -> None:
    file, other = tmp_path / "model", tmp_path / "other"
    file.write_bytes(b"a" * 100)
    other.write_bytes(b"b" * 100)
    variants = [
        (file, "b1", SETTINGS),
        (other, "b1", SETTINGS),
        (file, "b2", SETTINGS),
        *((file, "b1", SETTINGS | {key: "changed"}) for key in SETTINGS),
        (file, "b1", SETTINGS | {"v": "None"}),
    ]
    keys = [cache_key(*variant) for variant in variants]
    # "changed" for v and None are two of them
    assert len(set(keys)) == len(keys)
    assert cache_key(file, "b1", dict(reversed(SETTINGS.items()))) == keys[0]
    assert all(key.isalnum() for key in keys)


# ---- the limit


def store(folder: Path, limit_mib: int) -> SlotStore:
    return SlotStore(folder / "one", folder, "key", limit_mib, lambda line: None)


def fill(folder: Path, *sizes: int) -> list[Path]:
    """Files of so many KiB over two models, the oldest first."""
    files = []
    for number, size in enumerate(sizes):
        file = folder / ("one" if number % 2 else "two") / f"k{number}-0.kv"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(size * 1024))
        describe(file)
        os.utime(file, (number + 1, number + 1))
        files.append(file)
    return files


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ((), ()),
        ((1024,), (0,)),
        ((1025,), ()),
        ((512, 512), (0, 1)),
        ((512, 512, 1), (1, 2)),
        ((1000, 1000, 1000), (2,)),
        ((1, 1023, 1), (1, 2)),
        ((1, 1, 1024), (2,)),
    ],
)
def test_the_oldest_of_all_models_go_first(tmp_path: Path, sizes: tuple[int, ...], kept: tuple[int, ...]) -> None:
    files = fill(tmp_path, *sizes)
    store(tmp_path, 1)._trim()
    assert [number for number, file in enumerate(files) if file.exists()] == list(kept)
    assert all(file.exists() == file.with_suffix(".json").exists() for file in files)


@pytest.mark.parametrize(("text", "refused"), [("no", True), ("yes", False), ("", False), (None, False)])
def test_a_verdict_is_remembered(tmp_path: Path, text: str | None, refused: bool) -> None:
    one = store(tmp_path, 1)
    one.folder.mkdir()
    if text is not None:
        (one.folder / "key.restores").write_text(text, encoding="utf-8")
    assert one.refused == refused
