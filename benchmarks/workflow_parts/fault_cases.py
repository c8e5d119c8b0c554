"""The faults of small models and their servers, as replies of a scripted server, and what has to come of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchai.errors import BenchAIError
from benchai.events import Event, Observation, Result
from benchai.testing import Reply, begun, broken_call, calls, chosen, error, overflow, text

TASK = "What is 6 * 7?"
WORDS = "It is 42."


def final(words: str) -> Reply:
    """An answer, by a call where a framework ends its runs so."""

    def choose(request: Mapping[str, Any]) -> Reply:
        names = [tool["function"]["name"] for tool in request.get("tools", [])]
        return calls(("final_answer", json.dumps({"answer": words}))) if "final_answer" in names else text(words)

    return chosen(choose)


ANSWER = final(WORDS)
ARGUMENTS = '{"expression": "6 * 7"}'
RIGHT = calls(("calculator", ARGUMENTS))
LOOSE = calls(("calculator", "{'expression': '6 * 7',}"))
CUT = text("It is", finish="length")
FULL = overflow(4_500, 4_096)
LOADING = error(503, message="Loading model", type="unavailable_error")
TAGGED = f'I will.\n<tool_call>\n{{"name": "calculator", "arguments": {ARGUMENTS}}}\n</tool_call>'
FENCED = f'```json\n{{"name": "calculator", "arguments": {ARGUMENTS}}}\n```'
LONG, LINES = "long.txt", 200
PAGES = range(4)
#: So often a model that never stops calls before a peer's run is brought to an end.
PATIENCE = 60
#: Clients ask again by themselves, in the same words: a model at temperature 0 answers those as before.
RETRIES = 5
GAVE_UP = f"asked {PATIENCE} times"


@dataclass
class Played:
    """One replay: its events, its error, and the requests that the server had."""

    events: list[Event]
    error: BenchAIError | None
    requests: list[dict[str, Any]]
    seconds: float

    @property
    def result(self) -> Result:
        last = self.events[-1]
        assert isinstance(last, Result)
        return last

    @property
    def ran(self) -> int:
        """How many tool calls were carried out."""
        return sum(isinstance(event, Observation) and event.ok for event in self.events)


def ids_fit(requests: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every call of the last request has an id of its own, and a result under that id."""
    messages = requests[-1]["messages"]
    asked = [call["id"] for message in messages for call in message.get("tool_calls") or []]
    return len(set(asked)) == len(asked) and asked == [
        message["tool_call_id"] for message in messages if message["role"] == "tool"
    ]


def paired(played: Played) -> bool:
    """Whether calls and results were kept together."""
    return ids_fit(played.requests)


def clamped(played: Played) -> bool:
    """Whether the long result came as a share of the context, with the way to the rest."""
    said = str(played.requests[-1]["messages"][-1]["content"])
    return len(said) < 4_000 and "left out" in said and "read_file path=" in said


@dataclass(frozen=True)
class Case:
    """Replies with a fault, and what has to come of them; ``tools`` is how many tool calls may be carried out.

    ``elsewhere`` are the replies for a framework that does not ask again by a grammar, where they differ; () where a
    replay would prove nothing.
    """

    name: str
    replies: tuple[Reply, ...]
    tools: int = 1
    ends: str = "completed"
    also: Callable[[Played], bool] = lambda _: True
    elsewhere: tuple[Reply, ...] | None = None

    def verdict(self, played: Played) -> str:
        """ "recovered", "ended: REASON" where that is right, or "FAILED: ..."."""
        reason = played.result.stop_reason
        if reason != self.ends or played.ran != self.tools or not self.also(played):
            return f"FAILED: ended with {reason}, {played.ran} tool calls, {played.error}"
        if reason == "completed":
            right = played.result.output == WORDS
            return "recovered" if right else f"FAILED: answered {played.result.output!r}"
        return f"ended: {reason}" + (f" ({type(played.error).__name__})" if played.error else "")


@dataclass(frozen=True)
class Fault:
    """A row: the fault, what peers do (LangChain create_agent, OpenAI Agents SDK, smolagents, pydantic-ai, CrewAI,
    deepagents), and how it is replayed."""

    name: str
    peers: str
    cases: tuple[Case, ...] = field(default=())


