"""How well a model predicts a text: its perplexity, through the endpoints of an engine that serves it.

An engine tells the probabilities of the tokens that it generates, not those of a prompt (llama-server b11434; asked
for in llama.cpp #27174). So the tokens of the text are forced on it, by a grammar of token ids. The probabilities that
come back are the model's own: they are taken from the logits before sampling (populate_token_probs in
server-context.cpp). An engine that knows no such grammar is asked for one token at a time, under a bias.

The text is cut as llama-perplexity cuts it, and the figures are the same: windows of 512 tokens that begin with the
vocabulary's BOS, of which the second half counts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchai.errors import EndpointError, EndpointLost, UsageError
from benchai.runtime.http import local_client
from benchai.runtime.measure.request import message_of

WINDOW = 512
"""Tokens of a window: the default of llama-perplexity."""
TOKENS = 512
"""Tokens that count, where nothing else is asked for."""
LEAST_TOKENS = 32
"""Fewer say nothing."""
SAMPLE = Path(__file__).with_name("sample.txt")
"""The text for who has none: prose, code, a conversation, data."""

# tokens forced by one request: often enough for a progress bar, seldom enough that HTTP costs little
PIECE = 32
# seconds for one piece: a large model on a slow CPU
PATIENCE = 900.0
# a text has more characters than that for each token only if the vocabulary was made for it
_CHARACTERS = 16
# ln of the smallest float above 0: the engine computes in float, and tells a probability of 0 as the lowest number
_LEAST = math.log(2.0**-149)
# tokens of a list in which one is looked for: what is likely, then all that a vocabulary may have
_LISTS = (500, 2**20)
SPARE = 8
"""Places of a context that stay free behind a window."""
# of a normal distribution: 95 %
_SIGMAS = 1.96

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Window:
    """A stretch of a text: ``targets`` are to be predicted, one after the other, behind ``context``; token ids."""

    context: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Perplexity:
    """What a model makes of a text: ``ln p`` of each token that counts, in the order of the text."""

    logprobs: tuple[float, ...]

    @property
    def value(self) -> float:
        """The perplexity: among so many equally likely tokens the model chooses; 1 is certainty."""
        return math.exp(-math.fsum(self.logprobs) / len(self.logprobs))

    @property
    def error(self) -> float:
        """The standard error of ``value``, as llama-perplexity tells it."""
        return self.value * _standard_error(self.logprobs)


@dataclass(frozen=True)
class Change:
    """``after / before`` of the perplexities of one text, and the interval that holds it (95 %)."""

    ratio: float
    low: float
    high: float

    @property
    def percent(self) -> float:
        """By how much the perplexity rises, in %; below 0 it falls."""
        return 100 * (self.ratio - 1)


def change(before: Perplexity, after: Perplexity) -> Change:
    """Compare two models of one vocabulary on one text, token by token.

    What makes a token hard is hard for both: the error of the difference is far below that of either perplexity.

    Raises:
        ValueError: they have not the same number of tokens.
    """
    pairs = zip(before.logprobs, after.logprobs, strict=True)
    lost = [old - new for old, new in pairs]
    mean, spread = math.fsum(lost) / len(lost), _SIGMAS * _standard_error(lost)
    return Change(math.exp(mean), math.exp(mean - spread), math.exp(mean + spread))


def _standard_error(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return math.sqrt(variance / max(len(values) - 1, 1))


def cut(text: Sequence[int], bos: int | None, tokens: int, window: int = WINDOW) -> list[Window]:
    """The windows of a text in which ``tokens`` count, or as many as there are.

    Args:
        text: The tokens of the text, without BOS.
        bos: What every window begins with, where the vocabulary has it so.
        tokens: How many are to count.
        window: Tokens of a window.
    """
    whole = [*([] if bos is None else [bos]), *text]
    size = min(window, len(whole))
    first = size // 2 + 1
    found: list[Window] = []
    for start in range(0, len(whole) - size + 1, max(size, 1)):
        wanted = min(tokens - sum(len(one.targets) for one in found), size - first)
        if wanted <= 0:
            break
        part = (*([] if bos is None else [bos]), *whole[start + (bos is not None) : start + size])
        found.append(Window(part[:first], part[first : first + wanted]))
    return found


def read_text(file: Path | None) -> tuple[str, str]:
    """A text and where it came from: a file of the user's, or the bundled one without.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, or is empty.
    """
    try:
        text = (SAMPLE if file is None else file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        hint = "give a text file in UTF-8"
        raise UsageError(f"the text {str(file)!r} cannot be read: {error}", hint=hint) from error
    if "\0" in text:
        raise UsageError(f"the text {str(file)!r} holds zero bytes", hint="give a text file in UTF-8")
    if not text.strip():
        raise UsageError(f"the text {str(file)!r} is empty", hint="give one of some pages")
    return text, "bundled text" if file is None else str(file)


async def perplexity(
    root: str, text: str, tokens: int = TOKENS, *, window: int = WINDOW, told: Told = lambda done, total: None
) -> Perplexity:
    """The perplexity of a text under the model that an engine serves; nothing else may ask the engine meanwhile.

    Args:
        root: The engine's address without ``/v1``.
        text: About ``2 * tokens`` tokens are read of it: the first half of each window counts for nothing.
        tokens: How many tokens are to count; fewer do where the text is short.
        window: Tokens of a window; the context of the engine bounds it.
        told: Called with the tokens that are done, and all of them.

    Raises:
        UsageError: the text is too short.
        EndpointError: the engine refused, or tells no probabilities.
        EndpointLost: it went away.
    """
    try:
        async with local_client(base_url=root, timeout=httpx.Timeout(PATIENCE)) as client:
            return await _Measurement(client, told).run(text, tokens, window)
    except httpx.HTTPError as error:
        raise EndpointLost(f"the engine at {root} broke off: {error!r}", hint="see its log") from error


class _Measurement:
    """One text on one engine: its slots share the windows, so that an engine decodes several at once."""

    def __init__(self, client: httpx.AsyncClient, told: Told) -> None:
        self._client, self._told = client, told
        self._done = self._total = 0
        self._by_grammar = True
        self._letter: int | None = None

    async def run(self, text: str, tokens: int, window: int) -> Perplexity:
        props = await self._get("/props")
        room = int(props["default_generation_settings"]["n_ctx"])
        window = min(window, room - SPARE)
        windows = await self._windows(text, tokens, window)
        self._total = sum(len(one.targets) for one in windows)
        if self._total < min(tokens, LEAST_TOKENS):
            hint = f"give a text of some pages: half of every {window} tokens counts"
            raise UsageError(f"the text is too short: {self._total} of its tokens would count", hint=hint)
        scores: dict[int, list[float]] = {}
        queue = iter(enumerate(windows))
        # with a unified KV cache the context is all that the slots have together
        slots = max(min(int(props["total_slots"]), room // window), 1)
        await asyncio.gather(*(self._work(queue, slot, scores) for slot in range(slots)))
        return Perplexity(tuple(score for number in sorted(scores) for score in scores[number]))

    async def _windows(self, text: str, tokens: int, window: int) -> list[Window]:
        # what is not used need not be cut into tokens
        ids = await self._tokens(text[: _CHARACTERS * (2 * tokens + 2 * window)])
        plain, special = await self._tokens("a"), await self._tokens("a", add_special=True)
        bos = special[0] if special[:1] != plain[:1] else None
        return cut(ids, bos, tokens, window)

    async def _tokens(self, text: str, add_special: bool = False) -> list[int]:
        # control tokens that the text spells out are text
        body = {"content": text, "add_special": add_special, "parse_special": False}
        answer = await self._client.post("/tokenize", json=body)
        _checked(answer)
        return [int(one) for one in answer.json()["tokens"]]

    async def _get(self, path: str) -> Mapping[str, Any]:
        answer = await self._client.get(path)
        _checked(answer)
        found: Mapping[str, Any] = answer.json()
        return found

    async def _work(self, queue: Iterator[tuple[int, Window]], slot: int, scores: dict[int, list[float]]) -> None:
        for number, window in queue:
            row: list[float] = []
            while len(row) < len(window.targets):
                targets = window.targets[len(row) : len(row) + PIECE]
                row += await self._scores([*window.context, *window.targets[: len(row)]], targets, slot)
                self._done += len(targets)
                self._told(self._done, self._total)
            scores[number] = row

    async def _scores(self, context: list[int], targets: Sequence[int], slot: int) -> list[float]:
        """``ln p`` of each target behind what stands before it."""
        if self._by_grammar:
            found = await self._forced(context, targets, slot, grammar=_grammar(targets))
            if found is not None:
                return found
        return [await self._one(context + list(targets[:at]), target, slot) for at, target in enumerate(targets)]

    async def _one(self, context: list[int], target: int, slot: int) -> float:
        found = await self._forced(context, [target], slot, logit_bias=[[target, 1e6]])
        return found[0] if found is not None else await self._among(context, target, slot)

    async def _among(self, context: list[int], target: int, slot: int) -> float:
        """``ln p`` of one target from the list of all tokens.

        A token that ends within a character is told of only so: as one of those that another could have been (the
        text waits for whole characters, process_token in server-context.cpp).
        """
        if self._letter is None:
            self._letter = (await self._tokens("a"))[-1]
        for many in _LISTS:
            body = {"prompt": context, "n_predict": 1, "n_probs": many, "temperature": 0, "cache_prompt": True}
            forced = {"id_slot": slot, "logit_bias": [[self._letter, 1e6]]}
            answer = await self._client.post("/completion", json=body | forced)
            _checked(answer)
            told = [row for one in answer.json().get("completion_probabilities", []) for row in one["top_logprobs"]]
            for row in told:
                if row["id"] == target:
                    return max(float(row["logprob"]), _LEAST)
        raise EndpointError("the engine tells no probabilities of tokens", hint="use a newer llama-server")

    async def _forced(self, context: list[int], targets: Sequence[int], slot: int, **by: Any) -> list[float] | None:
        """``ln p`` of the targets; None where the engine can't be brought to write them."""
        body = {"prompt": context, "n_predict": len(targets), "n_probs": 1, "temperature": 0, "cache_prompt": True}
        answer = await self._client.post("/completion", json=body | {"id_slot": slot} | by)
        if answer.status_code != httpx.codes.OK and "grammar" in by:
            # it knows no such grammar at all; or a token here is a part of a character, of which a grammar wants wholes
            self._by_grammar = answer.status_code != httpx.codes.BAD_REQUEST
            return None
        _checked(answer)
        told = answer.json().get("completion_probabilities", [])
        if [one.get("id") for one in told] != list(targets):
            return None
        return [max(float(one["logprob"]), _LEAST) for one in told]


def _grammar(targets: Sequence[int]) -> str:
    # llama.cpp grammars/README.md, "Tokens"
    return "root ::= " + " ".join(f"<[{target}]>" for target in targets)


def _checked(answer: httpx.Response) -> None:
    if answer.status_code != httpx.codes.OK:
        told = f"the engine refused: {message_of(answer.content)}"
        raise EndpointError(told, hint="a model that writes text is needed")
