"""Replies of a form: mended where the meaning is certain, complained about once, refused the second time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, Field

from benchai.agents.messages import is_question
from benchai.agents.role import Request
from benchai.agents.structured import structured
from benchai.errors import BadStructure, EmptyReply, EndpointError, UnreadableCall
from tests.unit.listed import Listed, as_json, called, said

pytestmark = pytest.mark.anyio
REQUEST = Request([SystemMessage("Plan."), HumanMessage("Build a house.")], tools=[{"type": "function"}])


class House(BaseModel):
    """A form."""

    floors: int = Field(ge=1)
    name: str = "home"


def one_floor(house: House) -> str | None:
    return "it is too high" if house.floors > 1 else None


@pytest.mark.parametrize(
    ("reply", "rungs"),
    [
        (as_json(floors=1), []),
        (said("```json\n{'floors': 1,}\n```"), ["json"]),
        (said('{"floors": "1"}'), []),
        (called(("House", {"floors": 1})), []),
        (called(("House", '{"floors": 1}')), []),
    ],
    ids=["plain", "mended", "coerced", "as a call", "as a call's text"],
)
async def test_a_reply_becomes_an_instance(reply: AIMessage, rungs: list[str]) -> None:
    answer = Listed(reply)
    assert await structured(answer, REQUEST, House, answer.emit) == House(floors=1)
    assert answer.rungs == rungs


async def test_the_schema_is_the_grammar_and_no_tool_is_offered() -> None:
    answer = Listed(as_json(floors=1))
    await structured(answer, REQUEST, House, answer.emit)
    [sent] = answer.requests
    assert sent.schema is not None
    assert (sent.schema["required"], list(sent.schema["properties"]), sent.tools) == (
        ["floors"],
        ["floors", "name"],
        (),
    )


@pytest.mark.parametrize(
    ("wrong", "about"),
    [
        (as_json(name="home"), "'floors' is missing"),
        (as_json(floors="many"), "floors = 'many' is wrong"),
        (as_json(floors=0), "floors = 0 is wrong"),
        (as_json(floors=3), "it is too high"),
        (said("Three floors."), "is no JSON object"),
        (said('{"floors": 1, "na'), "it is cut off"),
        (EmptyReply("nothing"), "is no JSON object"),
        (UnreadableCall("unread"), "is no JSON object"),
        (called(("House", "three floors")), "is no JSON object"),
    ],
)
async def test_a_wrong_reply_is_complained_about_once(wrong: Any, about: str) -> None:
    answer = Listed(wrong, as_json(floors=1))
    assert await structured(answer, REQUEST, House, answer.emit, one_floor) == House(floors=1)
    assert answer.rungs[-1] == "structure"
    assert about in answer.asked(1)
    *before, shown, asked = answer.requests[1].messages
    assert before == list(REQUEST.messages)
    assert isinstance(shown, AIMessage)
    assert shown.text
    assert not is_question(asked)
    assert answer.requests[1].schema == answer.requests[0].schema


async def test_a_cut_reply_gets_more_room() -> None:
    answer = Listed(said('{"floors": 1, "name": "a long', cut=True, used=300), as_json(floors=1))
    await structured(answer, REQUEST, House, answer.emit)
    assert [sent.max_tokens for sent in answer.requests] == [None, 600]


@pytest.mark.parametrize("second", [as_json(floors=3), said("Three."), EmptyReply("nothing")])
async def test_the_second_wrong_reply_is_an_error(second: Any) -> None:
    answer = Listed(as_json(floors=2), second)
    with pytest.raises(BadStructure, match="does not answer as House"):
        await structured(answer, REQUEST, House, answer.emit, one_floor)
    assert len(answer.requests) == 2


async def test_an_endpoint_that_refuses_is_no_matter_of_form() -> None:
    answer = Listed(EndpointError("refused"))
    with pytest.raises(EndpointError, match="refused"):
        await structured(answer, REQUEST, House, answer.emit)
    assert answer.rungs == []


async def test_a_long_wrong_reply_is_shown_in_part() -> None:
    answer = Listed(said(json.dumps({"name": "x" * 9_000})), as_json(floors=1))
    await structured(answer, REQUEST, House, answer.emit)
    assert len(str(answer.requests[1].messages[-2].text)) == 2_000
