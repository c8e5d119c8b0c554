"""Replies that are given to a request which means the same as an earlier one (off by default).

Only the last words of the user may differ: model, settings, system prompts, tools and the whole history before them
are the same to the letter. Among such requests the nearest by embedding are compared by ``meaning``. At first every hit
is a shadow run: the model answers all the same, and both replies are compared. Hits are given once the share of false
ones is surely small enough, and a part of them goes on being checked.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy
import orjson
from numpy.typing import NDArray

from benchai.config.cache import SimilarConfig
from benchai.runtime.router.cache.database import Database
from benchai.runtime.router.cache.exact import ExactCache, cleared_since
from benchai.runtime.router.cache.identity import Identity
from benchai.runtime.router.cache.key import key_of
from benchai.runtime.router.cache.meaning import LONGEST, VERIFIER, same_meaning
from benchai.runtime.router.cache.shadow import COUNTED, Estimate, Verdict, same_reply

#: Requests of one scope that are compared; candidates that are verified.
NEIGHBOURS, CANDIDATES = 200, 5
#: Requests that are kept in all.
LARGEST = 10_000
_KEPT_VECTORS, _TRIM_EVERY = 64, 100
_NEAR = "SELECT key, text, vector FROM similar WHERE scope = ? ORDER BY created DESC LIMIT ?"
_ADD = "INSERT OR REPLACE INTO similar VALUES (?, ?, ?, ?, ?)"
_TRIM = """DELETE FROM similar WHERE scope = ?1 AND key NOT IN
    (SELECT key FROM similar WHERE scope = ?1 ORDER BY created DESC LIMIT ?2)"""
_TRIM_ALL = """DELETE FROM similar WHERE key NOT IN (SELECT key FROM replies)
    OR created < (SELECT created FROM similar ORDER BY created DESC LIMIT 1 OFFSET ?)"""

Vector: TypeAlias = NDArray[numpy.float32]


class Embedder(Protocol):
    """Where embeddings come from."""

    async def embed(self, text: str) -> list[float]:
        """The embedding of a text, of any length greater than zero.

        Raises:
            BenchAIError: there is none now.
        """
        ...


class SimilarHit(NamedTuple):
    """An earlier reply that would fit.

    Attributes:
        reply: The whole reply, as JSON.
        similarity: Cosine of the two embeddings.
        text: What the user asked then.
        shadow: Whether the model is to answer all the same; its reply goes to ``SimilarCache.judge``.
        settings: Under which it was found: it tells about no others.
        generation: Of the cache that it was found in: it tells nothing of one that was cleared meanwhile.
    """

    reply: bytes
    similarity: float
    text: str
    shadow: bool
    settings: str
    generation: int


def asked(body: Mapping[str, Any]) -> str | None:
    """The last words of the user, where they end the conversation and are plain text of a moderate length."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user":
        return None
    content = last.get("content")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        content = content[0].get("text") if content[0].keys() == {"type", "text"} else None
    return content if isinstance(content, str) and 0 < len(content) <= LONGEST else None


def scope_of(identity: Identity, body: Mapping[str, Any]) -> bytes | None:
    """What two requests must share: all of them but the last words of the user. None where there is no such thing."""
    if asked(body) is None:
        return None
    *history, last = body["messages"]
    return key_of(identity, {**body, "messages": [*history, {**last, "content": None}]})


