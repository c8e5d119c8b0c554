"""Tools for the notes of a vault: made, appended to and read; where the notes are is for others to know."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from pydantic import Field

from benchai.errors import BenchAIError, ToolError
from benchai.tools.tool import Tool, ToolArgs, ToolContext

__all__ = ["Notes", "note_tools"]


class Notes(Protocol):
    """The notes of a vault, by their paths from its root.

    Every function raises BenchAIError for what can't be done; the message says what can.
    """

    async def create(self, path: str, text: str) -> str:
        """Make a new note; its path as it is now."""
        ...

    async def append(self, path: str, text: str, heading: str) -> str:
        """Add lines under a heading, or at the end where that is ""; the note's path."""
        ...

    async def read(self, path: str) -> str:
        """The text of a note."""
        ...


class ReadArgs(ToolArgs):
    """Arguments of note_read."""

    path: str = Field(description="Note, from the vault's root: Folder/Name")


class CreateArgs(ReadArgs):
    """Arguments of note_create."""

    text: str = Field(description="All text of the new note, Markdown; [[Name]] links another note")


class AppendArgs(ReadArgs):
    """Arguments of note_append."""

    text: str = Field(description="Lines to add")
    heading: str = Field("", description="Heading to add them under, made if it is not there; default: the note's end")


def note_tools(notes: Notes) -> list[Tool]:
    """The tools note_create, note_append and note_read of a vault."""

    async def create(args: CreateArgs, context: ToolContext) -> str:
        return f"created {await _told(notes.create(args.path, args.text))}"

    async def append(args: AppendArgs, context: ToolContext) -> str:
        return f"appended to {await _told(notes.append(args.path, args.text, args.heading))}"

    async def read(args: ReadArgs, context: ToolContext) -> str:
        return await _told(notes.read(args.path))

    return [
        Tool("note_create", "Make a new note in the vault.", CreateArgs, create, permission="write"),
        Tool("note_append", "Add lines to a note of the vault.", AppendArgs, append, permission="write"),
        # notes hold what was clipped from the web, too
        Tool("note_read", "Read a note of the vault.", ReadArgs, read, trusted=False),
    ]


async def _told(call: Awaitable[str]) -> str:
    try:
        return await call
    except BenchAIError as error:
        raise ToolError(str(error), hint=error.hint) from error
