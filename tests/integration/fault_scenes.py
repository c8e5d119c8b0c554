"""What the fault suite replays: a run of each workflow that goes well, turn by turn, and the faults to put into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from benchai import testing
from benchai.bench import Bench
from benchai.errors import BenchAIError
from benchai.events import Event, Notice, Repair, Result
from benchai.graphs.guards import Budget
from benchai.memory.memory import Memory
from benchai.memory.namespace import Namespace
from benchai.testing import Reply, ScriptedServer, begun, broken_call, calls, error, error_in_stream, text
from benchai.tools.tool import Tool, ToolArgs, ToolContext
from tests.integration.helpers import loaded
from tests.integration.memory_helpers import document
from tests.integration.test_vision import picture

Kind = Literal["tools", "json", "text"]
LOADING = error(503, message="Loading model", type="unavailable_error")


@dataclass(frozen=True)
class Turn:
    """One call of the model: whether tools, a form or plain text are asked for, and the right words."""

    kind: Kind
    words: str

    @property
    def right(self) -> Reply:
        return calls(("note", self.words)) if self.kind == "tools" else text(self.words)


@dataclass(frozen=True)
class Scene:
    """A run that goes well; ``places`` are the turns that faults are put into."""

    workflow: str
    task: str
    turns: tuple[Turn, ...]
    output: str
    places: tuple[int, ...]
    images: tuple[bytes, ...] = ()

    @property
    def notes(self) -> list[str]:
        return [json.loads(turn.words)["text"] for turn in self.turns if turn.kind == "tools"]

    def replies(self, place: int, instead: Sequence[Reply]) -> list[Reply]:
        """The replies of the run, with others in one place."""
        right = [turn.right for turn in self.turns]
        return [*right[:place], *instead, *right[place + 1 :]]


def _json(value: Any) -> Turn:
    return Turn("json", json.dumps(value))


NOTE_ONE, NOTE_TWO = Turn("tools", '{"text": "one"}'), Turn("tools", '{"text": "two"}')
PLAN = _json(
    {
        "tasks": [
            {"id": 1, "role": "general", "task": "Note one and two."},
            {"id": 2, "role": "code", "task": "Write it down.", "depends_on": [1]},
        ]
    }
)
LOW = _json({"checks": [{"criterion": "long", "met": False}], "score": 3, "feedback": "Make it longer."})
HIGH = _json({"checks": [{"criterion": "long", "met": True}], "score": 10, "feedback": "It is good."})
STEPS = _json({"goal": "double a number", "steps": ["Write double.", "Return twice the number."]})
QUERIES = _json({"reason": "a figure of the manual", "queries": ["pump litres"]})
GROUNDED = _json(
    {
        "quotes": [{"source": 1, "text": "moves 40 litres"}],
        "found": True,
        "answer": "It moves 40 litres a minute [1].",
    }
)
TESTS = Turn("text", "```python\nassert double(2) == 4\n```")
CODE = Turn("text", "```python\ndef double(n):\n    return 2 * n\n```")

SCENES = (
    Scene("react", "Note one and two.", (NOTE_ONE, NOTE_TWO, Turn("text", "Both are noted.")), "Both are", (0, 1)),
    Scene("router", "Note one and two.", (NOTE_ONE, NOTE_TWO, Turn("text", "Both are noted.")), "Both are", (1,)),
    Scene(
        "orchestrator-worker",
        "Note one and two, and write it down.",
        (PLAN, NOTE_ONE, NOTE_TWO, Turn("text", "Noted."), Turn("text", "x = 1"), Turn("text", "All of it is done.")),
        "All of it is done.",
        (0, 2, 5),
    ),
    Scene(
        "reflection",
        "Write about rain.",
        tuple(Turn("text", words) for words in ("Rain.", "It is too short.", "Rain falls on roofs.", "APPROVED")),
        "Rain falls on roofs.",
        (0, 2),
    ),
    Scene(
        "evaluator-optimizer",
        "Write about rain.",
        (Turn("text", "Rain."), LOW, Turn("text", "Rain falls on roofs."), HIGH),
        "Rain falls on roofs.",
        (1, 2),
    ),
    Scene(
        "planner-coder-reviewer",
        "Write a function double(n).",
        (STEPS, TESTS, CODE, Turn("text", "It doubles.\nAPPROVED")),
        "+    return 2 * n",
        (0, 2),
    ),
    Scene(
        "vision",
        "What is in the picture?",
        (Turn("text", "A red circle."), Turn("text", "It shows a red circle.")),
        "It shows a red circle.",
        (0, 1),
        (picture(),),
    ),
    Scene("rag", "How much does the pump move?", (QUERIES, GROUNDED), "It moves 40 litres a minute [1].", (0, 1)),
)


def places(number: int, fits: Callable[[Turn], bool]) -> Iterator[tuple[Scene, int]]:
    """A place in each scene for a fault, where it fits; the next fault begins at the scene's next place."""
    for scene in SCENES:
        turn = number % len(scene.places)
        found = (place for place in scene.places[turn:] + scene.places[:turn] if fits(scene.turns[place]))
        yield from ((scene, place) for place in islice(found, 1))


