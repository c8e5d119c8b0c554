"""The memory as runs use it: within a run's namespace, recalled when it begins, kept when it ends."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from langchain_core.messages import HumanMessage

from benchai.agents.messages import recalled
from benchai.config import LoadedConfig
from benchai.config.memory import MemoryConfig
from benchai.errors import BenchAIError, ToolError
from benchai.events import Notice, StopReason
from benchai.graphs.memories import Memories
from benchai.graphs.running import Run
from benchai.runtime.background import in_background
from benchai.tools.memory import Recalled
from benchai.tools.results import fence, neutralise, sanitise

if TYPE_CHECKING:
    from benchai.memory.extract import Extractor
    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService
    from benchai.memory.types import Kind, Passage

logger = logging.getLogger(__name__)
T = TypeVar("T")
#: What is recalled by itself at the beginning of a run; documents are looked for when a task asks for them.
RECALLED: tuple[Kind, ...] = ("fact", "howto", "summary", "turn")
MOST = 8
#: Looked at for these: a long thread's own turns come first, and are left out.
LOOKED_AT = 64
#: Seconds that a run waits at most for what it might recall: somebody else may have the memory.
PATIENCE = 5.0
#: Characters of a task that are looked for.
LONGEST_QUESTION = 2000
#: Share of a task's words that something must hold to be recalled, and how many words at least.
SHARE, LEAST = 0.4, 2
#: Steps that make what was done worth remembering, and characters of its task.
STEPS, LONGEST_TASK = 2, 2000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
FENCE = "memory"


def namespace_of(config: MemoryConfig, thread: str, user: str | None = None) -> Namespace:
    """Where a run keeps what is said, as the configuration's scope and project say.

    Raises:
        NamespaceError: the project is no name.
    """
    from benchai.memory.namespace import LOCAL, Namespace

    project = config.project if config.scope != "user" else ""
    level = _named(thread) if config.scope == "thread" else ""
    return Namespace(LOCAL if user is None else user_of(user), project, level)


def user_of(key: str) -> str:
    """The user of an API key, by the key's name; a key named as the user of this machine is another's."""
    from benchai.memory.namespace import LOCAL

    return _summed(key) if key == LOCAL else _named(key)


def _named(id: str) -> str:
    """An id as the name of a level: no two ids share one, and none is left without."""
    return id if _NAME.fullmatch(id) else _summed(id)


def _summed(id: str) -> str:
    head = _NOT_IN_A_NAME.sub("-", id).strip("-._")[:40]
    total = hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{head}-{total}" if head else total


class Remembering:
    """What runs recall, and what is kept of them."""

    def __init__(
        self, memories: Memories, extractor: Callable[[], Extractor] | None = None, loaded: LoadedConfig | None = None
    ) -> None:
        """``extractor`` takes facts from what was said, once it is kept; None: nothing is learned.

        Runs keep to ``loaded``, default: the memory's own, whatever configuration the memory goes on with.
        """
        self._memories = memories
        self._extractor = extractor
        self._loaded = loaded or memories.loaded
        self._keeping: set[asyncio.Task[None]] = set()

    def of(self, run: Run) -> RunMemory | None:
        """The memory as a run's tools may use it; None where it is switched off."""
        config = self._loaded.config.memory
        if not (config.enabled and self._memories.enabled):
            return None
        return RunMemory(self._memories, run.thread_id, run.run_id, run.user, config)

    async def recalled(self, run: Run) -> HumanMessage | None:
        """What the memory holds on a run's task, as a message before it; None where that is nothing."""
        memory = self.of(run)
        if memory is None or self._loaded.is_bundled("general"):
            # the bundled model was never shown such notes, and is led astray by them
            return None
        try:
            async with asyncio.timeout(min(PATIENCE, run.ledger.seconds_left)):
                found = await memory.recall_for(_said(run))
        except TimeoutError:
            run.emit(Notice(text=f"nothing is recalled: the memory did not answer in {PATIENCE:g} s"))
        except Exception as error:
            # a run needs no memory, whatever is wrong with it
            run.emit(Notice(text=f"nothing is recalled: {error}"))
        else:
            return recalled(found) if found else None
        return None

    def keep(self, run: Run, output: str, reason: StopReason) -> None:
        """Keep what was said; the result does not wait for it, ``kept`` does."""
        memory = self.of(run)
        if memory is not None:
            did = run.did if reason == "completed" else []
            keeping = asyncio.create_task(_keep(memory, run, output, did, self._extractor))
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)

    async def kept(self) -> None:
        """Wait until all is kept."""
        await asyncio.gather(*self._keeping, return_exceptions=True)


async def _keep(
    memory: RunMemory, run: Run, output: str, did: Sequence[str], extractor: Callable[[], Extractor] | None
) -> None:
    # one that goes on was said before
    task = _said(run) if run.beginning.inputs is not None else ""
    try:
        async with asyncio.timeout(memory.patience):
            await memory.keep(task, output, did, run.workflow.name)
        if extractor is not None and task:
            await memory.learn(extractor())
    except Exception as error:
        told = str(error) or "it did not answer"
        logger.warning("the run %s is not in the memory: %s", run.run_id, told)


