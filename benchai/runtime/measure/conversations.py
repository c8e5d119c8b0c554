"""Conversations that are replayed to see what of a prompt an engine evaluates again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchai.errors import EndpointError, EndpointLost
from benchai.runtime.measure.request import Sample, ask

Message = dict[str, Any]
LOG_LINES = 6
CLEARED = "(cleared: call again if you need it)"
SUMMARISE = "Sum up in two sentences what was found, for somebody who goes on with another task."
_RULES = (
    "You help to run a fleet of model servers. Work in small steps and say what you found before what you conclude. "
    "Read the log first, name the line that matters, and quote it. If a figure is not in the log, say so. "
    "Never guess an exit code: -9 means that the kernel or a person killed the process, -11 that it crashed. "
    "Propose one change at a time, the cheapest to undo first. Answer in plain sentences without a preamble."
)


@dataclass(frozen=True)
class Turn:
    """One request: the tokens of its prompt, those of them that were evaluated, seconds to the first token."""

    prompt_tokens: int
    evaluated_tokens: int
    first_token_seconds: float


@dataclass
class Session:
    """A conversation that grows: each turn adds a question and the reply to it.

    ``number`` stands at the beginning of the system prompt, so that no earlier measurement's cache is met.
    """

    root: str
    number: int
    max_tokens: int
    body: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = [{"role": "system", "content": f"Fleet {self.number}. {_RULES}"}]

    async def turn(self, question: str, reply: str | None = None) -> tuple[Turn, str]:
        """Ask, and remember the reply, or the given one in its place. Returns what it took, and what was said."""
        self.messages.append({"role": "user", "content": question})
        turn, said = await send(self.root, self.messages, self.max_tokens, self.body)
        self.messages.append({"role": "assistant", "content": said if reply is None else reply})
        return turn, said

    def clear(self, turn: int) -> None:
        """Put a note in the place of the question of a turn (from 0), as a compaction does with old results."""
        self.messages[1 + 2 * turn]["content"] = CLEARED

    def drop_oldest(self) -> None:
        """Leave out the oldest question and its reply, as a client does that keeps the last turns only."""
        del self.messages[1:3]


async def send(root: str, messages: Sequence[Message], max_tokens: int, body: dict[str, Any]) -> tuple[Turn, str]:
    """One request.

    Raises:
        EndpointError: the engine refused it; most likely the conversation is too long for its context.
    """
    try:
        sample = await ask(root, messages, max_tokens, **body)
    except EndpointLost:
        raise
    except EndpointError as error:
        hint = "fewer --turns, a smaller --max-tokens or a larger models.*.context"
        raise EndpointError(error.message, hint=hint) from error
    return turn_of(sample), sample.text


def turn_of(sample: Sample) -> Turn:
    """What a request took."""
    return Turn(sample.prompt_tokens + sample.cached_tokens, sample.prompt_tokens, sample.first_token)


def log_question(session: int, turn: int) -> str:
    """A question with a log in it, another one for each session and turn."""
    lines = [
        f"worker-{session}-{line}: job {37 * turn + 11 * line + session} ended after {90 + 7 * line * (turn + 1)} ms"
        for line in range(LOG_LINES)
    ]
    return "\n".join([f"Step {turn + 1} of report {session + 1}: which job was slow, and why?", *lines])


def questions_of(texts: Sequence[str]) -> Callable[[int, int], str]:
    """Questions by session and turn: the user's prompts, beginning at another one in each session, or logs."""
    if not texts:
        return log_question
    return lambda session, turn: texts[(session + turn) % len(texts)]
