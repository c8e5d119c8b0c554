"""What the bodies of requests to the agent wire are made of, and how what they ask for is compared."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from benchai.errors import UsageError
from benchai.server.agent.database import as_json
from benchai.server.agent.service import Unprocessable

MAX_ROWS = 1_000
#: SQLite counts no further
MOST = 2**63 - 1
_UNSPOKEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Body(BaseModel):
    """A request: what is unknown is left alone, a wrong type is refused."""

    model_config = ConfigDict(extra="ignore", strict=True)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half a surrogate pair, which cannot be encoded") from None
    return value


def _data(value: dict[str, Any]) -> dict[str, Any]:
    try:
        as_json(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"it cannot be kept as JSON: {error}") from None
    return value


#: text that can be encoded
Text = Annotated[str, AfterValidator(_text)]
#: an object that can be kept as JSON
Data = Annotated[dict[str, Any], AfterValidator(_data)]


def contains(whole: Any, part: Any) -> bool:
    """Whether ``whole`` holds all that ``part`` names: objects by key, lists by element, anything else by equality."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(one, wanted) for one in whole) for wanted in part)
    # True is 1 to Python alone
    return isinstance(whole, bool) == isinstance(part, bool) and bool(whole == part)


def shown(value: Any) -> str:
    """A value as a message names it, at most 100 characters of it."""
    written = ascii(value)
    return written if len(written) <= 100 else f"{written[:100]}..."


def check_labels(namespace: tuple[str, ...]) -> tuple[str, ...]:
    """A namespace, or the beginning of one, as it is.

    Raises:
        UsageError: a label is empty, or holds a dot or a control character.
    """
    for label in namespace:
        if not isinstance(label, str) or not label or "." in label:
            hint = "labels are texts that are not empty and hold no dots"
            raise Unprocessable(f"the namespace {shown(namespace)} has the label {shown(label)}", hint=hint)
        if _UNSPOKEN.search(label):
            raise UsageError(f"the label {shown(label)} holds a control character", hint="leave it out")
    return namespace


def check_namespace(namespace: tuple[str, ...]) -> tuple[str, ...]:
    """A namespace that an item can be put into, as it is.

    Raises:
        UsageError: it is empty, begins with "langgraph", or has a label that ``check_labels`` refuses.
    """
    if not namespace:
        raise UsageError("the namespace is empty", hint="name at least one label")
    if namespace[0] == "langgraph":
        raise UsageError("the namespace begins with 'langgraph', which LangGraph keeps for itself", hint="rename it")
    return check_labels(namespace)


def check_key(key: str) -> str:
    """An item's key, as it is.

    Raises:
        Unprocessable: it is no text that can be encoded.
    """
    try:
        key.encode()
    except (AttributeError, UnicodeEncodeError):
        raise Unprocessable(f"the key {shown(key)} is no text that can be encoded") from None
    return key
