"""Questions for tools that the package does not ship: invented ones and some hand-written."""

from __future__ import annotations

from typing import Any

from scripts.tiny_model import words
from scripts.tiny_model.conversation import Schema
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks.files import entries, sentence
from scripts.tiny_model.tasks.turn import Turn, failure
from scripts.tiny_model.tools import HAND_WRITTEN, InventedTool, invent

ASK = (
    "{V} the {n} {v}[.|]",
    "[Please |Can you |Now |Could you ]{verb} the {n} {v}[.|]",
    "[I want to|I need to|Help me] {verb} the {n} {v}[.|]",
    "{V} the {n} with the {f} {v}[.|]",
    "[Please |Now ]{verb} the {n} with [the |]{f} {v}[.|]",
    "{V} a {n}[: {f} {v}|, {f} {v}][.|]",
)
ASK_NUMBER = (
    "{V} the {n} {v} with [the |]{g} {k}[.|]",
    "[Please |Can you |Now ]{verb} the {n} {v} with [the |a ]{g} [of |]{k}[.|]",
    "{V} the {n} {v}[, {g} {k}|: {g} {k}][.|]",
    "[I want to|I need to] {verb} the {n} {v} with [the |]{g} {k}[.|]",
    "{V} a {n} with [the |]{f} {v} and [the |]{g} {k}[.|]",
)
RESULTS = (
    "done",
    "ok",
    "{w}",
    "{n}",
    "status: {w}",
    "{w} {n}",
    '{{"status": "{w}", "id": {n}}}',
    "{s}",
    "The {w} is {n}",
    "{n} {w}s",
    "id {n}",
    "not found",
    "no {w} left",
)
ERRORS = (
    "no {w} with this name",
    "{w} is not available",
    "the {w} is locked. Try again later",
    "unknown {w}",
    "permission denied",
    "timed out after {n} s",
    "the server answered {n}",
    "{w} must be a number",
)


def result_text(draw: Draw) -> str:
    """What an invented tool says."""
    if draw.chance(0.08):
        return "Error: " + draw.rng.choice(ERRORS).format(w=words.thing(draw), n=draw.digits(2, 3))
    form = draw.rng.choice(RESULTS)
    return form.format(w=words.thing(draw), n=draw.digits(1, 5), s=sentence(draw, 7))


def answer(result: str) -> str:
    """The answer to the result of such a tool."""
    return failure(result) if result.startswith("Error") else f"The result is: {result.rstrip('.')}."


def value(draw: Draw) -> str:
    """What an invented tool is given: a name, a word or a number."""
    kind = draw.rng.random()
    if kind < 0.4:
        return words.name(draw)
    return draw.invented() if kind < 0.7 else words.thing(draw) if kind < 0.8 else draw.digits(2, 6)


def finish(turn: Turn, draw: Draw, question: str, thought: str, name: str, arguments: dict[str, Any]) -> Turn:
    """Question, thought, call, result and answer."""
    result = result_text(draw)
    turn.talk.user(question[:1].upper() + question[1:])
    turn.talk.call(thought, name, arguments, result)
    turn.talk.reply(answer(result))
    return turn


def invented(draw: Draw) -> Turn:
    """A request that an invented tool meets."""
    tool: InventedTool = invent(draw)
    given, number = value(draw), draw.digits(1, 4)
    arguments: dict[str, Any] = {tool.field: given}
    if tool.number_field:
        arguments[tool.number_field] = int(number)
    question = draw.pick(*(ASK_NUMBER if tool.number_field else ASK)).format(
        V=tool.verb.capitalize(), verb=tool.verb, n=tool.noun, v=given, f=tool.field, g=tool.number_field, k=number
    )
    turn = Turn(needed=[tool.schema], near=tool)
    return finish(turn, draw, question, f"I need to {tool.verb} the {tool.noun} {given}.", tool.name, arguments)


