"""Namespaces: whose a row is. A call names one, and sees its rows and those of the levels above it, no others."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchai.errors import NamespaceError

#: The user of a command line, and of a server without keys.
LOCAL = "local"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, order=True)
class Namespace:
    """A user, or a project of a user, or a thread of either; "" where a level is not named.

    Raises:
        NamespaceError: a name is none: 1 to 64 letters, digits and ``._-``, the first a letter or a digit.
    """

    user: str = LOCAL
    project: str = ""
    thread: str = ""

    def __post_init__(self) -> None:
        for level, name in (("user", self.user), ("project", self.project), ("thread", self.thread)):
            if not _NAME.fullmatch(name) and (name or level == "user"):
                raise NamespaceError(
                    f"the {level} {name[:100]!r} of a namespace is no name",
                    hint="1 to 64 letters, digits and ._-, the first a letter or a digit",
                )

    @classmethod
    def parse(cls, text: str, user: str = LOCAL) -> Namespace:
        """``project``, ``project/thread`` or ``/thread`` of a user; "" is the user's own level.

        Raises:
            NamespaceError: the text is none of these.
        """
        project, _, thread = text.partition("/")
        if text.endswith("/") or "/" in thread:
            raise NamespaceError(f"{text[:100]!r} is no namespace", hint="write PROJECT, PROJECT/THREAD or /THREAD")
        return cls(user, project, thread)

    def __str__(self) -> str:
        return f"{self.project}/{self.thread}" if self.thread else self.project

    def visible(self) -> tuple[Namespace, ...]:
        """What a call in this namespace sees: its own level first, the user's level last."""
        levels = (self, Namespace(self.user, self.project), Namespace(self.user))
        return tuple(dict.fromkeys(levels))

    def holds(self, other: Namespace) -> bool:
        """Whether ``other`` is this namespace or lies below it."""
        return (
            self.user == other.user
            and self.project in ("", other.project)
            and self.thread in ("", other.thread)
            and not (self.thread and self.project != other.project)
        )
