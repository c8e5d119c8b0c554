"""Short texts with requirements that can be checked: drafts, critique and revision."""

from __future__ import annotations

import json
from dataclasses import dataclass

from scripts.tiny_model import words
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.prompts import system_prompt
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks.coding import conversation, numbered
from scripts.tiny_model.tools import shipped_box, toolbox


@dataclass(frozen=True)
class Kind:
    """One kind of text: how it is asked for, drafts with {slots}, the slots to check and the sign at its end."""

    asked: tuple[str, ...]
    frames: tuple[str, ...]
    slots: str
    end: str = "."
    one_sentence: bool = False


KINDS = (
    Kind(
        (
            "=Write one sentence about {N} that contains the word {w}.",
            "[Write|Please write|Make|Give me] [one|a|a single] sentence about {N} "
            "[that contains|with|that uses] the word {w}[.|]",
        ),
        (
            "{N} talks about the word {w} every day",
            "{N} found the {w} at home",
            "Yesterday {N} looked for the {w}",
            "Everyone knows that {N} likes the {w}",
            "The {w} belongs to {N} and to nobody else",
        ),
        "Nw",
        one_sentence=True,
    ),
    Kind(
        (
            "=Write an e-mail subject for {N} about {w}.",
            "[Write|Please write|Make|Give me] [an e-mail subject|a subject|a subject line] "
            "for {N} [about|on] [the |]{w}[.|]",
        ),
        ("News for {N} about {w}", "For {N}: what is new about {w}", "Hello {N}, please read this about {w}"),
        "Nw",
        "",
    ),
    Kind(
        (
            "=Write a note to {N} with the number {n}.",
            "[Write|Please write|Make|Give me] a [|short ]note [to|for] {N} "
            "[with|that has|that gives] the number {n}[.|]",
        ),
        ("Dear {N}, your number is {n}", "Please keep the number {n}, {N}", "The number for {N} is {n}"),
        "Nn",
    ),
    Kind(
        (
            "=Write a slogan for {w} that names {N}.",
            "[Write|Please write|Make|Give me] a [|short ]slogan for [the |]{w} that [names|mentions] {N}[.|]",
        ),
        ("{N} says: nothing beats {w}", "Everybody needs {w}, and so does {N}", "Try the {w} that {N} trusts"),
        "wN",
        "!",
    ),
    Kind(
        (
            "=Write a list of {w}, {v} and {u}.",
            "[Write|Please write|Make|Give me] a [|short ]list of {w}, {v} and {u}[.|, one on each line.|]",
        ),
        ("- {w}\n- {v}\n- {u}", "1. {w}\n2. {v}\n3. {u}"),
        "wvu",
        "",
    ),
)
ENDS = {".": "a full stop", "!": "an exclamation mark"}
EXTRA = (
    "That is all.",
    "It was a long day.",
    "Nobody knows why.",
    "This is only the beginning.",
    "There is more to say.",
)
CRITIQUE = {
    "N": "The draft does not name {x}.",
    "n": "The draft does not have the number {x}.",
    "w": "The draft does not contain the word {x}.",
}
OTHER_CRITIQUE = {
    "N": ("{x} is missing.", "Name {x}.", "It must mention {x}."),
    "n": ("The number {x} is missing.", "It must give the number {x}."),
    "w": ("The word {x} is missing.", "It must contain {x}.", "Use the word {x}."),
}
END_CRITIQUE = "The draft does not end with {x}."
LONG_CRITIQUE = "The draft has more than one sentence."


@dataclass(frozen=True)
class Piece:
    """A task with its right text, a text with faults, what that holds instead, and what is wrong with it."""

    kind: Kind
    values: dict[str, str]
    drafted: dict[str, str]
    extra: str
    frame: str
    right: str
    draft: str
    faults: list[str]


def slot_class(slot: str) -> str:
    """Slots w, v and u hold words."""
    return "w" if slot in "wvu" else slot


def fresh(draw: Draw, slot: str) -> str:
    """A value for a slot."""
    return draw.word(words.NAMES) if slot == "N" else draw.digits(2, 3) if slot == "n" else draw.word(words.WORDS)


def other(draw: Draw, slot: str, values: dict[str, str]) -> str:
    """A value for a slot that the task does not hold."""
    while True:
        value = fresh(draw, slot)
        if value not in values.values():
            return value


def faults_of(draw: Draw, kind: Kind, chance_of_none: float) -> list[str]:
    """The fault that a draft gets: a slot with another value, "end" or "long"; or none."""
    possible = [*kind.slots, *(["end"] if kind.end else []), *(["long"] if kind.one_sentence else [])]
    if draw.chance(chance_of_none):
        return []
    return [draw.rng.choice(possible)]


def piece(draw: Draw, chance_of_none: float = 0.42) -> Piece:
    """A task with a draft that is right or has faults."""
    kind = draw.rng.choice(KINDS)
    values: dict[str, str] = {}
    for slot in kind.slots:
        values[slot] = other(draw, slot, values)
    frame = draw.rng.choice(kind.frames)
    faults = faults_of(draw, kind, chance_of_none)
    wrong = {slot: other(draw, slot, values) if slot in faults else value for slot, value in values.items()}
    draft = frame.format(**wrong) + ("" if "end" in faults else kind.end)
    extra = draw.rng.choice(EXTRA) if "long" in faults else ""
    draft += " " * bool(extra) + extra
    return Piece(kind, values, wrong, extra, frame, frame.format(**values) + kind.end, draft, faults)


def asked(draw: Draw, item: Piece) -> str:
    """The task in words."""
    return draw.pick(*item.kind.asked).format(**item.values)


