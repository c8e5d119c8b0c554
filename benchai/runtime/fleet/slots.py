"""KV caches of a model's slots, kept on disk while the model is away.

A file holds the cache of one slot. It is written under another name by the engine, checked, described by a small
JSON file beside it (size and checksum) and then renamed, so that half a file is never restored. Files are keyed by
what makes a cache useless for others: the model's file, the engine's build, context and KV types.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchai.runtime.background import in_background
from benchai.runtime.fleet.process import Ready
from benchai.runtime.http import local_client

MIB = 1024 * 1024
SAVE_SECONDS = 30.0
# a server that does not tell its slots by then saves nothing either
LOOK_SECONDS = 3.0
FAULTS = (httpx.HTTPError, OSError, ValueError, KeyError, TypeError)
LEAST_TOKENS = 16
SAMPLES, SAMPLE_BYTES = 16, 64 * 1024
# what a test of restoring asks for: long enough that a shared prefix of another prompt can't be meant
PROBE_PROMPT = "count: " + " ".join(str(number) for number in range(40, 80))


def fingerprint(file: Path) -> str:
    """A checksum of a model's size, beginning and some samples: enough to tell two models apart, in milliseconds."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as opened:
        for number in range(SAMPLES):
            opened.seek(size * number // SAMPLES)
            digest.update(opened.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def cache_key(file: Path, build: str, settings: dict[str, Any]) -> str:
    """The key of the slot files of one model as it is run."""
    text = json.dumps([fingerprint(file), build, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass
class SlotStore:
    """The slot files of one model in `folder`, the engine's --slot-save-path.

    `limit_mib` caps the files of all models in `root` together. `report` gets a line when a cache is lost.
    """

    folder: Path
    root: Path
    key: str
    limit_mib: int
    report: Callable[[str], None]

    @property
    def refused(self) -> bool:
        """Whether this engine was seen to restore nothing for this model."""
        return self._verdict() == "no"

    async def save(self, ready: Ready) -> int:
        """Save every idle slot that holds a conversation. Returns how many tokens were saved."""
        if self.limit_mib == 0 or self.refused:
            return 0
        saved = 0
        async with local_client(base_url=ready.root, timeout=SAVE_SECONDS) as client:
            for slot in await _slots(client):
                tokens = slot.get("n_prompt_tokens") or 0
                if not slot.get("is_processing") and tokens >= LEAST_TOKENS:
                    saved += await self._save_one(client, int(slot["id"]))
            if saved and self._verdict() is None:
                await self._verify(client)
        await in_background(self._trim)
        return 0 if self.refused else saved

    async def restore(self, ready: Ready) -> int:
        """Give the slots of a model that has just started their caches back. Returns the tokens restored."""
        if self.limit_mib == 0 or self.refused:
            return 0
        restored = 0
        async with local_client(base_url=ready.root, timeout=SAVE_SECONDS) as client:
            for number in range(ready.slots):
                file = self._file(number)
                if file.exists():
                    restored += await self._restore_one(client, number, file)
        return restored

    def _file(self, slot: int) -> Path:
        return self.folder / f"{self.key}-{slot}.kv"

    async def _save_one(self, client: httpx.AsyncClient, slot: int) -> int:
        file = self._file(slot)
        partial = file.with_suffix(".partial")
        try:
            answer = await _act(client, slot, "save", partial.name)
            tokens, size = int(answer["n_saved"]), int(answer["n_written"])
            if tokens < LEAST_TOKENS:
                return 0
            await in_background(self._keep, partial, file, tokens, size)
        except FAULTS as error:
            self.report(f"the KV cache of slot {slot} could not be saved: {_words(error)}")
            return 0
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
        return tokens

    def _keep(self, partial: Path, file: Path, tokens: int, size: int) -> None:
        """Check what the engine wrote and put it in its place, the description first."""
        if partial.stat().st_size != size:
            raise OSError(f"{size} bytes were to be written, {partial.stat().st_size} are there")
        about = {"tokens": tokens, "bytes": size, "crc32": checksum(partial)}
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        note = file.with_suffix(".json.partial")
        note.write_text(json.dumps(about), encoding="utf-8")
        note.replace(file.with_suffix(".json"))
        partial.replace(file)

    async def _restore_one(self, client: httpx.AsyncClient, slot: int, file: Path) -> int:
        try:
            await in_background(check, file)
            answer = await _act(client, slot, "restore", file.name)
            return int(answer["n_restored"])
        except FAULTS as error:
            self.report(f"the saved KV cache {file.name} is discarded: {_words(error)}")
            discard(file)
            return 0

    def _verdict(self) -> str | None:
        """What an earlier test found: "yes", "no", or None when there was none."""
        try:
            return self._verdict_file().read_text(encoding="utf-8")
        except OSError:
            return None

    def _verdict_file(self) -> Path:
        return self.folder / f"{self.key}.restores"

    async def _verify(self, client: httpx.AsyncClient) -> None:
        """Find out once for this model and engine whether a restored slot is used. All slots are saved by now."""
        name = f"{self.key}-probe.partial"
        try:
            await _complete(client)
            await _act(client, 0, "save", name)
            await _act(client, 0, "erase", "")
            await _act(client, 0, "restore", name)
            timings = (await _complete(client))["timings"]
            works = timings["cache_n"] > timings["prompt_n"]
            self._verdict_file().write_text("yes" if works else "no", encoding="utf-8")
        except FAULTS:
            return
        finally:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        if not works:
            self.report("this model's KV cache cannot be restored by this engine, it is not saved any more")
            for file in self.folder.glob(f"{self.key}-*.kv"):
                discard(file)

    def _trim(self) -> None:
        """Delete the oldest files of all models until the rest is within the limit."""
        found = {*self.root.glob("**/*.kv"), *self.folder.glob("*.kv")}
        files = sorted((stat.st_mtime, stat.st_size, file) for file in found if (stat := _stat(file)))
        total = sum(size for _, size, _ in files)
        for _, size, file in files:
            if total <= self.limit_mib * MIB:
                return
            total -= size
            discard(file)


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def discard(file: Path) -> None:
    """Delete a slot file and its description."""
    for one in (file, file.with_suffix(".json")):
        with contextlib.suppress(OSError):
            one.unlink()


def check(file: Path) -> None:
    """Compare a slot file with its description.

    Raises:
        ValueError: they differ, or the description can't be read.
        OSError: one of them can't be read.
    """
    about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    if not isinstance(about, dict) or not {"bytes", "crc32"} <= about.keys():
        raise ValueError("its description makes no sense")
    size = file.stat().st_size
    if size != about["bytes"]:
        raise ValueError(f"it has {size} bytes, {about['bytes']} were written")
    if checksum(file) != about["crc32"]:
        raise ValueError("its checksum is wrong")


def checksum(file: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with file.open("rb") as opened:
        while piece := opened.read(MIB):
            value = zlib.crc32(piece, value)
    return value


async def _slots(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    try:
        answer = (await client.get("/slots", timeout=LOOK_SECONDS)).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return []
    return [slot for slot in answer if isinstance(slot, dict)] if isinstance(answer, list) else []


async def _act(client: httpx.AsyncClient, slot: int, action: str, name: str) -> dict[str, Any]:
    body = {"filename": name} if name else {}
    response = await client.post(f"/slots/{slot}", params={"action": action}, json=body)
    if response.is_error:
        raise ValueError(_message(response))
    answer: dict[str, Any] = response.json()
    return answer


async def _complete(client: httpx.AsyncClient) -> dict[str, Any]:
    body = {"prompt": PROBE_PROMPT, "n_predict": 1, "id_slot": 0, "cache_prompt": True, "temperature": 0}
    answer: dict[str, Any] = (await client.post("/completion", json=body)).raise_for_status().json()
    return answer


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
