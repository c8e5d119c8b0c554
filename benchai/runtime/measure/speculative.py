"""Speculative decoding, measured: a model with and without drafting, in turns on the same prompts.

Drafting pays where the drafts are mostly right and checking several tokens at once costs little more than making one
(Leviathan, Kalman, Matias 2023). Neither is known before it is measured on the user's own prompts and machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchai.config import LoadedConfig, ModelConfig, paths
from benchai.config.models import BUILTIN, DraftConfig
from benchai.errors import DoesNotFit, UsageError
from benchai.runtime.background import in_background
from benchai.runtime.fleet.preflight import find_file
from benchai.runtime.measure.paired import LEAST_PAIRS, Ratio, compare
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.measure.request import Sample, ask
from benchai.runtime.measure.rig import Rig, started, with_model
from benchai.runtime.placement.vocabulary import check_draft

Verdict = Literal["faster", "slower", "differs", "unused", "undecided"]
Progress = Callable[[int, int], None]
WARM_UP = [{"role": "user", "content": "Hello"}]
WARM_UP_TOKENS = 4
# a request must not find the prompt of the one before it in the KV cache
_ANEW: dict[str, Any] = {"cache_prompt": False}
_OWN_FLAGS = ("--spec-", "-md", "--model-draft")


@dataclass(frozen=True)
class Pair:
    """The replies to one prompt (its place in the list): of the plain engine, and of the one that drafts."""

    prompt: int
    plain: Sample
    drafting: Sample


@dataclass(frozen=True)
class Comparison:
    """What was measured; MiB by device. ``together``: both engines were up at once, else each in its turn."""

    engine: str
    together: bool
    plain_mib: dict[str, int]
    drafting_mib: dict[str, int]
    pairs: tuple[Pair, ...]

    @property
    def ratio(self) -> Ratio:
        """Seconds for each token of the whole request, drafting / plain."""
        return compare([_cost(one.plain) for one in self.pairs], [_cost(one.drafting) for one in self.pairs])

    @property
    def drafted(self) -> int:
        """Tokens that were proposed."""
        return sum(one.drafting.drafted for one in self.pairs)

    @property
    def accepted(self) -> int:
        """Tokens among them that the model would have written itself."""
        return sum(one.drafting.accepted for one in self.pairs)

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that stood; 0 where none was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def differing(self) -> list[int]:
        """The prompts, counted from 1, to which both replied differently at least once."""
        return sorted({one.prompt + 1 for one in self.pairs if one.plain.text != one.drafting.text})

    @property
    def steady(self) -> bool:
        """Whether the plain engine gave the same reply to the same prompt each time."""
        first: dict[int, str] = {}
        return all(first.setdefault(one.prompt, one.plain.text) == one.plain.text for one in self.pairs)

    @property
    def repeated(self) -> bool:
        """Whether the plain engine was asked again where replies differ: else nobody knows whether it is steady."""
        asked = Counter(one.prompt + 1 for one in self.pairs)
        return all(asked[prompt] > 1 for prompt in self.differing)

    @property
    def verdict(self) -> Verdict:
        """What follows; replies that differ count only where the plain engine is steady itself."""
        if not self.drafted:
            return "unused"
        if self.differing and self.steady:
            return "differs" if self.repeated else "undecided"
        if self.ratio.better:
            return "faster"
        return "slower" if self.ratio.worse else "undecided"

    def as_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "engine": self.engine,
            "together": self.together,
            "pairs": len(self.pairs),
            "plain": _side([one.plain for one in self.pairs], self.plain_mib),
            "drafting": _side([one.drafting for one in self.pairs], self.drafting_mib),
            "drafted_tokens": self.drafted,
            "accepted_tokens": self.accepted,
            "acceptance": self.acceptance,
            "time_ratio": {key: value for key, value in asdict(self.ratio).items() if key != "pairs"},
            "identical": not self.differing,
            "differing_prompts": self.differing,
            "plain_steady": self.steady,
            "verdict": self.verdict,
        }


def _cost(sample: Sample) -> float:
    return sample.seconds / max(sample.generated_tokens, 1)


def _side(samples: Sequence[Sample], held: dict[str, int]) -> dict[str, Any]:
    # the engine tells no time for the first token: a reply of one has none
    timed = [one for one in samples if one.generated_tokens > 1]
    seconds = sum(one.generation_seconds for one in timed)
    return {
        "generated_tokens": sum(one.generated_tokens for one in samples),
        "generation_tokens_per_second": sum(one.generated_tokens for one in timed) / seconds if seconds else None,
        "request_seconds": sum(one.seconds for one in samples),
        "memory_mib": held,
    }


def plain(model: ModelConfig) -> ModelConfig:
    """The settings without any drafting."""
    return model.model_copy(update={"draft": None, "ngram": False})


def drafting(model: ModelConfig, draft: str | None, ngram: bool) -> ModelConfig:
    """The settings to measure: what is asked for, else what is configured, else drafting from n-grams.

    Args:
        model: The settings as configured.
        draft: The draft model's GGUF to measure.
        ngram: Whether to measure drafting from n-grams.

    Raises:
        UsageError: the model writes no text, or its ``extra_args`` ask for drafting.
    """
    _refuse_unmeasurable(model)
    if draft is None and not ngram:
        return model if model.draft or model.ngram else model.model_copy(update={"ngram": True})
    sizes = model.draft or DraftConfig(file="")
    named = None if draft is None else sizes.model_copy(update={"file": _found(draft)})
    return model.model_copy(update={"draft": named, "ngram": ngram and (model.ngram or True)})


def _refuse_unmeasurable(model: ModelConfig) -> None:
    if model.embedding or model.rerank:
        kind = "embeddings" if model.embedding else "reranking"
        raise UsageError(f"the model serves {kind}: it writes no text that could be drafted", hint="name another role")
    own = next((flag for flag in model.extra_args if flag.startswith(_OWN_FLAGS)), None)
    if own is not None:
        hint = "say it with draft: or ngram: instead"
        raise UsageError(f"extra_args hold {own!r}: there would be drafting on both sides", hint=hint)


def _found(file: str) -> str:
    """A path as a shell means it, if there is such a file, else as benchai.yaml means it."""
    path = paths.expand(file)
    return str(path.absolute()) if not file.startswith(BUILTIN) and paths.is_file(path) else file


def change(configured: ModelConfig, wanted: ModelConfig, verdict: Verdict) -> dict[str, Any]:
    """The keys of the model to change, as ``config.edit.write_edit`` takes them; empty where all stays.

    What loses is switched off, with a draft that is never used, and what wins is switched on; but not in the place
    of another kind of drafting, against which it was not measured.
    """
    is_on = bool(configured.draft or configured.ngram)
    keys = [key for key in ("draft", "ngram") if getattr(wanted, key)]
    if is_on and configured == wanted:
        lost = verdict in ("slower", "differs") or (verdict == "unused" and wanted.draft is not None)
        return dict.fromkeys(keys) if lost else {}
    if is_on or verdict != "faster":
        return {}
    return {key: _value(getattr(wanted, key)) for key in keys}


def _value(setting: Any) -> Any:
    return setting if isinstance(setting, bool) else setting.model_dump(exclude_defaults=True)


async def measure(
    loaded: LoadedConfig,
    name: str,
    wanted: ModelConfig,
    prompts: Prompts,
    *,
    repeats: int,
    max_tokens: int,
    at_once: bool = True,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Measure a model without drafting and with the settings ``wanted``, at temperature 0.

    Args:
        loaded: The configuration.
        name: The model.
        wanted: Its settings with drafting.
        prompts: What is asked.
        repeats: How often.
        max_tokens: Tokens of a reply at most.
        at_once: Both engines are up at once where memory allows that; else each in its turn.
        progress: Is told how many rounds of how many are done.

    Raises:
        ModelFileError: a file is missing or damaged, or the draft has another vocabulary; no engine was started.
        DoesNotFit: the memory does not do for one engine.
        EngineError: the engine does not start.
        EndpointError: it refuses a request.
    """
    await _check(loaded, name, wanted)
    slots, names = loaded.config.slots_of(name), (f"{name}.plain", f"{name}.drafting")
    for alias, settings in zip(names, (plain(wanted), wanted), strict=True):
        loaded = with_model(loaded, alias, settings.model_copy(update={"slots": slots}))
    bed = _Bed(loaded, names, prompts, max_tokens)
    if not at_once:
        return await bed.in_turns(repeats, progress)
    try:
        # from n-grams an engine drafts what it wrote in earlier rounds: each has to begin without that memory
        return await bed.together(repeats, 1 if wanted.ngram else repeats, progress)
    except DoesNotFit:
        return await bed.in_turns(repeats, progress)


