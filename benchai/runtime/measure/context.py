"""Tokens that are evaluated again at each turn, with and without what keeps contexts: measured on a real engine.

Each layout is replayed twice on the same model, ``before`` and ``after``; the replies of the first replay stand in the
history of the second, so that both send the same prompts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchai.config import LoadedConfig, ModelConfig
from benchai.errors import UsageError
from benchai.events import Emit
from benchai.runtime.background import in_background
from benchai.runtime.measure.conversations import SUMMARISE, Session, Turn, questions_of, send
from benchai.runtime.measure.rig import Rig, started, with_model
from benchai.runtime.placement.footprint import kv_bytes
from benchai.runtime.placement.gpu import MIB
from benchai.runtime.placement.memory import settings_of
from benchai.runtime.placement.model_info import read_model_info

#: Smallest chunk that is shifted, where the configuration names none.
REUSE = 64
FIRST_NUMBER = 10
KEPT_TURNS = 2
EDITS = ("a history whose oldest turn is left out", "a history whose oldest question is replaced by a note")


@dataclass(frozen=True)
class Layout:
    """One way to hold conversations, measured without (``before``) and with (``after``) what may help it.

    ``turns`` has a pair for each request, in the order they were sent.
    """

    name: str
    before: str
    after: str
    turns: tuple[tuple[Turn, Turn], ...]

    @property
    def evaluated(self) -> tuple[int, int]:
        """Tokens evaluated over all turns, before and after."""
        return sum(one.evaluated_tokens for one, _ in self.turns), sum(two.evaluated_tokens for _, two in self.turns)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        turns = [
            {"before": asdict(one), "after": asdict(two), "saved": saved(one.evaluated_tokens, two.evaluated_tokens)}
            for one, two in self.turns
        ]
        about = {"name": self.name, "before": self.before, "after": self.after, "saved": saved(*self.evaluated)}
        return about | {"turns": turns}


@dataclass(frozen=True)
class ContextReport:
    """All layouts of a model; ``slots`` and ``context`` are those of its engine as configured.

    ``cache_ram`` (MiB) has room for the contexts of ``cache_ram_tokens`` tokens by estimate; None where none is kept.
    """

    model: str
    engine: str
    slots: int
    context: int
    cache_ram: int
    cache_ram_tokens: int | None
    layouts: tuple[Layout, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "model": self.model,
            "engine": self.engine,
            "slots": self.slots,
            "context": self.context,
            "cache_ram_mib": self.cache_ram,
            "cache_ram_tokens": self.cache_ram_tokens,
            "layouts": [one.as_json() for one in self.layouts],
        }


@dataclass(frozen=True)
class Replay:
    """What is replayed: ``question`` by session and turn; ``numbers`` gives each replay a beginning of its own."""

    question: Callable[[int, int], str]
    turns: int
    max_tokens: int
    numbers: Iterator[int]
    say: Callable[[str], None]

    def session(self, rig: Rig, number: int, **body: Any) -> Session:
        """A new conversation."""
        return Session(rig.ready.root, number, self.max_tokens, {"cache_prompt": True} | body)


@dataclass
class Replayed:
    """What the requests of one replay took, and what was said: the replies for the other replay."""

    turns: list[Turn]
    replies: list[str]

    async def ask(self, session: Session, question: str, replies: Sequence[str]) -> None:
        """One turn; its reply is taken from ``replies`` where there are some."""
        turn, said = await session.turn(question, replies[len(self.turns)] if replies else None)
        self.turns.append(turn)
        self.replies.append(said)


def saved(before: int, after: int) -> float:
    """The share of tokens that is saved: below 0 where more are evaluated, 0 where there was nothing to save."""
    return 1 - after / before if before else 0.0


async def measure_context(
    loaded: LoadedConfig,
    name: str,
    texts: Sequence[str],
    turns: int,
    max_tokens: int,
    say: Callable[[str], None],
    emit: Emit,
) -> ContextReport:
    """Replay all layouts on a model; its engine is started three times.

    Args:
        loaded: The configuration.
        name: A model that this machine launches.
        texts: Questions of the user's; without any, made up ones.
        turns: Of each conversation.
        max_tokens: Of each reply.
        say: Gets a line at each step.
        emit: Gets what a download tells.

    Raises:
        DoesNotFit: there is no memory for it beside what runs.
        UsageError: the model writes no text.
        EndpointError: a conversation is longer than the model's context.
    """
    model = loaded.config.models[name]
    if model.embedding or model.rerank:
        raise UsageError(f"the model {name!r} writes no text: it holds no conversations", hint="name another role")
    replay = Replay(questions_of(texts), turns, max_tokens, itertools.count(FIRST_NUMBER), say)
    reuse = model.cache_reuse or REUSE

    def like(**changes: Any) -> LoadedConfig:
        return with_model(loaded, name, model.model_copy(update={"cache_reuse": None} | changes))

    say(f"{name}: one slot, no --cache-ram")
    async with started(like(slots=1, cache_ram=0), name, emit) as rig:
        alone = await _in_turn(rig, replay)
    say(f"{name}: as configured")
    async with started(like(), name, emit) as rig:
        layouts = await _as_configured(rig, replay, alone, model)
        edited = [await edit(rig, replay) for edit in (_dropped, _cleared)]
        fresh = await _long_or_fresh(rig, replay)
        held = await in_background(_tokens_held, rig)
        about = (name, rig.engine_version, rig.ready.slots, rig.ready.n_ctx, model.cache_ram, held)
    say(f"{name}: --cache-reuse {reuse}")
    async with started(like(cache_reuse=reuse), name, emit) as rig:
        dropped, cleared = [
            _layout(title, "--cache-reuse 0", f"--cache-reuse {reuse}", one, await edit(rig, replay, one.replies))
            for title, edit, one in zip(EDITS, (_dropped, _cleared), edited, strict=True)
        ]
    return ContextReport(*about, (*layouts, dropped, cleared, fresh))


def _tokens_held(rig: Rig) -> int | None:
    """Tokens whose KV cache --cache-ram has room for; None for a model that keeps none."""
    info = read_model_info(Path(rig.plan.file or ""))
    size = kv_bytes(info, replace(settings_of(rig.settings, info, rig.ready.slots), context=rig.ready.n_ctx))
    return int(rig.settings.cache_ram * MIB * rig.ready.n_ctx / size) if size else None


def _layout(name: str, before: str, after: str, one: Replayed, two: Replayed) -> Layout:
    return Layout(name, before, after, tuple(zip(one.turns, two.turns, strict=True)))


async def _as_configured(rig: Rig, replay: Replay, alone: Replayed, model: ModelConfig) -> list[Layout]:
    """The layouts that the engine serves as the fleet starts it."""
    off, on = "cache_prompt off", "cache_prompt on"
    replay.say(f"{rig.model}: one growing session")
    anew = await _growing(rig, replay, cache_prompt=False)
    kept = await _growing(rig, replay, anew.replies)
    replay.say(f"{rig.model}: new sessions")
    unlike = await _alike(rig, replay, cache_prompt=False)
    alike = await _alike(rig, replay, unlike.replies)
    replay.say(f"{rig.model}: two sessions in turn")
    free = await _in_turn(rig, replay, alone.replies)
    fleet = f"slots {rig.ready.slots}, --cache-ram {model.cache_ram}"
    found = [
        _layout("one growing session", off, on, anew, kept),
        _layout("new sessions with the same system prompt", off, on, unlike, alike),
        _layout("two sessions in turn", "slots 1, --cache-ram 0", fleet, alone, free),
    ]
    if rig.ready.slots > 1:
        bound = await _in_turn(rig, replay, free.replies, bind=True)
        found.append(_layout("two sessions in turn, each bound to a slot", "no id_slot", "id_slot", free, bound))
    return found


async def _growing(rig: Rig, replay: Replay, replies: Sequence[str] = (), **body: Any) -> Replayed:
    session = replay.session(rig, next(replay.numbers), **body)
    done = Replayed([], [])
    for turn in range(replay.turns):
        await done.ask(session, replay.question(0, turn), replies)
    return done


async def _alike(rig: Rig, replay: Replay, replies: Sequence[str] = (), **body: Any) -> Replayed:
    """Each turn is a session of its own; only the system prompt is the same."""
    number, done = next(replay.numbers), Replayed([], [])
    for turn in range(replay.turns):
        await done.ask(replay.session(rig, number, **body), replay.question(turn, 0), replies)
    return done


async def _in_turn(rig: Rig, replay: Replay, replies: Sequence[str] = (), *, bind: bool = False) -> Replayed:
    """Two sessions of one system prompt, a turn of the one and a turn of the other."""
    number, done = next(replay.numbers), Replayed([], [])
    slots = [{"id_slot": slot} if bind else {} for slot in range(2)]
    sessions = [replay.session(rig, number, **slot) for slot in slots]
    for turn, (place, session) in itertools.product(range(replay.turns), enumerate(sessions)):
        await done.ask(session, replay.question(place, turn), replies)
    return done


async def _dropped(rig: Rig, replay: Replay, replies: Sequence[str] = ()) -> Replayed:
    """From the third turn on, the oldest one is left out."""
    return await _edited(rig, replay, replies, lambda session, _: session.drop_oldest())


async def _cleared(rig: Rig, replay: Replay, replies: Sequence[str] = ()) -> Replayed:
    """From the third turn on, a note takes the place of the oldest question that is whole."""
    return await _edited(rig, replay, replies, lambda session, turn: session.clear(turn - KEPT_TURNS))


async def _edited(rig: Rig, replay: Replay, replies: Sequence[str], edit: Callable[[Session, int], None]) -> Replayed:
    session = replay.session(rig, next(replay.numbers))
    done = Replayed([], [])
    for turn in range(replay.turns):
        if turn >= KEPT_TURNS:
            edit(session, turn)
        await done.ask(session, replay.question(0, turn), replies)
    return done


async def _long_or_fresh(rig: Rig, replay: Replay) -> Layout:
    """Task after task in one session, or each in a session of its own that begins with a summary of those before.

    The request for the summary is part of what the task before it took.
    """
    replay.say(f"{rig.model}: task after task")
    long = await _growing(rig, replay)
    number, summary = next(replay.numbers), ""
    done = Replayed([], [])
    for turn in range(replay.turns):
        session = replay.session(rig, number)
        task = replay.question(0, turn)
        await done.ask(session, f"Done so far: {summary}\n\n{task}" if summary else task, ())
        if turn + 1 < replay.turns:
            summary = await _distil(session, done)
    return _layout("task after task", "one long session", "a fresh session each, with a summary", long, done)


async def _distil(session: Session, done: Replayed) -> str:
    request = [*session.messages, {"role": "user", "content": SUMMARISE}]
    extra, said = await send(session.root, request, session.max_tokens, session.body)
    last = done.turns[-1]
    done.turns[-1] = Turn(last.prompt_tokens, last.evaluated_tokens + extra.evaluated_tokens, last.first_token_seconds)
    return said