def _read(path: str) -> Reply:
    return calls(("read_file", json.dumps({"path": path})))


def _twice(call_id: str | None) -> Reply:
    return calls(("calculator", ARGUMENTS, call_id), ("calculator", '{"expression": "6 * 8"}', call_id))


def _mended(name: str, wrong: Reply) -> Case:
    """A call that can't be used; who asks again by a grammar gets the arguments, others a right call."""
    return Case(name, (wrong, text(ARGUMENTS), ANSWER), elsewhere=(wrong, RIGHT, ANSWER))


def _lost(then: Callable[[Any], None]) -> tuple[Reply, ...]:
    return RIGHT, begun("We", then), ANSWER


FAULTS = (
    Fault(
        "tool arguments are malformed or cut-off JSON",
        "end silently with an empty answer, or run the tool on the raw string",
        (
            Case("malformed", (LOOSE, ANSWER), elsewhere=(LOOSE, RIGHT, ANSWER)),
            _mended("no JSON at all", calls(("calculator", "six times seven"))),
            Case("cut off", (calls(("calculator", ARGUMENTS[:-5])), RIGHT, ANSWER)),
        ),
    ),
    Fault(
        "a tool call in the text instead of a call",
        "hand it to the user as the answer",
        (Case("<tool_call>", (text(TAGGED), ANSWER)), Case("fenced JSON", (text(FENCED), ANSWER))),
    ),
    Fault("unknown tool", "abort the run", (Case("unknown", (calls(("compute", "{}")), RIGHT, ANSWER)),)),
    Fault(
        "wrong argument names or types",
        "crash or loop",
        (
            _mended("names", calls(("calculator", '{"formula": "6 * 7"}'))),
            _mended("types", calls(("calculator", '{"expression": [6, 7]}'))),
        ),
    ),
    Fault(
        "the same call again and again",
        "go on up to 9,999 steps",
        (
            Case("a model that can stop", (*[RIGHT] * 4, ANSWER), tools=4, ends="loop", elsewhere=()),
            Case(
                "a model that never stops",
                (RIGHT,),
                tools=4,
                ends="loop",
                elsewhere=(*[RIGHT] * PATIENCE, final(GAVE_UP)),
            ),
        ),
    ),
    Fault(
        "context overflow",
        "raise",
        (
            Case(
                "400",
                (*[_read(f"page{n}.txt") for n in PAGES], FULL, ANSWER),
                tools=len(PAGES),
                elsewhere=(*[RIGHT] * 4, FULL, ANSWER),
            ),
        ),
    ),
    Fault("503 Loading model", "die within seconds", (Case("503", (*[LOADING] * 4, RIGHT, ANSWER)),)),
    Fault(
        "empty reply",
        'success with ""',
        (
            Case("once", (text(""), RIGHT, ANSWER)),
            Case("always", (text(""),), tools=0, ends="error"),
        ),
    ),
    Fault(
        "reply cut at max tokens",
        "treat as complete",
        (
            Case("text", (RIGHT, CUT, text(" 42.")), elsewhere=(RIGHT, CUT, ANSWER)),
            Case("call", (calls(("calculator", ARGUMENTS[:-5]), finish="length"), RIGHT, ANSWER)),
        ),
    ),
    Fault(
        "missing or duplicate tool-call ids",
        "confuse results",
        (
            Case("missing", (_twice(None), ANSWER), tools=2, also=paired),
            Case("duplicate", (_twice("same"), ANSWER), tools=2, also=paired),
        ),
    ),
    Fault(
        'HTTP 500 "Failed to parse tool call"',
        "die",
        (
            Case(
                "500 to the same request each time",
                (broken_call(), text('{"action": "calculator"}'), text(ARGUMENTS), ANSWER),
                elsewhere=(*[broken_call()] * RETRIES, RIGHT, ANSWER),
            ),
        ),
    ),
    Fault(
        "connection reset mid-stream, server killed",
        "die",
        (
            Case("reset", _lost(lambda exchange: exchange.reset())),
            Case("closed", _lost(lambda exchange: exchange.hang_up())),
            Case("no end", _lost(lambda exchange: exchange.close())),
        ),
    ),
    Fault(
        "huge tool result", "overflow", (Case("32,000 characters", (_read(LONG), ANSWER), also=clamped, elsewhere=()),)
    ),
)