async def _check(loaded: LoadedConfig, name: str, wanted: ModelConfig) -> None:
    file = await find_file(loaded, name, lambda event: None)
    if wanted.draft is not None:
        await in_background(check_draft, file, loaded.resolve(wanted.draft.file), f"models.{name}")


@dataclass(frozen=True)
class _Bed:
    """The two engines and what they are asked; ``names`` are the plain one's and the drafting one's."""

    loaded: LoadedConfig
    names: tuple[str, str]
    prompts: Prompts
    max_tokens: int

    async def together(self, repeats: int, each: int, progress: Progress) -> Comparison:
        """Both at once, started anew after ``each`` rounds.

        Raises:
            DoesNotFit: not both do at once, or only on different devices.
        """
        pairs: list[Pair] = []
        for done in range(0, repeats, each):
            async with (
                started(self.loaded, self.names[0]) as old,
                started(self.loaded, self.names[1], beside=old.claim) as new,
            ):
                await _warm_up(old, new)
                for number in range(done, min(done + each, repeats)):
                    pairs += [await self._pair(old, new, place, number) for place in range(len(self.prompts.messages))]
                    progress(number + 1, repeats)
                figures = (old.engine_version, True, old.memory_mib(), new.memory_mib())
        return Comparison(*figures, tuple(pairs))

    async def in_turns(self, repeats: int, progress: Progress) -> Comparison:
        """One after the other, in each round."""
        pairs: list[Pair] = []
        for number in range(repeats):
            # who goes first changes here as well
            order = 1 if number % 2 == 0 else -1
            sides = [await self._alone(name) for name in self.names[::order]]
            (old, version, old_mib), (new, _, new_mib) = sides[::order]
            pairs += [Pair(place, *one) for place, one in enumerate(zip(old, new, strict=True))]
            progress(number + 1, repeats)
        return Comparison(version, False, old_mib, new_mib, tuple(pairs))

    async def _alone(self, name: str) -> tuple[list[Sample], str, dict[str, int]]:
        async with started(self.loaded, name) as rig:
            await _warm_up(rig)
            samples = [await self._ask(rig, place) for place in range(len(self.prompts.messages))]
            return samples, rig.engine_version, rig.memory_mib()

    async def _pair(self, old: Rig, new: Rig, place: int, number: int) -> Pair:
        # who goes first changes: what the machine does slowly more or less of meets both
        if (place + number) % 2:
            after = await self._ask(new, place)
            return Pair(place, await self._ask(old, place), after)
        return Pair(place, await self._ask(old, place), await self._ask(new, place))

    async def _ask(self, rig: Rig, place: int) -> Sample:
        return await ask(rig.ready.root, self.prompts.messages[place], self.max_tokens, **_ANEW)


async def _warm_up(*rigs: Rig) -> None:
    for rig in rigs:
        await ask(rig.ready.root, WARM_UP, WARM_UP_TOKENS, **_ANEW)


def sentence(found: Comparison, wanted: ModelConfig) -> str:
    """The verdict in words."""
    ratio = found.ratio
    span = f"{ratio.median:.2f} of the time ({ratio.low:.2f} to {ratio.high:.2f})"
    if found.verdict == "unused":
        why = "the draft was never used" if wanted.draft else "the text repeats too little for n-grams"
        return f"nothing was drafted: {why}"
    if found.verdict == "differs":
        which = ", ".join(map(str, found.differing))
        return f"the replies differ (prompts {which}): drafting changes what the model writes here"
    if found.verdict == "undecided" and found.differing and found.steady:
        return "replies differ, and each was asked for once: more --repeats tell whether drafting is the reason"
    if found.verdict == "undecided":
        few = f"; fewer than {LEAST_PAIRS} pairs say nothing" if ratio.pairs < LEAST_PAIRS else ""
        return f"no difference beyond the noise: {span}{few}"
    return f"drafting is {found.verdict}: {span}"