class SimilarCache:
    """Similar requests, over the replies of an ``ExactCache``; on the same thread.

    Args:
        exact: Where the replies are.
        embedder: Where embeddings come from.
        config: Thresholds and bounds.
        model: Name of the embedding model: estimates under one say nothing about another.
        report: Gets a line when no embedding can be had, and when the verdict changes.
    """

    def __init__(
        self,
        exact: ExactCache,
        embedder: Embedder,
        config: SimilarConfig,
        *,
        model: str,
        report: Callable[[str], None],
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._exact, self._embedder, self._config = exact, embedder, config
        self._report, self._chance, self._clock = report, chance, clock
        self._settings = f"{model}, threshold {config.threshold:g}, verifier {VERIFIER}"
        self._model = model.encode()
        self._vectors: OrderedDict[str, Vector] = OrderedDict()
        self._told = False
        self._added = 0
        self._generation = exact.generation()
        self._runs = self._read_runs()

    @property
    def _database(self) -> Database:
        return self._exact.database

    @property
    def estimate(self) -> Estimate:
        """What the shadow runs tell so far."""
        return Estimate(self._settings, len(self._runs), self._runs.count(False))

    @property
    def verdict(self) -> Verdict:
        """Whether hits are given: see ``Estimate.verdict``."""
        return self.estimate.verdict(self._config.max_false)

    async def find(self, identity: Identity, body: Mapping[str, Any], *, usage: bool = False) -> SimilarHit | None:
        """The reply to an earlier request that means the same, for a request that may be cached; or None.

        Args:
            identity: The model.
            body: The request.
            usage: Whether a reply without its usage is of no use.
        """
        self._notice_clear()
        verdict = self.verdict
        scope, text = scope_of(identity, body), asked(body)
        if verdict == "off" or scope is None or text is None:
            return None
        vector = await self._vector(text)
        for similarity, key, other in self._near(scope, vector) if vector is not None else ():
            reply = self._exact.get(key, usage=usage) if same_meaning(text, other) else None
            if reply is not None:
                shadow = verdict == "trial" or self._chance() < self._config.shadow
                return SimilarHit(reply, similarity, other, shadow, self._settings, self._generation)
        return None

    async def add(self, identity: Identity, body: Mapping[str, Any], key: bytes) -> None:
        """Let a request be found whose reply is kept under ``key``."""
        scope, text = scope_of(identity, body), asked(body)
        self._notice_clear()
        if scope is None or text is None or self.verdict == "off":
            return
        generation = self._generation
        vector = await self._vector(text)
        if vector is not None:
            row = (self._own(scope), key, self._clock(), text, vector.tobytes())
            self._added += 1
            trim = self._added % _TRIM_EVERY == 1
            self._database.write(lambda opened: _keep(opened, row, trim, generation), len(row[-1]))

    def judge(self, hit: SimilarHit, reply: Mapping[str, Any]) -> bool:
        """Compare what a shadow run would have given with what the model said. Whether they agree."""
        agreed = same_reply(orjson.loads(hit.reply), reply)
        self._notice_clear()
        before, generation = self.verdict, hit.generation
        if hit.settings == self._settings and generation == self._generation:
            self._runs = [*self._runs[1 - COUNTED :], agreed]
        row = (hit.settings, self._clock(), hit.similarity, agreed)
        self._database.write(lambda opened: _record(opened, row, generation))
        if self.verdict != before:
            low, high = self.estimate.bounds
            self._report(f"similar cache: {before} -> {self.verdict}, false hits {low:.1%} to {high:.1%}")
        return agreed

    def _near(self, scope: bytes, vector: Vector) -> list[tuple[float, bytes, str]]:
        rows = [
            row for row in self._database.read(_NEAR, (self._own(scope), NEIGHBOURS)) if len(row[2]) == vector.nbytes
        ]
        if not rows:
            return []
        others = numpy.frombuffer(b"".join(row[2] for row in rows), numpy.float32).reshape(len(rows), -1)
        cosines: list[float] = (others @ vector).tolist()
        found = [(cosine, row[0], row[1]) for cosine, row in zip(cosines, rows, strict=True)]
        return sorted((one for one in found if one[0] >= self._config.threshold), reverse=True)[:CANDIDATES]

    def _notice_clear(self) -> None:
        """Begin anew when all was deleted: what was learnt went with it, and it may work now."""
        generation = self._exact.generation()
        if generation != self._generation:
            self._generation, self._told = generation, False
            self._vectors.clear()
            self._runs = self._read_runs()

    def _read_runs(self) -> list[bool]:
        return [bool(row[0]) for row in self._database.read(_RUNS, (self._settings, COUNTED))][::-1]

    def _own(self, scope: bytes) -> bytes:
        """Vectors of different models have nothing to do with each other."""
        return hashlib.sha256(scope + self._model).digest()

    async def _vector(self, text: str) -> Vector | None:
        """The embedding of a text, of length 1; None where there is none."""
        if text in self._vectors:
            return self._vectors[text]
        try:
            vector = _unit(await self._embedder.embed(text))
        except Exception as error:
            vector = None
            self._tell(error)
        if vector is not None:
            self._vectors[text] = vector
            while len(self._vectors) > _KEPT_VECTORS:
                self._vectors.popitem(last=False)
        return vector

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            self._report(f"similar cache: no embedding: {error}")


_RUNS = "SELECT agreed FROM shadows WHERE settings = ? ORDER BY id DESC LIMIT ?"


def _unit(values: list[float]) -> Vector | None:
    vector = numpy.asarray(values, numpy.float32)
    length = float(numpy.linalg.norm(vector))
    return vector / length if vector.ndim == 1 and numpy.isfinite(length) and length > 0 else None


def _keep(opened: sqlite3.Connection, row: tuple[Any, ...], trim: bool, generation: int) -> None:
    if cleared_since(opened, generation):
        return
    opened.execute(_ADD, row).close()
    opened.execute(_TRIM, (row[0], NEIGHBOURS)).close()
    if trim:
        opened.execute(_TRIM_ALL, (LARGEST,)).close()


def _record(opened: sqlite3.Connection, row: tuple[Any, ...], generation: int) -> None:
    if cleared_since(opened, generation):
        return
    opened.execute("INSERT INTO shadows (settings, time, similarity, agreed) VALUES (?, ?, ?, ?)", row).close()
    query = "DELETE FROM shadows WHERE settings = ?1 AND id NOT IN (SELECT id FROM shadows WHERE settings = ?1 "
    opened.execute(query + "ORDER BY id DESC LIMIT ?2)", (row[0], COUNTED)).close()
