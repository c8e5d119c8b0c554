"""Replies without a model: kept ones, and those of an identical request that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psutil

from benchai.config import LoadedConfig
from benchai.errors import BenchAIError
from benchai.runtime.background import in_background
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.fleet.member import Member
from benchai.runtime.placement.gguf_header import read_header
from benchai.runtime.router.cache.chunks import as_chunks, fresh
from benchai.runtime.router.cache.coalesce import Coalescer, Open, Shared
from benchai.runtime.router.cache.exact import ExactCache
from benchai.runtime.router.cache.identity import Identity, identify
from benchai.runtime.router.cache.key import NO_CACHE, cacheable, flight_key
from benchai.server.openai.answer import Head
from benchai.server.openai.exchange import JSON, SSE, Exchange
from benchai.server.openai.job import Job

if TYPE_CHECKING:
    from benchai.runtime.router.cache.similar import SimilarCache

PATH = "/chat/completions"
NO_CACHE_HEADER = NO_CACHE.lower().encode()


class Replies:
    """The caches of a server, and what is under way.

    Args:
        fleet: Its models' identities are part of the keys.
        exact: Kept replies.
        similar: Requests that mean the same; None where that is off.
        enabled: Whether replies are kept at all.
    """

    def __init__(
        self, fleet: Fleet, exact: ExactCache, similar: SimilarCache | None = None, *, enabled: bool = True
    ) -> None:
        self._fleet = fleet
        self._exact = exact
        self.similar = similar
        self._enabled = enabled
        self._coalescer: Coalescer[Head] = Coalescer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._identities = Identities(self._later)

    def find(self, job: Job, header: str | None) -> bytes | None:
        """A kept reply (JSON) to the very same request; fills in the job's key where its reply may be kept."""
        if not self._enabled or job.path != PATH or not job.target.models:
            return None
        name = job.target.models[0]
        model = self._fleet.loaded.config.models[name]
        defaults = {"temperature": model.temperature, "top_p": model.top_p}
        if not cacheable(job.data, defaults, {} if header is None else {NO_CACHE: header}):
            return None
        member = self._fleet.members.get(name)
        job.identity = self._identities.of(member) if member is not None else identify(model)
        job.cache_key = self._exact.key(job.identity, keyed(job)) if job.identity is not None else None
        if job.cache_key is None:
            return None
        kept = self._exact.get(job.cache_key, usage=wants_usage(job))
        if kept is not None:
            job.cache = "exact"
        return kept

    def apply(self, similar: SimilarCache | None, *, enabled: bool) -> None:
        """Take other settings; see the class."""
        self.similar, self._enabled = similar, enabled

    async def find_similar(self, job: Job) -> bytes | None:
        """The kept reply to a request that means the same as one that ``find`` found none for; or None."""
        if self.similar is None or job.cache_key is None or job.identity is None:
            return None
        hit = await self.similar.find(job.identity, keyed(job), usage=wants_usage(job))
        if hit is None or hit.shadow:
            job.shadow = hit
            return None
        job.cache = "similar"
        return hit.reply

    def keep(self, job: Job, reply: dict[str, Any] | None) -> None:
        """Keep a whole reply, if it came from the model that the key names."""
        if not self._enabled or job.cache_key is None or job.identity is None or job.endpoint is None or reply is None:
            return
        if job.endpoint.model != job.target.models[0]:
            return
        kept = self._exact.put(job.cache_key, job.identity, reply)
        if self.similar is not None:
            if job.shadow is not None:
                self.similar.judge(job.shadow, reply)
            if kept:
                self._later(self.similar.add(job.identity, keyed(job), job.cache_key))

    def join(self, job: Job, opening: Open[Head]) -> Shared[Head]:
        """Take part in the call of identical requests; see ``Coalescer.join``."""
        assert job.cache_key is not None
        return self._coalescer.join(flight_key(job.cache_key, job.data), opening)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait for what is done beside the requests."""
        if self._tasks:
            await asyncio.wait(self._tasks)


def keyed(job: Job) -> dict[str, Any]:
    """The body with the API key's name: a reply that came at once would tell one user what another one asked."""
    return job.data | {"benchai_key": job.key} if job.key else job.data


def wants_usage(job: Job) -> bool:
    """Whether a reply without its usage is of no use."""
    return not job.stream or bool((job.data.get("stream_options") or {}).get("include_usage"))


async def give(exchange: Exchange, job: Job, kept: bytes) -> None:
    """Answer with a kept reply, streamed where the client reads a stream."""
    reply = fresh(orjson.loads(kept), benchai=job.about())
    job.measured.piece()
    job.reply = kept
    job.measured.count({"usage": reply.get("usage")})
    if not job.stream:
        await exchange.reply(200, [JSON, *job.headers()], orjson.dumps(reply))
        return
    if not exchange.started:
        await exchange.start(200, [*SSE, *job.headers()])
    await exchange.end(b"".join(as_chunks(reply, include_usage=wants_usage(job))))


#: The configuration that a model was launched with, and the process that it runs in.
Run = tuple[LoadedConfig, int | None]


class Identities:
    """Identities by model, taken aside: nobody waits for one, the first requests of a model are just not kept."""

    def __init__(self, later: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """Take what does work beside the requests."""
        self._known: dict[str, tuple[Run, Identity | None]] = {}
        self._later = later

    def of(self, member: Member) -> Identity | None:
        """The identity of a model as it runs, or would; None while it is not known."""
        pid = member.supervisor.ready.pid if member.supervisor.ready else None
        # the configuration, too: a model that does not run keeps its pid, None, when its settings change
        run: Run = (member.loaded, pid)
        known = self._known.get(member.name)
        if known is not None and known[0] == run and (known[1] is None or known[1].current):
            return known[1]
        if member.file is not None:
            self._known[member.name] = (run, None)
            self._later(self._take(member, run))
        return None

    async def _take(self, member: Member, run: Run) -> None:
        with suppress(OSError, BenchAIError, psutil.Error):
            found = await in_background(_identity, member, run[1])
            if self._known[member.name][0] == run:
                self._known[member.name] = (run, found)


def _identity(member: Member, pid: int | None) -> Identity | None:
    """None where a file was changed after the engine began to read it: which one it read is not known."""
    assert member.file is not None
    named = [member.loaded.resolve(path) for key, path in member.config.files() if key != "file"]
    given = member.config.chat_template_file
    own = read_header(member.file).facts.get("tokenizer.chat_template", "")
    template = member.loaded.resolve(given).read_text(encoding="utf-8") if given else str(own)
    found = identify(member.config, [member.file, *named], engine=member.engine_version(), template=template)
    began = psutil.Process(pid).create_time() if pid is not None else float("inf")
    # a file that was moved here has its old time, but a new one of its change
    changed = [max(mark.changed / 1e9, Path(mark.path).stat().st_ctime) for mark in found.files]
    return found if max(changed) < began else None
