"""What a run asks its user, and the decisions it takes: approve, edit, reject, respond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from benchai.errors import UsageError, did_you_mean

Kind = Literal["approve", "edit", "reject", "respond"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Approval:
    """A question to the user: ``kind`` is "tool" or "plan", ``subject`` the tool's name or the plan in words."""

    id: str
    kind: str
    subject: str
    arguments: dict[str, Any]
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Plain data, as an interrupt carries it."""
        return asdict(self)


@dataclass(frozen=True)
class Decision:
    """An answer: ``edit`` carries other arguments, ``reject`` and ``respond`` a message for the model."""

    kind: Kind
    message: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


def decisions_of(answer: Any, asked: Sequence[Approval]) -> dict[str, Decision]:
    """The decision on every question.

    Args:
        answer: ``{"decisions": {id: decision}}``, or one decision for all; a decision is a word ("approve",
            "reject") or ``{"decision": word, "message": text, "arguments": {...}}``.
        asked: The questions.

    Raises:
        UsageError: it does not fit: an unknown word or id, a question without an answer, edit without arguments.
    """
    if isinstance(answer, Mapping) and "decisions" in answer:
        given = answer["decisions"]
        if not isinstance(given, Mapping):
            raise UsageError(
                f"decisions = {given!r} is no mapping", hint='for example {"decisions": {"ID": "approve"}}'
            )
        ids = [one.id for one in asked]
        for unknown in (key for key in given if key not in ids):
            raise UsageError(f"nothing with the id {unknown!r} awaits a decision", hint=f"ids: {', '.join(ids)}")
        for missing in (key for key in ids if key not in given):
            raise UsageError(f"a decision on {missing!r} is missing", hint="decide on all at once")
        return {one.id: _decision(given[one.id], one) for one in asked}
    return {one.id: _decision(answer, one) for one in asked}


def by_id(answer: Any, asked: Sequence[Approval]) -> Any:
    """An answer whose decisions come in the order of the questions, as LangChain's middleware takes them, by ids.

    Raises:
        UsageError: there are more or fewer than were asked for.
    """
    given = answer.get("decisions") if isinstance(answer, Mapping) else None
    if not isinstance(given, list):
        return answer
    if len(given) != len(asked):
        raise UsageError(f"{len(given)} decisions were given, {len(asked)} are asked for", hint="decide on all at once")
    return {"decisions": {one.id: _as_ours(value, one) for value, one in zip(given, asked, strict=True)}}


def _as_ours(value: Any, asked: Approval) -> Any:
    """A decision in LangChain's form, ``{"type": "edit", "edited_action": {"args": {...}}}``, in ours."""
    if not isinstance(value, Mapping) or "type" not in value:
        return value
    edited = value.get("edited_action")
    edited = edited if isinstance(edited, Mapping) else {}
    if edited.get("name", asked.subject) != asked.subject:
        hint = "its arguments can be edited, its name cannot"
        raise UsageError(f"{edited['name']!r} is not what was asked about: {asked.subject!r}", hint=hint)
    more = {"arguments": edited["args"]} if "args" in edited else {}
    return {"decision": value["type"], **{key: value[key] for key in ("message",) if key in value}, **more}


def _decision(value: Any, asked: Approval) -> Decision:
    data = {"decision": value} if isinstance(value, str) else value
    if not isinstance(data, Mapping) or not isinstance(data.get("decision"), str):
        raise UsageError(f"{value!r} is no decision", hint=f"one of {', '.join(KINDS)}")
    kind, message, arguments = data["decision"], data.get("message", ""), data.get("arguments")
    if kind not in KINDS:
        raise UsageError(f"the decision {kind!r} is unknown", hint=did_you_mean(kind, KINDS))
    if not isinstance(message, str):
        raise UsageError(f"message = {message!r} is no text")
    if kind == "edit" and not isinstance(arguments, Mapping):
        hint = f'for example {{"decision": "edit", "arguments": {{...}}}} for {asked.subject}'
        raise UsageError("the decision 'edit' needs arguments", hint=hint)
    if kind == "respond" and not message:
        raise UsageError("the decision 'respond' needs a message: it is what the model gets as the result")
    return Decision(kind, message, dict(arguments or {}))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Question:
    """One interrupt of a graph: what is asked, and the ids under which the node that asks knows it.

    The ids of ``asked`` are unique among all that is asked at the same time.
    """

    interrupt: str
    asked: list[Approval]
    ids: list[str]

    def answer(self, given: Any) -> Any:
        """Of decisions on all that is asked, those of this interrupt; as it is for one of a user's graph."""
        if not self.asked:
            return given
        if isinstance(given, Mapping) and "decisions" in given:
            decisions = given["decisions"]
            pairs = zip(self.ids, self.asked, strict=True)
            return {"decisions": {known: decisions[one.id] for known, one in pairs}}
        return given


def pending(interrupts: Sequence[Any]) -> list[Question]:
    """The questions that LangGraph's interrupts carry."""
    found: list[Question] = []
    taken: set[str] = set()
    for one in interrupts:
        asked = _asked(one.value)
        # parallel workers may have calls with the same id
        unique = [replace(it, id=f"{it.id}@{one.id[:8]}") if it.id in taken else it for it in asked]
        taken |= {it.id for it in unique}
        found.append(Question(str(one.id), unique, [it.id for it in asked]))
    return found


def _asked(value: Any) -> list[Approval]:
    """What an interrupt of ours asks; nothing where a user's graph interrupts with a value of its own."""
    requests = value.get("requests") if isinstance(value, Mapping) else None
    fields = set(Approval.__dataclass_fields__)
    if not isinstance(requests, list) or not all(isinstance(one, Mapping) and set(one) == fields for one in requests):
        return []
    return [Approval(**one) for one in requests]


def every(questions: Sequence[Question]) -> list[Approval]:
    """All that is asked at the same time."""
    return [one for question in questions for one in question.asked]
