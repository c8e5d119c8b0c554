"""What the memory keeps of a thread that is deleted goes, too."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchai.config import LoadedConfig
    from benchai.memory.forget import Forgotten
    from benchai.memory.namespace import Namespace


def forget_thread(thread: str, config: Path | None) -> str:
    """Forget all that was said on a thread, with what was derived from it; what that was, "" for nothing.

    Raises:
        BenchAIError: the memory can't be opened or written; names the command that does it later.
    """
    from benchai.cli.asyncrun import run_async
    from benchai.config import load_config
    from benchai.errors import BenchAIError, StoreError
    from benchai.graphs.memories import Memories

    loaded = load_config(config)
    memories = Memories(loaded)
    if not (memories.enabled and memories.exists):
        return ""
    try:
        return run_async(_forget(thread, loaded))
    except BenchAIError as error:
        raise StoreError(
            f"the memory still holds what was said on the thread {thread!r}: {error.message}",
            hint=f"benchai memory forget --thread {thread!r}",
        ) from error


async def _forget(thread: str, loaded: LoadedConfig) -> str:
    from benchai.cli.memory import counted
    from benchai.cli.opening import opened_memory
    from benchai.graphs.forgetting import forget_replies
    from benchai.memory.forget import Forgotten, Target
    from benchai.runtime.background import in_background

    total: Counter[str] = Counter()
    async with opened_memory(loaded, None) as (memory, _):
        for ns, level in _levels(loaded, thread):
            gone: list[Forgotten] = [await memory.forget(ns, Target(thread=one)) for one in {thread, level}]
            for one in gone:
                total.update(one.counts)
    if not total.total():
        return ""
    await in_background(forget_replies)
    return counted(Forgotten(counts=dict(total)))


def _levels(loaded: LoadedConfig, thread: str) -> list[tuple[Namespace, str]]:
    """Whose it may be, the local user's or that of a key, and the level on which it may stand alone."""
    from benchai.config.memory import MemoryConfig
    from benchai.graphs.remembering import namespace_of
    from benchai.memory.namespace import Namespace

    users = [None, *(key.name for key in loaded.config.server.keys)]
    named = [namespace_of(MemoryConfig(scope="thread"), thread, user) for user in users]
    return [(Namespace(one.user), one.thread) for one in named]
