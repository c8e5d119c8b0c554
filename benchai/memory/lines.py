"""The lines of an export: one JSON object each, with ids of their own by which lines name one another."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from benchai.memory.facts import Confidence, Fact, Time
from benchai.memory.howtos import Worked
from benchai.memory.turns import Role, Text
from benchai.memory.types import Document, Kind, Link, Piece, Value

FORMAT = 1
Id = Annotated[int, Field(ge=1)]


class Line(Value):
    """What all lines but the first have: the namespace within the user, as ``project/thread``."""

    namespace: str


class Head(Value):
    """The first line."""

    kind: Literal["benchai-memory"] = "benchai-memory"
    format: Literal[1] = 1


class KeptPiece(Piece):
    """A piece, when it was added, and what it is found by beside what it says."""

    at: Time
    context: Text = ""


class DocumentLine(Line):
    """A document with its pieces and links."""

    kind: Literal["document"] = "document"
    id: Id
    at: Time
    document: Document
    pieces: tuple[KeptPiece, ...] = ()
    links: tuple[Link, ...] = ()


class TurnLine(Line):
    """A turn; turns come in the order in which they were said."""

    kind: Literal["turn"] = "turn"
    id: Id
    thread: Text
    run: Text
    role: Role
    name: Text
    text: Text
    at: Time


class FactLine(Line):
    """A fact, whether it holds or held."""

    kind: Literal["fact"] = "fact"
    id: Id
    subject: str
    relation: str
    value: str
    text: str
    confidence: Confidence
    valid_at: Time
    invalid_at: Time | None = None
    superseded_by: Id | None = None
    extractor: Text
    at: Time
    sources: tuple[Id, ...] = ()

    @property
    def fact(self) -> Fact:
        """The fact itself."""
        return Fact(
            subject=self.subject,
            relation=self.relation,
            value=self.value,
            text=self.text,
            confidence=self.confidence,
            valid_at=self.valid_at,
        )


class HowtoLine(Line):
    """A how-to."""

    kind: Literal["howto"] = "howto"
    id: Id
    task: str
    steps: tuple[str, ...]
    workflow: str
    successes: Annotated[int, Field(ge=1)]
    at: Time
    sources: tuple[Id, ...] = ()

    @property
    def worked(self) -> Worked:
        """What worked."""
        return Worked(task=self.task, steps=self.steps, workflow=self.workflow)


class SummaryLine(Line):
    """A summary; a stale one has no text."""

    kind: Literal["summary"] = "summary"
    id: Id
    thread: Text
    text: Text
    extractor: Text
    stale: bool
    at: Time
    sources: tuple[Id, ...] = ()


class LabelLine(Line):
    """Whether a passage answers a question.

    Attributes:
        part_of, owner: Of which line the passage is a part: its kind and its id.
        place: Of the passage among those of that line, from 0.
        text: What the passage says.
    """

    kind: Literal["label"] = "label"
    id: Id
    query: Text
    good: bool
    part_of: Kind
    owner: Id
    place: Annotated[int, Field(ge=0, lt=2**31)]
    text: Text
    at: Time


Kept = DocumentLine | TurnLine | FactLine | HowtoLine | SummaryLine | LabelLine
AnyLine = Annotated[Head | Kept, Field(discriminator="kind")]
LINE: TypeAdapter[AnyLine] = TypeAdapter(AnyLine)
