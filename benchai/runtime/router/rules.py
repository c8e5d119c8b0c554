"""The routing of conversations by rules: what `benchai serve` does unless another router is plugged in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchai.runtime.router import speech
from benchai.runtime.router.conversation import Conversation, Exchange, conversation
from benchai.runtime.router.reading import CLEAR, Reading, begins_with, phrases_by_word, read, without_courtesy
from benchai.runtime.router.route import KEEP, Route, best_of, decide
from benchai.runtime.router.tables import Tables, tables

#: Characters of an earlier turn, and of a system prompt, that are searched, at each end.
EARLIER_HEAD, EARLIER_TAIL = 160, 80
#: Points that a system prompt adds to its intent: it tips a balance and decides nothing.
SYSTEM_POINTS = 0.5
#: A turn of more words asks for something of its own.
LONGEST_FOLLOW_UP = 40
#: A turn of so few words goes on from the one before, whatever it says.
SHORT = 3
#: Characters of an answer in which code is looked for, at each end.
_ANSWER = 2000
#: What a follow-up may say without being about something else.
_SLIGHT = frozenset(("small talk", "writing verb"))


class Router(Protocol):
    """Decides who answers a request; others than `Rules` plug in."""

    def route(self, messages: Sequence[Mapping[str, Any]], tools: bool = False) -> Route:
        """The route of a request.

        Args:
            messages: The conversation as it stands on OpenAI's wire; malformed messages must not raise.
            tools: Whether tools are offered with it.
        """
        ...


class Rules:
    """The default router: words, expressions and the turns before, by the tables.

    Deterministic and without side effects: the same messages get the same route.
    """

    def __init__(self, known: Tables | None = None) -> None:
        self._tables = known or tables()

    def route(self, messages: Sequence[Mapping[str, Any]], tools: bool = False) -> Route:
        """The route of a request, in this order.

        A tool's result that ends it goes back to the model that called (`KEEP`). A picture in one of the last three
        turns means vision. A clear intent of the last turn decides. A follow-up stays with the intent of the turns
        before. Else complexity decides, as in `benchai.runtime.router.route.route`.
        """
        said = conversation(messages)
        reading = read(said.text, self._tables)
        if said.result:
            return self._keep(said, reading)
        if said.picture is not None:
            return decide(reading, self._tables, image=said.picture)
        self._lean(said, reading)
        topic = self._topic(said.before) if said.before and _may_follow(reading) else None
        return decide(reading, self._tables, topic=topic, working=tools)

    def _keep(self, said: Conversation, reading: Reading) -> Route:
        """The route of the turn that the tool works for; only the role is that of the model that called."""
        under = decide(reading, self._tables, image=said.picture)
        why = "keep: a tool's result goes back to the model that called it"
        return under._replace(role=KEEP, reason=why)

    def _lean(self, said: Conversation, reading: Reading) -> None:
        if not said.system:
            return
        prompt = read(said.system, self._tables, head=EARLIER_HEAD, tail=EARLIER_TAIL)
        intent = best_of(prompt.scores)
        if intent != "general" and prompt.scores[intent] >= CLEAR:
            reading.add(intent, SYSTEM_POINTS, "system prompt")

    def _topic(self, before: Sequence[Exchange]) -> str | None:
        """What the turns before were about: the latest that says it clearly; None for what is general's anyway."""
        for exchange in before:
            asked = read(exchange.asked, self._tables, head=EARLIER_HEAD, tail=EARLIER_TAIL)
            intent = best_of(asked.scores)
            clear = asked.scores[intent] >= CLEAR
            if clear and intent not in {"general", "vision"}:
                return intent
            if "```" in exchange.answered[:_ANSWER] or "```" in exchange.answered[-_ANSWER:]:
                return "code"
            if clear and not _follows(asked):
                return None
        return None


def _may_follow(reading: Reading) -> bool:
    """Whether a turn may take its intent from those before: it has none of its own and refers to them."""
    intent = best_of(reading.scores)
    own = reading.scores[intent] >= CLEAR
    if own and (intent != "general" or not _SLIGHT.issuperset(reading.found[intent])):
        return False
    return _follows(reading)


def _follows(reading: Reading) -> bool:
    """Whether a turn goes on from the one before: it is short, joins on or refers to it, and is more than courtesy."""
    tokens = without_courtesy(reading.tokens)
    words = [token for token in tokens if token not in {";", ","}]
    if not words or len(words) > LONGEST_FOLLOW_UP or _holds(tokens, phrases_by_word(speech.TURNING)):
        return False
    if len(words) <= SHORT or begins_with(tokens, phrases_by_word(speech.JOINING)):
        return True
    return _holds(tokens, phrases_by_word(speech.REFERRING))


def _holds(tokens: list[str], known: Mapping[str, tuple[tuple[str, ...], ...]]) -> bool:
    return any(
        tuple(tokens[index : index + len(words)]) == words
        for index, token in enumerate(tokens)
        for words in known.get(token, ())
    )