def critique(item: Piece, draw: Draw | None = None) -> str:
    """What must change, one sentence for each fault; with a `draw` in other words now and then."""
    lines = []
    for fault in item.faults:
        if fault == "end":
            lines.append(END_CRITIQUE.format(x=ENDS[item.kind.end]))
        elif fault == "long":
            lines.append(LONG_CRITIQUE)
        else:
            kind = slot_class(fault)
            form = draw.rng.choice(OTHER_CRITIQUE[kind]) if draw and draw.chance(0.25) else CRITIQUE[kind]
            lines.append(form.format(x=item.values[fault]))
    return " ".join(lines)


def requirements(item: Piece) -> list[tuple[str, str]]:
    """What the task asks for, each with the slot or the fault that it stands for."""
    named = [(value, slot) for slot, value in item.values.items()]
    if item.kind.end:
        named.append((f"Ends with {ENDS[item.kind.end]}", "end"))
    if item.kind.one_sentence:
        named.append(("One sentence", "long"))
    return named


def checks(item: Piece) -> str:
    """Every requirement of the task and whether the draft meets it."""
    return " ".join(f"{what}: {'no' if slot in item.faults else 'yes'}." for what, slot in requirements(item))


CRITERIA = {
    "N": ("The text names {x}", "It names {x}", "Mentions {x}", "{x} is named", "{x}"),
    "n": ("The text has the number {x}", "It gives the number {x}", "The number {x} is there", "{x}"),
    "w": ("The text contains the word {x}", "It uses the word {x}", "The word {x} occurs", "Mentions {x}", "{x}"),
    "end": ("The text ends with {x}", "It ends with {x}", "Ends with {x}", "{x} at the end"),
    "long": ("It is one sentence", "One sentence", "The text is a single sentence", "Not more than one sentence"),
}


def criterion(draw: Draw, item: Piece, slot: str) -> str:
    """One criterion as a user may state it."""
    value = ENDS[item.kind.end] if slot == "end" else item.values.get(slot, "")
    return draw.rng.choice(CRITERIA[slot if slot in CRITERIA else slot_class(slot)]).format(x=value)


def criteria(draw: Draw, item: Piece) -> list[tuple[str, str]]:
    """The requirements of a task as a user may state them; the lines of a list in their order, others in any."""
    stated = [(criterion(draw, item, slot), slot) for _, slot in requirements(item)]
    if len(set(map(slot_class, item.kind.slots))) > 1:
        draw.rng.shuffle(stated)
    return stated


def with_criteria(draw: Draw, task: str, item: Piece, share: float) -> str:
    """The task, now and then with criteria below it."""
    if not draw.chance(share):
        return task
    return f"{task}\n\nCriteria:\n" + numbered([what for what, _ in criteria(draw, item)])


def evidence(item: Piece, slot: str) -> str:
    """What the text has for a requirement: the word that stands there, the sign at its end, a sentence too many."""
    if slot == "end":
        return "" if slot in item.faults else item.kind.end
    return item.extra if slot == "long" else item.drafted[slot]


def evaluate(draw: Draw) -> Conversation:
    """Check a text against each criterion, then score it: the share of those met, in tenths.

    The criteria are those of the user; without any, every requirement of the task is one. What the text has for a
    criterion is said before the verdict, which then is a comparison of two words that stand side by side.
    """
    item = piece(draw)
    stated = criteria(draw, item)
    given = draw.chance(0.7)
    judged = stated if given else requirements(item)
    parts = [f"Task: {asked(draw, item)}", f"Text:\n{item.draft}"]
    if given:
        parts.insert(1, "Criteria:\n" + numbered([what for what, _ in stated]))
    found = [
        {"criterion": what, "evidence": evidence(item, slot), "met": slot not in item.faults} for what, slot in judged
    ]
    score = round(10 * sum(check["met"] is True for check in found) / len(found))
    unmet = [check["criterion"] for check in found if not check["met"]]
    feedback = f"Not met: {unmet[0]}" if unmet else ""
    reply = json.dumps({"checks": found, "score": score, "feedback": feedback}, ensure_ascii=False)
    return conversation(draw, "evaluator", "evaluator", "\n\n".join(parts), reply)


def draft(draw: Draw) -> Conversation:
    """The first text for a task; in training sometimes with the agent's prompt, and then with and without tools."""
    item = piece(draw, 1.0)
    made = Conversation("draft")
    made.user(with_criteria(draw, asked(draw, item), item, 0.25))
    made.reply(item.kind.frames[0].format(**item.values) + item.kind.end)
    as_agent = not draw.held_out and draw.chance(0.3)
    made.system(system_prompt(draw, "react" if as_agent else "writer", optional=True))
    if as_agent and draw.chance(0.6):
        made.tools = shipped_box(draw) if draw.chance(0.6) else toolbox(draw, [])
    return made


def criticise(draw: Draw) -> Conversation:
    """Check every requirement, then approve the draft or say what must change."""
    item = piece(draw)
    user = f"Task: {asked(draw, item)}\n\nDraft:\n{item.draft}"
    return conversation(draw, "critic", "critic", user, f"{checks(item)}\n{critique(item) or 'APPROVED'}")


def revise(draw: Draw) -> Conversation:
    """Make the changes that a critique asks for."""
    item = piece(draw, 0.0)
    said = critique(item, draw) if draw.chance(0.65) else f"Not met: {criterion(draw, item, item.faults[0])}"
    task = with_criteria(draw, asked(draw, item), item, 0.35)
    user = f"Task: {task}\n\nDraft:\n{item.draft}\n\nCritique:\n{said}"
    return conversation(draw, "reviser", "reviser", user, item.right)