class NoteArgs(ToolArgs):
    text: str
    times: int = 1


class PageArgs(ToolArgs):
    number: int


@dataclass
class Ran:
    """What came of a run."""

    events: list[Event]
    error: BenchAIError | None
    notes: list[str]
    requests: list[dict[str, Any]]

    @property
    def result(self) -> Result:
        assert isinstance(self.events[-1], Result)
        return self.events[-1]

    def of_type(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def told(self) -> str:
        """The rungs and the notices, one after the other."""
        return "\n".join(
            event.rung if isinstance(event, Repair) else event.text for event in self.of_type(Repair, Notice)
        )


@dataclass
class Stage:
    """Plays runs on a scripted server, with a tool that has side effects and one with long results."""

    folder: Path
    n_ctx: int | None = None
    notes: list[str] = field(default_factory=list)
    pages: dict[int, str] = field(default_factory=dict)

    async def _note(self, args: NoteArgs, _: ToolContext) -> str:
        self.notes += [args.text] * args.times
        return "noted"

    async def _page(self, args: PageArgs, _: ToolContext) -> str:
        return self.pages[args.number]

    async def play(
        self,
        workflow: str,
        task: str,
        *replies: Reply,
        budget: Budget | None = None,
        thread_id: str | None = None,
        images: Sequence[bytes] = (),
    ) -> Ran:
        with ScriptedServer(*replies) as server:
            model = server.model(**({"context": self.n_ctx} if self.n_ctx else {}))
            roles = dict.fromkeys(("general", "planner", "code", "vision", "research"), "far")
            config = {"models": {"far": model}, "roles": roles, "tools": {"enabled": ["read_file"]}}
            configured = loaded(self.folder, config)
            if workflow == "rag":
                async with Memory.open(configured.memory_folder) as memory:
                    await memory.put(Namespace(), [document("/pump.md", "The pump moves 40 litres a minute.")])
            async with Bench.open(configured, workspace=self.folder) as bench:
                bench._parts.tools.add(Tool("note", "Note a text.", NoteArgs, self._note, permission="write"))
                bench._parts.tools.add(Tool("page", "Read a page.", PageArgs, self._page))
                events: list[Event] = []
                settings = {"budget": budget, "thread_id": thread_id, "images": images, "approver": _approve}
                error = await _collect(bench.stream(workflow, task, **settings), events)
        return Ran(events, error, self.notes, server.requests)


async def _approve(_: object) -> str:
    return "approve"


async def _collect(stream: Any, events: list[Event]) -> BenchAIError | None:
    try:
        async with aclosing(stream):
            async for event in stream:
                events.append(event)
    except BenchAIError as error:
        return error
    return None


Instead = Callable[[Turn], list[Reply]]


@dataclass(frozen=True)
class Fault:
    """What comes in the place of a right reply, by kind of the turn, and what a run tells of it."""

    tools: tuple[Instead, str] | None = None
    json: tuple[Instead, str] | None = None
    text: tuple[Instead, str] | None = None

    def at(self, turn: Turn) -> tuple[Instead, str] | None:
        return {"tools": self.tools, "json": self.json, "text": self.text}[turn.kind]


def before_right(*wrong: Reply) -> Instead:
    return lambda turn: [*wrong, turn.right]


def _loose(turn: Turn) -> str:
    """Its JSON as Python would write it, which is none."""
    return repr(json.loads(turn.words))


def _tagged(turn: Turn) -> str:
    return f'I will.\n<tool_call>\n{{"name": "note", "arguments": {turn.words}}}\n</tool_call>'


def _halves(turn: Turn) -> list[Reply]:
    # within the blanks of an indented line, which belong to the code
    half = turn.words.find("    ") + 2 if "    " in turn.words else len(turn.words) // 2
    return [text(turn.words[:half], finish="length"), text(turn.words[half:])]


def _wrong_types(turn: Turn) -> list[Reply]:
    return [text(json.dumps(dict.fromkeys(json.loads(turn.words), 7))), turn.right]


VAIN = (before_right(calls(("note", '{"text": "never"}'))), "no_tools")
WRITTEN = text('<tool_call>{"name": "note", "arguments": {"text": "never"}}</tool_call>')
CHOICE = text('{"action": "note"}')
BREAKS = {"reset": lambda at: at.reset(), "closed": lambda at: at.hang_up(), "no end": lambda at: at.close()}

FAULTS: dict[str, Fault] = {
    "malformed arguments": Fault(
        tools=(lambda turn: [calls(("note", _loose(turn)))], "json"),
        json=(lambda turn: [text(_loose(turn))], "json"),
        text=(before_right(calls(("note", "{'text': 'never'}"))), "no_tools"),
    ),
    "unreadable arguments": Fault(
        tools=(lambda turn: [calls(("note", "the text is two")), text(turn.words)], "grammar"),
        json=(before_right(text("I can't say that as JSON.")), "structure"),
        text=(before_right(calls(("note", "the text is two"))), "no_tools"),
    ),
    "cut arguments": Fault(
        tools=(lambda turn: [calls(("note", turn.words[:-4])), turn.right], "cut"),
        json=(lambda turn: [text(turn.words[:-4]), turn.right], "structure"),
        text=(before_right(calls(("note", '{"text": "nev'))), "no_tools"),
    ),
    "call in the text": Fault(
        tools=(lambda turn: [text(_tagged(turn))], "markup"),
        json=(before_right(WRITTEN), "structure"),
        text=(before_right(WRITTEN), "no_tools"),
    ),
    "call in a fence": Fault(
        tools=(lambda turn: [text(f'```json\n{{"name": "note", "arguments": {turn.words}}}\n```')], "markup"),
        json=(lambda turn: [text(f"```json\n{turn.words}\n```")], "json"),
    ),
    "unknown tool": Fault(
        tools=(before_right(calls(("notes_app", "{}"))), ""),
        json=(before_right(calls(("notes_app", "{}"))), "structure"),
        text=(before_right(calls(("notes_app", "{}"))), "no_tools"),
    ),
    "wrong names": Fault(
        tools=(lambda turn: [calls(("note", '{"words": "never"}')), text(turn.words)], "grammar"),
        json=(before_right(text('{"nothing": 1}')), "structure"),
        text=(before_right(calls(("note", '{"words": "never"}'))), "no_tools"),
    ),
    "wrong types": Fault(
        tools=(lambda turn: [calls(("note", '{"text": "never", "times": "many"}')), text(turn.words)], "grammar"),
        json=(_wrong_types, "structure"),
        text=(before_right(calls(("note", '{"text": 7}'))), "no_tools"),
    ),
    "wrong even by grammar": Fault(
        tools=(before_right(calls(("note", '{"text": "never", "times": "many"}')), text('{"times": 1}')), "grammar"),
    ),
    "server can't read the call": Fault(
        tools=(lambda turn: [broken_call(), CHOICE, text(turn.words)], "grammar"),
        json=(before_right(broken_call()), "structure"),
        text=(before_right(broken_call()), "no_tools"),
    ),
    "the same in the stream": Fault(
        tools=(lambda turn: [error_in_stream(testing.UNPARSED), CHOICE, text(turn.words)], "grammar"),
        json=(before_right(error_in_stream(testing.UNPARSED)), "structure"),
        text=(before_right(error_in_stream(testing.UNPARSED)), "no_tools"),
    ),
    "a call where none is possible": Fault(text=VAIN),
    "empty": Fault(*[(before_right(text("")), "empty")] * 3),
    "thoughts alone": Fault(*[(before_right(text("", finish="length")), "empty")] * 3),
    "cut at the limit": Fault(
        tools=(lambda turn: [calls(("note", turn.words[:-4]), finish="length"), turn.right], "cut"),
        json=(lambda turn: [text(turn.words[:-4], finish="length"), turn.right], "structure"),
        text=(_halves, "cut"),
    ),
    "cut before the arguments": Fault(tools=(before_right(calls(("note", ""), finish="length")), "cut")),
    "cut in a call in the text": Fault(
        tools=(lambda turn: [text(_tagged(turn)[:-20], finish="length"), turn.right], "cut"),
    ),
    **{name: Fault(*[(before_right(begun("We", then)), "calling again")] * 3) for name, then in BREAKS.items()},
    "loading": Fault(*[(before_right(*[LOADING] * 4), "calling again when it is ready")] * 3),
}