_BY_NAME: dict[str, Schema] = {tool["function"]["name"]: tool for tool in HAND_WRITTEN}
_REQUESTS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "get_weather": (
        ("[What is|How is|Tell me] the weather in {a}[?|.|]", "[Is it raining|Is it cold|How warm is it] in {a}?"),
        "I need the weather in {a}.",
        ("city:C",),
    ),
    "search_notes": (
        ("[Search|Look in] [my |the ]notes for {a}[.|]", "What do [my |the ]notes say about {a}?"),
        "I need to search the notes for {a}.",
        ("query:t",),
    ),
    "search_web": (
        ("[Search|Look on] the web for {a}[.|]", "[Find|Look up] {a} on the web[.|]"),
        "I need to search the web for {a}.",
        ("query:t",),
    ),
    "write_file": (
        ("[Write|Put] {b} [in|into|to] [the file |]{a}[.|]", "[Save|Store] {b} [in|as] [the file |]{a}[.|]"),
        "I need to write {a}.",
        ("path:p", "content:t"),
    ),
    "translate": (
        ("[Translate|Please translate] {a} [in|]to {b}[.|]", "[What is|How do you say] {a} in {b}?"),
        "I need to translate {a}.",
        ("text:t", "language:C"),
    ),
    "run_command": (
        ("[Run|Execute|Start] the command {a}[.|]", "Run {a} in the shell[.|]"),
        "I need to run {a}.",
        ("command:t",),
    ),
    "send_email": (
        ("[Send|Write] [an e-mail|a mail] to {a} about {b}[.|]", "[Please mail|Mail] {a} about {b}[.|]"),
        "I need to send an e-mail to {a}.",
        ("to:N", "subject:t"),
    ),
    "set_timer": (
        ("[Set|Start] a timer [for|of] {a} minutes[.|]", "[Remind me|Wake me] in {a} minutes[.|]"),
        "I need to set a timer.",
        ("minutes:n",),
    ),
    "define_word": (
        ("[What does|Tell me what] {a} mean[?|s.]", "[Define|Explain] the word {a}[.|]"),
        "I need to look up {a}.",
        ("word:t",),
    ),
    "get_price": (
        ("[What is|Tell me] the price of [the |]{a}[?|.|]", "How much does [the |a ]{a} cost?"),
        "I need the price of {a}.",
        ("item:t",),
    ),
    "remember": (
        ("[Remember|Keep in mind] that {a}[.|]", "[Please remember|Note]: {a}[.|]"),
        "I need to remember that.",
        ("fact:s",),
    ),
    "fetch_url": (
        (
            "[Fetch|Open|Load|Get|Please fetch|Please open|Please load] [the page |the site |the address |]{a}",
            "What does [the page |the site |]{a} say?",
            "[Read|Show me] the [page|site] {a}",
        ),
        "I need to fetch {a}.",
        ("url:u",),
    ),
}


def filling(draw: Draw, kind: str) -> str | int:
    """A value for a parameter of a hand-written tool."""
    if kind == "C":
        return draw.invented().capitalize()
    if kind == "N":
        return words.name(draw)
    if kind == "n":
        return int(draw.digits(1, 3))
    if kind == "p":
        return words.path(draw)
    if kind == "u":
        return f"https://{draw.invented()}.org/{entries(draw, 1)[0]}"
    if kind == "s":
        return f"{words.name(draw)} likes {words.thing(draw)}"
    return words.thing(draw) if draw.chance(0.6) else f"{words.thing(draw)} {words.thing(draw)}"


def hand_written(draw: Draw) -> Turn:
    """A request that one of the hand-written tools meets."""
    name = draw.rng.choice(list(_REQUESTS))
    asked, thought, parameters = _REQUESTS[name]
    arguments = {key: filling(draw, kind) for key, kind in (parameter.split(":") for parameter in parameters)}
    values = dict(zip("ab", arguments.values(), strict=False))
    turn = Turn(needed=[_BY_NAME[name]])
    return finish(turn, draw, draw.pick(*asked).format(**values), thought.format(**values), name, arguments)