def _said(run: Run) -> str:
    return run.task if run.said is None else run.said


class RunMemory:
    """Implements ``Recollection`` for one run.

    Args:
        memories: Opens the memory.
        thread, run: Ids of the run.
        user: Whose run it is, as an API key names him; default: the local user.
        config: What the run keeps to; default: the memory's own of now.
    """

    def __init__(
        self, memories: Memories, thread: str, run: str, user: str | None = None, config: MemoryConfig | None = None
    ) -> None:
        self._memories = memories
        self._config = config or memories.loaded.config.memory
        self._ns = namespace_of(self._config, thread, user)
        self._thread, self._run = thread, run

    async def learn(self, extractor: Extractor) -> None:
        """Take facts from what this run said; the memory is free while the model is asked.

        Raises:
            BenchAIError: the model, or the memory, failed.
        """
        from benchai.graphs.learning import keep

        async with self._memories.use() as memory:
            turns = [turn for turn in await memory.turns_of(self._ns, self._thread) if turn.run == self._run]
        found = await extractor.extract(turns)
        async with self._memories.use() as memory:
            await keep(memory, self._ns, found, extractor.name)

    @property
    def patience(self) -> float:
        """Seconds after which what was said is given up, lest a command never ends."""
        return self._config.wait + PATIENCE

    async def search(self, query: str, count: int) -> Sequence[Recalled]:
        """See ``Recollection``."""
        return [_recalled(one) for one in await self._find(query, count, ("document",))]

    async def recall(self, query: str, count: int) -> Sequence[Recalled]:
        """See ``Recollection``."""
        return [_recalled(one) for one in await self._find(query, count, RECALLED)]

    async def remember(self, text: str) -> str:
        """See ``Recollection``."""
        return (await self._told(lambda memory: memory.remember(self._ns, text))).id

    async def forget(self, id: str) -> int:
        """See ``Recollection``."""
        from benchai.graphs.forgetting import forget_replies
        from benchai.memory.forget import Target

        forgotten = await self._told(lambda memory: memory.forget(self._ns, Target(ids=(id,))))
        await in_background(forget_replies)
        return sum(forgotten.counts.values())

    async def recall_for(self, task: str) -> str:
        """What the memory holds on a task, fenced as data, for the beginning of a run; "" where that is nothing.

        Raises:
            BenchAIError: the memory can't be opened.
        """
        if not self._config.recall or not self._memories.exists:
            return ""
        from benchai.memory.fuse import within
        from benchai.memory.search import tokens_of

        asked = task[:LONGEST_QUESTION]
        found = await self._find(asked, LOOKED_AT, RECALLED)
        belonging = [one for one in found if self._belongs(one, asked)][:MOST]
        chosen = within(belonging, tokens_of, self._config.recall_tokens)
        if not chosen:
            return ""
        lines = [f"- [{one.id}] {one.heading or one.kind}, {_date(one.at)}: {one.text}" for one in chosen]
        return fence(neutralise(sanitise("\n".join(lines))), FENCE)

    async def keep(self, task: str, output: str, did: Sequence[str] = (), workflow: str = "") -> None:
        """Keep what was said: the task, and the answer; "" where one of them is none.

        ``did`` is what a run that has succeeded did for it, which is kept as a how-to where it took several steps.

        Raises:
            BenchAIError: the memory can't be opened or written.
        """
        from benchai.memory.turns import Said

        both = (Said(role="user", text=task), Said(role="assistant", text=output))
        said = [one for one in both if one.text.strip()]
        async with self._memories.use() as memory:
            turns = await memory.record(self._ns, self._thread, self._run, said)
            if task and len(did) >= STEPS:
                await memory.worked(self._ns, task[:LONGEST_TASK], did, workflow, turns)

    def _belongs(self, found: Passage, task: str) -> bool:
        """Whether it has so much to do with the task that it is worth its tokens, and is not of this very thread."""
        from benchai.memory.lexical import words_of

        if found.source == f"thread:{self._thread}":
            return False
        asked = set(words_of(task))
        shared = len(asked & set(words_of(f"{found.text} {found.heading}")))
        return shared >= min(LEAST, len(asked)) and shared >= SHARE * len(asked)

    async def _find(
        self, query: str, count: int, kinds: tuple[Kind, ...], tokens: int | None = None
    ) -> Sequence[Passage]:
        from benchai.memory.search import Filter, Query

        asked = Query(text=query, count=count, tokens=tokens, filter=Filter(kinds=kinds))
        return (await self._told(lambda memory: memory.search(self._ns, asked))).passages

    async def _told(self, call: Callable[[MemoryService], Awaitable[T]]) -> T:
        """The result of a call; what fails is told to the model."""
        try:
            async with self._memories.use() as memory:
                return await call(memory)
        except BenchAIError as error:
            raise ToolError(error.message, hint=error.hint) from error


def _recalled(found: Passage) -> Recalled:
    return Recalled(found.id, found.place or found.kind, _date(found.at), found.text)


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
