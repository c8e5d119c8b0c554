"""What a conversation on OpenAI's wire holds that matters for routing.

Messages are as clients send them, and nothing raises. Only the last messages are looked at, and only the ends of long
texts, so the time does not grow with the conversation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

#: Turns of the user in which a picture means vision: the last one and the two before it.
PICTURE_TURNS = 3
#: Turns before the last one in which the topic of a follow-up is looked for.
TOPIC_TURNS = 3
#: Messages looked at in all, from the last one back.
LOOK_BACK = 64
#: Parts of one message that are looked at, at each end.
PARTS = 16

_TEXT = frozenset(("text", "input_text", "output_text"))
_PICTURE = frozenset(("image_url", "image", "input_image"))
_RESULT = frozenset(("tool", "function"))
_ASIDE = frozenset(("system", "developer"))
_EMPTY: Mapping[str, Any] = {}


class Exchange(NamedTuple):
    """A turn of the user and what the assistant answered, as far as it was looked at."""

    asked: str
    answered: str


class Conversation(NamedTuple):
    """The end of a conversation.

    ``text`` is the user's last turn, ``result`` whether a tool's result ends it, ``picture`` where a picture is, in
    words, ``before`` the exchanges before the last turn, the latest first, ``system`` the first system prompt.
    """

    text: str
    result: bool
    picture: str | None
    before: tuple[Exchange, ...]
    system: str


def conversation(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """The end of a conversation; whatever is no message counts as an empty one."""
    if not isinstance(messages, list | tuple):
        messages = ()
    if len(messages) == 1 and (only := _only(messages[0])) is not None:
        return only
    turns = _turns(messages)
    last = turns[0] if turns else 0
    text = text_of(messages[last]) if turns else ""
    return Conversation(
        text, _ends_in_result(messages), _picture(messages, turns), _before(messages, turns), _system(messages)
    )


def _only(message: Any) -> Conversation | None:
    """A conversation of one plain message of the user, as most first requests are; None for any other."""
    if type(message) is not dict or message.get("role") != "user":
        return None
    content = message.get("content")
    return Conversation(content, False, None, (), "") if type(content) is str else None


def text_of(message: Any) -> str:
    """The text of a message; of many parts only the first and the last ones."""
    content = _get(message, "content")
    if isinstance(content, str):
        return content
    return "\n".join(_texts(content))


def has_picture(message: Any) -> bool:
    """Whether a message holds a picture."""
    return any(_get(part, "type") in _PICTURE for part in _parts(_get(message, "content")))


def pictures_in(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any message holds a picture, however old: a model that can't see refuses the whole request."""
    return isinstance(messages, list | tuple) and any(has_picture(message) for message in messages)


def _get(message: Any, key: str) -> Any:
    if type(message) is not dict and not isinstance(message, Mapping):
        return None
    found = message.get(key)
    # what cannot be looked up in a set is no name
    return None if key != "content" and not isinstance(found, str) else found


def _parts(content: Any) -> Sequence[Any]:
    if not isinstance(content, list | tuple):
        return ()
    return content if len(content) <= 2 * PARTS else [*content[:PARTS], *content[-PARTS:]]


def _texts(content: Any) -> Iterator[str]:
    for part in _parts(content):
        if isinstance(part, str):
            yield part
        elif _get(part, "type") in _TEXT and (text := _get(part, "text")) is not None:
            yield text


def _turns(messages: Sequence[Any]) -> list[int]:
    """Where the user's last turns stand, the latest first; results of tools in the user's name are none."""
    found = []
    for index in range(len(messages) - 1, max(-1, len(messages) - 1 - LOOK_BACK), -1):
        if _get(messages[index], "role") == "user" and not _holds_result(messages[index]):
            found.append(index)
            if len(found) > max(PICTURE_TURNS, TOPIC_TURNS):
                break
    return found


def _holds_result(message: Any) -> bool:
    return any(_get(part, "type") == "tool_result" for part in _parts(_get(message, "content")))


def _ends_in_result(messages: Sequence[Any]) -> bool:
    """Whether the last message that is no system prompt is the result of a tool."""
    for index in range(len(messages) - 1, max(-1, len(messages) - 1 - LOOK_BACK), -1):
        role = _get(messages[index], "role")
        if role not in _ASIDE:
            return role in _RESULT or _holds_result(messages[index])
    return False


def _picture(messages: Sequence[Any], turns: Sequence[int]) -> str | None:
    seen = turns[:PICTURE_TURNS]
    first = seen[-1] if seen else max(0, len(messages) - LOOK_BACK)
    for index in range(len(messages) - 1, max(first, len(messages) - LOOK_BACK) - 1, -1):
        if has_picture(messages[index]):
            ago = sum(turn > index for turn in seen)
            return "a picture comes with it" if ago == 0 else f"a picture came {_ago(ago)} before"
    return None


def _ago(turns: int) -> str:
    return "one turn" if turns == 1 else f"{turns} turns"


def _before(messages: Sequence[Any], turns: Sequence[int]) -> tuple[Exchange, ...]:
    return tuple(
        Exchange(text_of(messages[start]), _answer(messages, start + 1, end))
        for end, start in itertools.pairwise(turns[: TOPIC_TURNS + 1])
    )


def _answer(messages: Sequence[Any], start: int, end: int) -> str:
    """The assistant's last text between two turns."""
    for index in range(end - 1, start - 1, -1):
        if _get(messages[index], "role") == "assistant" and (text := text_of(messages[index])):
            return text
    return ""


def _system(messages: Sequence[Any]) -> str:
    first = messages[0] if messages else _EMPTY
    return text_of(first) if _get(first, "role") in _ASIDE else ""
