"""Tool schemas: the four that the package ships, some hand-written ones, and invented ones without end.

A model that has seen only a fixed list of tools learns the list. Invented tools ("send_parcel", "checkLantern")
make it read the schemas instead: it must match the words of a question with the words of a schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scripts.tiny_model import words
from scripts.tiny_model.conversation import Schema
from scripts.tiny_model.split import Draw, pool


def schema(name: str, description: str, parameters: dict[str, Any], required: list[str]) -> Schema:
    """A tool in the OpenAI form."""
    form = {"type": "object", "properties": parameters, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": form}}


def text(description: str) -> dict[str, str]:
    """A parameter that holds text."""
    return {"type": "string", "description": description}


def integer(description: str) -> dict[str, str]:
    """A parameter that holds a whole number."""
    return {"type": "integer", "description": description}


CALCULATOR = schema(
    "calculator",
    "Evaluate an arithmetic expression exactly. Use it for every calculation.",
    {"expression": text("For example (12 + 3) * 4")},
    ["expression"],
)
CURRENT_TIME = schema(
    "current_time",
    "Tell the current date and time.",
    {"timezone": text("IANA name, for example Europe/Berlin. Default UTC")},
    [],
)
LIST_FILES = schema(
    "list_files",
    "List the files and folders in a folder of the workspace.",
    {"path": text("Folder, relative to the workspace. Default .")},
    [],
)
READ_FILE = schema(
    "read_file",
    "Read a text file of the workspace.",
    {
        "path": text("File, relative to the workspace"),
        "offset": integer("First line, from 1"),
        "limit": integer("How many lines"),
    },
    ["path"],
)
SHIPPED = (CALCULATOR, CURRENT_TIME, LIST_FILES, READ_FILE)

VERBS = pool(
    "send book find open delete create play stop order check show count sort print share archive rename update start "
    "cancel reserve track measure paint repair clean copy export import load lock unlock mark pause publish rate"
)
FIELDS = ("name", "title", "id", "code", "label", "key", "target", "item", "value", "topic", "place", "owner")
FIELD_DESCRIPTIONS = ("The {f} of the {n}", "{F}", "{F} of the {n}", "The {f}")
DESCRIPTIONS = ("{V} a {n}.", "{V} the {n} with the given {f}.", "{V} one {n} and tell the result.", "{V}s a {n}.")
NUMBER_FIELDS = ("count", "amount", "size", "number", "level", "weight", "length", "price", "limit", "hours")


@dataclass(frozen=True)
class InventedTool:
    """A tool made of a verb and a noun, with one text parameter and perhaps one number."""

    verb: str
    noun: str
    field: str
    number_field: str
    schema: Schema

    @property
    def name(self) -> str:
        """The name in the schema."""
        return str(self.schema["function"]["name"])


def invented_name(draw: Draw, verb: str, noun: str) -> str:
    """The two words in one of the styles that tools are named in."""
    return f"{verb}_{noun}" if draw.chance(0.9) else f"{noun}_{verb}"


def invent(draw: Draw, verb: str = "", noun: str = "") -> InventedTool:
    """An invented tool, of the given verb or noun if there is one."""
    verb, noun = verb or draw.rng.choice(VERBS), noun or words.thing(draw)
    field = draw.rng.choice(FIELDS)
    number_field = draw.rng.choice(NUMBER_FIELDS) if draw.chance(0.35) else ""
    parameters: dict[str, Any] = {
        field: text(draw.rng.choice(FIELD_DESCRIPTIONS).format(f=field, F=field.capitalize(), n=noun))
    }
    if number_field:
        parameters[number_field] = integer(
            draw.rng.choice(FIELD_DESCRIPTIONS).format(f=number_field, F=number_field.capitalize(), n=noun)
        )
    description = draw.rng.choice(DESCRIPTIONS)
    form = schema(
        invented_name(draw, verb, noun),
        description.format(V=verb.capitalize(), v=verb, n=noun, f=field),
        parameters,
        list(parameters),
    )
    return InventedTool(verb, noun, field, number_field, form)


HAND_WRITTEN = (
    schema("get_weather", "Tell the weather of a city.", {"city": text("Name of the city")}, ["city"]),
    schema("search_notes", "Search the notes for a word.", {"query": text("What to search for")}, ["query"]),
    schema("search_web", "Search the web.", {"query": text("What to search for")}, ["query"]),
    schema(
        "write_file",
        "Write a text file of the workspace.",
        {"path": text("File, relative to the workspace"), "content": text("The text")},
        ["path", "content"],
    ),
    schema(
        "translate",
        "Translate a text into another language.",
        {"text": text("The text"), "language": text("For example German")},
        ["text", "language"],
    ),
    schema("run_command", "Run a command in the shell.", {"command": text("The command line")}, ["command"]),
    schema("send_email", "Send an e-mail.", {"to": text("Who gets it"), "subject": text("Subject")}, ["to", "subject"]),
    schema("set_timer", "Set a timer.", {"minutes": integer("How many minutes")}, ["minutes"]),
    schema("define_word", "Look up the meaning of a word.", {"word": text("The word")}, ["word"]),
    schema("get_price", "Tell the price of an item.", {"item": text("Name of the item")}, ["item"]),
    schema("remember", "Store a fact for later.", {"fact": text("The fact")}, ["fact"]),
    schema("fetch_url", "Fetch a web page as text.", {"url": text("Address of the page")}, ["url"]),
    schema(
        "add_event",
        "Add an event to the calendar.",
        {"title": text("What it is"), "date": text("Year-month-day")},
        ["title", "date"],
    ),
    schema("query_database", "Run a query on the database.", {"sql": text("The query")}, ["sql"]),
)


def distractors(draw: Draw, count: int, near: InventedTool | None = None) -> list[Schema]:
    """Tools that are not needed; some share the verb or the noun of the tool `near` that is."""
    found: list[Schema] = []
    while len(found) < count:
        if near and draw.chance(0.35):
            other = invent(draw, verb=near.verb) if draw.chance(0.5) else invent(draw, noun=near.noun)
            clash = other.verb == near.verb and other.noun == near.noun
            if not clash:
                found.append(other.schema)
        else:
            found.append(draw.rng.choice(HAND_WRITTEN) if draw.chance(0.3) else invent(draw).schema)
    return found


def toolbox(draw: Draw, needed: list[Schema], near: InventedTool | None = None) -> list[Schema]:
    """The needed tools among others, 3 to 6 in all and in random order, each name once.

    Half of the boxes are filled up with the shipped tools first, since these are what a user meets.
    """
    count = max(draw.rng.randint(3, 6), len(needed))
    others = [tool for tool in SHIPPED if tool not in needed]
    draw.rng.shuffle(others)
    shipped = others if draw.chance(0.5) else others[: draw.rng.randint(0, 2)]
    box = (needed + shipped + distractors(draw, 5, near))[:count]
    unique = {tool["function"]["name"]: tool for tool in reversed(box)}
    box = list(unique.values())
    draw.rng.shuffle(box)
    return box


def shipped_box(draw: Draw) -> list[Schema]:
    """Exactly the shipped tools: in the package's order, or in any."""
    box = list(SHIPPED)
    if draw.chance(0.5):
        draw.rng.shuffle(box)
    return box
