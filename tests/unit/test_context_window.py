"""A conversation that is longer than its model's context: what is shortened, in which order, and what never is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

from benchai.agents.context import KEPT_RESULTS, Compaction, Context, Summarise, compacted, room_of
from benchai.agents.messages import aside, is_question
from benchai.agents.role import Request
from benchai.errors import ContextExceeded, EndpointError
from benchai.runtime.endpoints import Endpoint
from tests.unit.listed import Listed

pytestmark = pytest.mark.anyio
SYSTEM = SystemMessage("You are brief.")
FAR = Endpoint("general", "far", "http://127.0.0.1:9/v1", "far", 4096, "remote", 60, 1024)
N_CTX = 1000


def step(number: int, length: int, calls: int = 1) -> list[AnyMessage]:
    """A call and its result."""
    made = [ToolCall(name="page", args={"n": number}, id=f"c{number}.{one}", type="tool_call") for one in range(calls)]
    results = [ToolMessage(f"{number}" * length, tool_call_id=f"c{number}.{one}", name="page") for one in range(calls)]
    return [AIMessage("", tool_calls=made), *results]


def turn(name: str, steps: int, length: int, answer: str | None = "It is so.") -> list[AnyMessage]:
    """A question, steps towards its answer, and the answer."""
    body: list[AnyMessage] = [HumanMessage(f"Question {name}?")]
    for number in range(steps):
        body += step(number, length)
    return [*body, *([AIMessage(answer)] if answer else [])]


def too_long(needed: int, n_ctx: int = N_CTX) -> ContextExceeded:
    return ContextExceeded("too long", n_prompt_tokens=needed, n_ctx=n_ctx)


def size(messages: Sequence[AnyMessage]) -> int:
    return sum(len(str(message.content)) for message in messages)


async def seen(context: Context, messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    return list(await context.view(Request(messages), FAR))


async def shrunk(
    messages: Sequence[AnyMessage], needed: int, summarise: Summarise | None = None, n_ctx: int = N_CTX
) -> tuple[Context, Listed, bool]:
    answer = Listed()
    context = Context(answer.emit, summarise=summarise)
    return context, answer, await context.shrink(Request(messages), too_long(needed, n_ctx))


def assert_whole(messages: Sequence[AnyMessage]) -> None:
    """Every call stands with its results, and no result without its call."""
    waiting: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in waiting
            waiting.remove(message.tool_call_id)
        else:
            assert not waiting
        if isinstance(message, AIMessage):
            waiting = {str(call["id"]) for call in message.tool_calls}


async def test_what_fits_is_left_alone() -> None:
    messages = [SYSTEM, *turn("one", 3, 100)]
    assert await seen(Context(Listed().emit), messages) == messages


async def test_old_results_are_cleared_first() -> None:
    messages = [SYSTEM, *turn("one", 6, 1_000, None)]
    context, answer, done = await shrunk(messages, 850)
    view = await seen(context, messages)
    assert done
    assert answer.compacted == ["cleared old results"]
    results = [str(message.content) for message in view if isinstance(message, ToolMessage)]
    cleared = [text.startswith("(cleared: 1000 characters") for text in results]
    assert cleared == [True] * (6 - KEPT_RESULTS) + [False] * KEPT_RESULTS
    assert len(view) == len(messages)
    assert_whole(view)


async def test_old_turns_are_summarised_next_and_the_question_stays() -> None:
    asked: list[str] = []

    async def summarise(text: str) -> str:
        asked.append(text)
        return "They spoke of one."

    messages = [SYSTEM, *turn("one", 0, 0, "word " * 900), *turn("two", 1, 100, None)]
    context, answer, done = await shrunk(messages, 1_500, summarise)
    view = await seen(context, messages)
    assert done
    assert answer.compacted == ["summarised old turns"]
    assert view[0] == SYSTEM
    assert "They spoke of one." in str(view[1].content)
    assert view[3:] == messages[3:]
    assert "Question one?" in asked[0] or asked[0].endswith("word")


@pytest.mark.parametrize("fails", [True, False])
async def test_without_a_summary_old_turns_are_left_out(fails: bool) -> None:
    async def summarise(_: str) -> str:
        raise EndpointError("it is gone")

    messages = [SYSTEM, *turn("one", 0, 0, "word " * 900), HumanMessage("Question two?")]
    context, _, done = await shrunk(messages, 1_500, summarise if fails else None)
    view = await seen(context, messages)
    assert done
    assert "(left out)" in str(view[1].content)
    assert view[-1] == messages[-1]


async def test_pairs_are_dropped_next_and_results_clamped_last() -> None:
    messages = [SYSTEM, *turn("one", 1, 2_000), *turn("two", 40, 400, None)]
    context, answer, done = await shrunk(messages, 9_000)
    view = await seen(context, messages)
    assert done
    assert answer.compacted == ["cleared old results, summarised old turns, dropped old calls"]
    assert [str(message.content) for message in view if is_question(message)][-1] == "Question two?"
    assert view[-2:] == messages[-2:]
    assert len([message for message in view if isinstance(message, ToolMessage)]) == 1
    assert_whole(view)
    huge = [SYSTEM, *turn("one", 1, 9_000, None)]
    context, answer, done = await shrunk(huge, 3_000)
    view = await seen(context, huge)
    assert (done, answer.compacted) == (True, ["clamped results"])
    assert "9000 characters in all" in str(view[-1].content)
    assert size(view) < 1_500


async def test_a_question_that_is_too_long_itself_cannot_be_helped() -> None:
    messages = [SYSTEM, HumanMessage("word " * 5_000)]
    context, answer, done = await shrunk(messages, 9_000)
    assert (done, answer.events, await seen(context, messages)) == (False, [], messages)


async def test_what_fits_only_without_room_for_a_long_reply_is_tried_once() -> None:
    messages = [SYSTEM, HumanMessage("word " * 500)]
    context, _, done = await shrunk(messages, 900)
    assert done
    assert not await context.shrink(Request(messages), too_long(900))


async def test_shrinking_ends() -> None:
    messages = [SYSTEM, *turn("one", 3, 900), *turn("two", 9, 900, None)]
    context = Context(Listed().emit)
    tries = 0
    while await context.shrink(Request(messages), too_long(50_000)):
        tries += 1
        assert tries < 10
        assert_whole(await seen(context, messages))
    assert HumanMessage("Question two?") in await seen(context, messages)


async def test_a_server_that_tells_no_figures_is_believed_too() -> None:
    messages = [SYSTEM, *turn("one", 9, 900, None)]
    context = Context(Listed().emit)
    assert await context.shrink(Request(messages), ContextExceeded("too long"))
    assert size(await seen(context, messages)) < size(messages) / 2


async def test_between_two_compactions_the_beginning_stays_the_same() -> None:
    messages: list[AnyMessage] = [SYSTEM, *turn("one", 2, 400), *turn("two", 4, 400, None)]
    context, _, _ = await shrunk(messages, 1_300)
    views = [await seen(context, messages)]
    for number in range(5, 9):
        messages += step(number, 200)
        views.append(await seen(context, messages))
    # neither an answer nor a new question changes what stands before it
    for more in ([AIMessage("It is so.")], [HumanMessage("Question three?")], step(9, 100), [aside("Go on.")]):
        messages += more
        views.append(await seen(context, messages))
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(views))


async def test_what_was_shortened_stays_so_in_the_next_step() -> None:
    messages = [SYSTEM, *turn("one", 6, 400, None)]
    context, _, _ = await shrunk(messages, 1_100)
    kept = Context(Listed().emit, Compaction(**vars(context.state)))
    assert await seen(kept, messages) == await seen(context, messages)


def test_asides_are_no_questions() -> None:
    messages = [SYSTEM, *turn("one", 2, 300, None), aside("You repeat yourself."), *step(7, 300), aside("Wrap up.")]
    view = compacted(messages, Compaction(cleared=7, dropped=6))
    assert [str(message.content) for message in view if is_question(message)] == ["Question one?"]
    assert_whole(view)


TURNS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 900), st.booleans()), min_size=1, max_size=4)


@given(TURNS, st.lists(st.integers(600, 9_000), max_size=4))
def test_calls_keep_their_results_and_the_question_stays(turns: list[tuple[int, int, bool]], needed: list[int]) -> None:
    messages: list[AnyMessage] = [SYSTEM]
    for place, (steps, length, told) in enumerate(turns):
        last = place == len(turns) - 1
        messages += turn(str(place), steps, length, None if last else "It is so.")
        messages += [aside("Go on.")] * (told and last)

    async def check() -> None:
        context = Context(Listed().emit)
        for tokens in needed:
            before = size(await seen(context, messages))
            await context.shrink(Request(messages), too_long(tokens))
            view = await seen(context, messages)
            assert view[0] == SYSTEM
            assert_whole(view)
            questions = [message for message in view if is_question(message)]
            assert questions[-1].content == f"Question {len(turns) - 1}?"
            assert size(view) <= before + 200

    asyncio.run(check())


@pytest.mark.parametrize(
    ("n_ctx", "limit", "room"), [(4096, 1024, 3072), (4096, 256, 3840), (4096, 99_999, 3072), (4096, 0, 3072)]
)
def test_a_reply_keeps_room(n_ctx: int, limit: int, room: int) -> None:
    assert room_of(n_ctx, limit) == room
