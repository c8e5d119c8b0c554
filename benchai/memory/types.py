"""What goes into the memory and what comes out of it: values, the same in the process and over HTTP."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: What a passage is a part of.
Kind = Literal["document", "turn", "fact", "howto", "summary"]
Meta = dict[str, str | int | float | bool | list[str]]


class Value(BaseModel):
    """Base of all: fixed once made, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Piece(Value):
    """A part of a document that is found and cited as one.

    Attributes:
        text: As it stands in the document.
        heading: Where it stands: headings joined by " > ", or the qualified name of a function or class.
        line, end_line: Its first and last line, from 1; None where the document has no lines.
        page: Its page, from 1; None where the document has none.
    """

    text: str
    heading: str = ""
    line: int | None = None
    end_line: int | None = None
    page: int | None = None


class Link(Value):
    """A link of a note to another note, or to a heading or block of it.

    Attributes:
        target: As written, without the brackets, the alias and the part behind ``#``.
        part: Heading, or ``^block``, behind ``#``.
        kind: Whether the other note is linked or embedded.
    """

    target: str
    part: str = ""
    kind: Literal["link", "embed"] = "link"


class Document(Value):
    """A source, read and cut.

    Attributes:
        source: Absolute path with forward slashes, URL, or ``stdin:NAME``; one document of a namespace.
        title: What people call it: the first heading, the title field, the file's name.
        media: How it was read: text, markdown, code, html, pdf, docx, csv, notebook, note.
        hash: SHA-256 of its bytes, hexadecimal.
        size: Bytes.
        mtime_ns: When it was changed, nanoseconds since 1970; 0 where that is unknown.
        version: Of the loader and the cutter with their settings: another one cuts anew.
        meta: What filters ask for: tags, aliases, language, author.
        pieces: In order.
        links: Of a note.
    """

    source: str
    title: str
    media: str
    hash: str
    size: int
    mtime_ns: int = 0
    version: str = "1"
    meta: Meta = Field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    links: tuple[Link, ...] = ()


class Stamp(Value):
    """What is known of a document that is kept: enough to see whether its file has changed."""

    hash: str
    size: int
    mtime_ns: int
    version: str


class Leg(Value):
    """How one way of searching saw a passage: its place, from 1, and its own score (higher is better)."""

    rank: int
    score: float


class Passage(Value):
    """Something found.

    Attributes:
        id: ``p`` and a number; stays the same as long as the passage is kept, and is never given again.
        kind: What it is a part of.
        owner: Id of that: of the document, turn, fact, how-to or summary.
        source: Of a document as there; of a turn ``thread:ID``.
        at: When it was said or added, seconds since 1970.
        score: By which the passages are ordered.
        legs: By the name of the leg: lexical, dense, rerank, link.
    """

    id: str
    kind: Kind
    owner: str
    text: str
    namespace: str = ""
    source: str = ""
    title: str = ""
    heading: str = ""
    line: int | None = None
    end_line: int | None = None
    page: int | None = None
    at: float = 0.0
    meta: Meta = Field(default_factory=dict)
    score: float = 0.0
    legs: dict[str, Leg] = Field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it stands, for people: ``notes/a.md:12-20``, ``paper.pdf page 3``."""
        if self.page is not None:
            return f"{self.source} page {self.page}"
        if self.line is None:
            return self.source
        last = f"-{self.end_line}" if self.end_line not in (None, self.line) else ""
        return f"{self.source}:{self.line}{last}"
