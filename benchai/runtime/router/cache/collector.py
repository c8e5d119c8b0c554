"""Puts a whole reply together from the bytes of a stream as they pass."""

from __future__ import annotations

from typing import Any

import orjson

from benchai.runtime.router.cache.chunks import COMMON, ENDINGS, WHOLE
from benchai.runtime.router.cache.tally import Tally, usage_of
from benchai.runtime.sse import DONE, Events

#: A whole reply of /v1/completions, as it names itself.
TEXT = "text_completion"
#: Bytes of a stream that are collected at most.
CAP = 4 * 1024 * 1024
# of what does not come in pieces, the last is right
_REPLACED = ("role", "finish_reason", "id", "type", "name")


class _GiveUp(Exception):
    """The stream holds what can't be put together without doubt."""


class _Pieces(list[str]):
    """A text that came in pieces."""


class _Choice:
    """One choice as it comes: of a text completion it has no message."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.message: dict[str, Any] = {}
        self.calls: dict[int, dict[str, Any]] = {}

    @property
    def finish_reason(self) -> str | None:
        found = self.fields.get("finish_reason")
        return found if isinstance(found, str) else None

    def add(self, choice: dict[str, Any]) -> None:
        delta = choice.pop("delta", None) or {}
        calls = delta.pop("tool_calls", None) or ()
        if "function_call" in delta:
            raise _GiveUp("the outdated form of a call")
        _merge(self.fields, choice)
        _merge(self.message, delta)
        for call in calls:
            self._add_call(call)

    def _add_call(self, call: dict[str, Any]) -> None:
        known = self.calls.setdefault(call.pop("index"), {})
        for name in ("id", "type"):
            if known.get(name) and call.get(name) not in (None, "", known[name]):
                raise _GiveUp("two calls of one number")
        if _name(known) and _name(call):
            # a repetition, or a further piece of the name: nobody can tell
            raise _GiveUp("a call is named twice")
        _merge(known, call)

    def whole(self, index: int) -> dict[str, Any]:
        choice: dict[str, Any] = _whole(self.fields) | {"index": index}
        if "text" in choice:
            return choice
        message = _whole(self.message)
        if self.calls:
            message["tool_calls"] = [_whole(self.calls[number]) for number in sorted(self.calls)]
        return choice | {"message": message}


class Collector:
    """Reads one stream of completion chunks, of a chat or of a text, cut into pieces anywhere.

    It never fails: what it does not understand, more than ``choices`` choices, an error in the stream and more bytes
    than ``cap`` make it give up, and there is no reply then. With a ``tally`` the usage is what that says.
    """

    def __init__(self, cap: int = CAP, choices: int = 1, tally: Tally | None = None) -> None:
        self._tally = tally
        self._left = cap
        self._most = choices
        self._events = Events()
        self._reply: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self.done = False
        self.gave_up: str | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the stream."""
        if self.gave_up is not None or self.done:
            return
        self._left -= len(piece)
        if self._left < 0:
            self._give_up("too long")
            return
        try:
            for data in self._events.feed(piece):
                self._event(data)
        except (_GiveUp, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            self._give_up(f"not understood: {error}")

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage that the stream told, or that follows from llama.cpp's timings; None while it is not known."""
        if self._tally is not None:
            return self._tally.usage
        usage = self._reply.get("usage")
        return usage if isinstance(usage, dict) else usage_of(self._reply.get("timings"))

    @property
    def finish_reason(self) -> str | None:
        """How the reply ended, that of the first choice; None while a choice has not."""
        ends = [self._choices[index].finish_reason for index in sorted(self._choices)]
        return ends[0] if all(ends) and ends else None

    def reply(self) -> dict[str, Any] | None:
        """``whole`` of a reply that came to a regular end; None of one that was cut."""
        return self.whole() if self.finish_reason in ENDINGS else None

    def whole(self) -> dict[str, Any] | None:
        """The whole reply, in the form of one that was not streamed.

        None unless the stream came to its end mark, and the reply to an end, whichever that was.
        """
        if not self.done or self.gave_up is not None or self.finish_reason is None:
            return None
        choices = [self._choices[index].whole(index) for index in sorted(self._choices)]
        reply: dict[str, Any] = _whole(self._reply) | {"object": TEXT if "text" in choices[0] else WHOLE}
        reply["choices"] = choices
        reply.pop("usage", None)
        return reply if self.usage is None else reply | {"usage": self.usage}

    def _give_up(self, why: str) -> None:
        self.gave_up = why
        self._events = Events()
        self._reply, self._choices = {}, {}

    def _event(self, data: bytes) -> None:
        if self.done:
            return
        if data.strip() == DONE:
            self.done = True
            return
        chunk = orjson.loads(data)
        if chunk is None:
            # llama-server begins a stream of several prompts with it
            return
        if chunk.get("error") is not None:
            raise _GiveUp("an error")
        if self._tally is not None:
            self._tally.take(chunk)
        choices = chunk.pop("choices", None) or ()
        chunk.pop("object", None)
        for name in [name for name, value in chunk.items() if value is None and name in self._reply]:
            del chunk[name]
        self._reply |= {name: value for name, value in chunk.items() if name not in COMMON or name not in self._reply}
        for choice in choices:
            self._add_choice(choice)

    def _add_choice(self, choice: dict[str, Any]) -> None:
        index = choice.pop("index", 0)
        if not isinstance(index, int) or not 0 <= index < self._most:
            raise _GiveUp("several choices")
        self._choices.setdefault(index, _Choice()).add(choice)


def _name(call: dict[str, Any]) -> Any:
    return (call.get("function") or {}).get("name")


def _merge(known: dict[str, Any], news: dict[str, Any]) -> None:
    """Add what came: texts and lists go on, objects are merged, anything else is replaced; null changes nothing."""
    for name, value in news.items():
        before = known.get(name)
        if value is None or (value == "" and name in _REPLACED):
            known.setdefault(name, value)
        elif isinstance(value, str) and name not in _REPLACED:
            _add_text(known, name, value)
        elif isinstance(value, dict):
            if not isinstance(before, dict):
                before = known[name] = {}
            _merge(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            before.extend(_checked(value))
        else:
            known[name] = _checked(value)


def _add_text(known: dict[str, Any], name: str, text: str) -> None:
    before = known.get(name)
    if isinstance(before, _Pieces):
        before.append(text)
    else:
        known[name] = _Pieces([text])


def _whole(value: Any) -> Any:
    """A value with its texts joined."""
    if isinstance(value, _Pieces):
        return "".join(value)
    return {name: _whole(one) for name, one in value.items()} if isinstance(value, dict) else value


def _checked(value: Any) -> Any:
    """Lists whose entries are numbered come in pieces that only their own kind of client can join."""
    if isinstance(value, list) and any(isinstance(one, dict) and "index" in one for one in value):
        raise _GiveUp("a numbered list")
    return value
