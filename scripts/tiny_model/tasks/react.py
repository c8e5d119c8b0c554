"""Conversations with the agent: one to three questions, a set of tools, sometimes no system prompt."""

from __future__ import annotations

from scripts.tiny_model.conversation import Conversation, Schema
from scripts.tiny_model.prompts import system_prompt
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks import calculate, clock, files, other_tools, talk
from scripts.tiny_model.tasks.turn import Maker, Turn
from scripts.tiny_model.tools import shipped_box, toolbox

SINGLE: dict[Maker, float] = {
    calculate.one_step: 3.0,
    clock.clock: 1.6,
    files.listing: 1.2,
    files.reading: 2.2,
    other_tools.invented: 2.6,
    other_tools.hand_written: 1.2,
    talk.small_talk: 0.8,
    talk.knowledge: 1.0,
    talk.own_name: 0.3,
}
SEVERAL: dict[Maker, float] = {
    calculate.two_steps: 2.0,
    calculate.two_questions: 0.8,
    files.list_then_read: 1.0,
    files.read_two: 0.5,
    files.read_then_calculate: 1.2,
}
NEEDING: tuple[Maker, ...] = (
    calculate.one_step,
    clock.clock,
    files.files,
    other_tools.invented,
    other_tools.hand_written,
)


def choose(draw: Draw, makers: dict[Maker, float]) -> Turn:
    """A turn of one of the makers, by weight."""
    return draw.rng.choices(list(makers), list(makers.values()))[0](draw)


def refused(draw: Draw) -> Turn:
    """A request whose tool is missing."""
    return talk.without_tool(draw, draw.rng.choice(NEEDING)(draw))


def tools_for(draw: Draw, turns: list[Turn]) -> list[Schema] | None:
    """A set of tools in which every turn's answer is right; None when its turns exclude each other."""
    needed: list[Schema] = []
    for turn in turns:
        needed += [tool for tool in turn.needed if tool not in needed]
    forbidden = set().union(*(turn.forbidden for turn in turns))
    if forbidden & {tool["function"]["name"] for tool in needed}:
        return None
    near = next((turn.near for turn in turns if turn.near), None)
    only_shipped = all(tool in shipped_box(draw) for tool in needed)
    box = shipped_box(draw) if only_shipped and draw.chance(0.4) else toolbox(draw, needed, near)
    return [tool for tool in box if tool["function"]["name"] not in forbidden]


def assemble(draw: Draw, task: str, turns: list[Turn], tools: list[Schema], role: str = "react") -> Conversation:
    """One conversation of all turns."""
    if not draw.held_out and draw.chance(0.06):
        tools = [reordered(tool) for tool in tools]
    conversation = Conversation(task, tools=tools)
    for turn in turns:
        for message in turn.talk.messages:
            conversation.messages.append(message)
    renumber(conversation)
    conversation.system(system_prompt(draw, role, optional=True))
    return conversation


def renumber(conversation: Conversation) -> None:
    """Give every tool call of the joined turns an id of its own."""
    number = 0
    for message in conversation.messages:
        if "tool_calls" in message:
            number += 1
            message["tool_calls"][0]["id"] = f"call_{number}"
        elif message["role"] == "tool":
            message["tool_call_id"] = f"call_{number}"


def reordered(schema: Schema) -> Schema:
    """The schema with its keys in the order of other libraries."""
    function = schema["function"]
    form = function["parameters"]
    properties = {name: dict(reversed(kind.items())) for name, kind in form["properties"].items()}
    order = {"properties": properties, "required": form["required"], "type": "object"}
    return {"type": "function", "function": {**function, "parameters": order}}


def single(draw: Draw, task: str, maker: Maker) -> Conversation:
    """A conversation of one question."""
    while True:
        turns = [maker(draw)]
        tools = tools_for(draw, turns)
        if tools is not None:
            return assemble(draw, task, turns, tools)


def thread(draw: Draw, task: str, makers: dict[Maker, float], low: int = 2, high: int = 3) -> Conversation:
    """A conversation of several questions over one set of tools."""
    while True:
        turns = [choose(draw, makers) for _ in range(draw.rng.randint(low, high))]
        tools = tools_for(draw, turns)
        if tools is not None and len(tools) <= 7:
            return assemble(draw, task, turns, tools)


def without_tools(draw: Draw) -> Conversation:
    """A conversation in which no tools are offered at all."""
    turns = [talk.small_talk(draw) if draw.chance(0.5) else talk.knowledge(draw) if draw.chance(0.4) else refused(draw)]
    return assemble(draw, "no tools", turns, [])
