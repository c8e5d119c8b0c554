"""Which conversation a request belongs to: stable from turn to turn, never shared by what differs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.runtime.router.session import POINTS, Sessions, session_id
from tests.unit.test_route_conversations import said, system, user

CALL = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "42"}


def image(url: str) -> dict[str, Any]:
    return user([{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_first_hundred_characters_do_not_collide() -> None:
    same = "x" * 100
    long = "y" * 100_000
    several = [[user(same + one), said("ok"), user("go on")] for one in ("", "a", "b", long, long + "a")] + [
        [user(same), said(one), user("go on")] for one in ("ok.", "", same)
    ]
    assert len({session_id(one, "key") for one in several}) == len(several)


def test_the_id_is_sha_256() -> None:
    found = session_id([user("hi")])
    assert len(bytes.fromhex(found)) == hashlib.sha256().digest_size
    assert found == session_id([user("hi")])


DIFFERENT: list[list[Any]] = [
    [user("ab"), said("c"), user("?")],
    [user("a"), said("bc"), user("?")],
    [user("abc"), said(""), user("?")],
    [said("ab"), user("c"), user("?")],
    [user("ab"), user("c"), user("?")],
    [user("ab"), said("c"), said(""), user("?")],
    [user(["ab"]), said("c"), user("?")],
    [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), said("c"), user("?")],
    [user([{"type": "text", "text": "ab"}, {"type": "text", "text": ""}]), said("c"), user("?")],
    [system("ab"), said("c"), user("?")],
    [image("data:image/png;base64,AAAA"), said("c"), user("?")],
    [image("data:image/png;base64,AAAB"), said("c"), user("?")],
    [user("ab"), CALL, RESULT, said("c"), user("?")],
    [user("ab"), CALL, {**RESULT, "content": "43"}, said("c"), user("?")],
    [user("ab"), CALL, {**RESULT, "tool_call_id": "b"}, said("c"), user("?")],
    [user("4:said"), said("c"), user("?")],
    [user(True), said("c"), user("?")],
    [user(1), said("c"), user("?")],
    [user(1.0), said("c"), user("?")],
    [user("1"), said("c"), user("?")],
    [user(None), said("c"), user("?")],
    [user([]), said("c"), user("?")],
    [user({}), said("c"), user("?")],
    [None, user("?"), user("?")],
]


def test_whatever_differs_before_the_last_turn_has_another_id() -> None:
    ids = [session_id(one) for one in DIFFERENT]
    assert len(set(ids)) == len(ids)


def test_the_last_turn_and_what_follows_it_do_not_count() -> None:
    before = [system("s"), user("a"), said("b")]
    ids = {session_id([*before, *after]) for after in ([user("c")], [user("d")], [user("c"), CALL, RESULT])}
    assert len(ids) == 1


def test_a_first_turn_counts_with_its_system_prompt() -> None:
    first = [[system("s"), user(text)] for text in ("a", "b")] + [[system("t"), user("a")], [user("a")]]
    assert len({session_id(one) for one in first}) == len(first)


def test_the_key_counts_and_cannot_be_moved_into_the_messages() -> None:
    assert (
        len({session_id([user(text)], key) for key, text in (("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", ""))}) == 4
    )


def test_a_text_is_the_same_as_a_string_and_as_a_part() -> None:
    part = [{"type": "text", "text": "hi"}]
    assert session_id([user("hi"), said("a"), user("b")]) == session_id([user(part), said("a"), user("b")])


def test_fields_that_clients_add_make_no_difference() -> None:
    plain = [user("hi"), said("a"), user("b")]
    adorned = [user("hi"), {**said("a"), "refusal": None, "tool_calls": [], "annotations": [], "id": 7}, user("b")]
    assert session_id(plain) == session_id(adorned)


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "x",
        [],
        [None, 7, "x", []],
        [{"role": ["user"], "content": 1}],
        [{"role": "user", "content": "\ud800"}],
        [{"role": "user", "content": 10**5000}, user("x")],
        [{"role": "user", "content": {1: 2, "1": object()}}, user("x")],
    ],
)
def test_malformed_messages_have_an_id(messages: Any) -> None:
    assert session_id(messages) == session_id(messages)
    assert Sessions().find(messages).new


def test_deep_contents_have_an_id() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert session_id([user(deep), user("x")])


def test_a_conversation_keeps_its_session_and_its_model_from_turn_to_turn() -> None:
    sessions = Sessions()
    talk: list[Any] = [system("s"), user("turn 0")]
    first = sessions.find(talk, "key")
    assert first.new
    assert (first.model, first.turns) == (None, 1)
    for turn in range(1, 3 * POINTS):
        sessions.bind(first.id, "coder")
        talk += [said(f"answer {turn}"), user(f"turn {turn}")]
        found = sessions.find(talk, "key")
        assert not found.new
        assert (found.id, found.model, found.turns) == (first.id, "coder", turn + 1)
    assert len(sessions) == 1


def test_a_reply_that_the_client_changed_costs_nothing() -> None:
    sessions = Sessions()
    first = sessions.find([user("hi")])
    assert sessions.find([user("hi"), said("shortened..."), user("go on")]).id == first.id


def test_the_steps_of_a_loop_of_tools_are_one_session() -> None:
    sessions = Sessions()
    first = sessions.find([user("look it up")])
    sessions.bind(first.id, "coder")
    found = sessions.find([user("look it up"), CALL, RESULT])
    assert (found.id, found.model, found.turns) == (first.id, "coder", 1)
    later = sessions.find([user("look it up"), CALL, RESULT, said("42"), user("thanks")])
    assert (later.id, later.turns) == (first.id, 2)


def test_two_conversations_that_begin_alike_part_where_they_differ() -> None:
    sessions = Sessions()
    one = sessions.find([user("hi")])
    sessions.bind(one.id, "coder")
    again = sessions.find([user("hi")])
    assert (again.id, again.new) == (one.id, False)
    went_on = sessions.find([user("hi"), said("a"), user("x")])
    branch = sessions.find([user("hi"), said("b"), user("y")])
    assert went_on.id == one.id
    assert branch.id != one.id
    assert (branch.branch_of, branch.model, branch.new) == (one.id, "coder", True)
    sessions.bind(branch.id, "small")
    assert sessions.find([user("hi"), said("a"), user("x"), said("c"), user("z")]).model == "coder"
    assert sessions.find([user("hi"), said("b"), user("y"), said("c"), user("z")]).model == "small"


def test_a_turn_that_was_edited_is_a_branch_and_a_second_try_is_none() -> None:
    sessions = Sessions()
    start = [user("a"), said("b")]
    first = sessions.find([user("a")])
    assert sessions.find([*start, user("c")]).id == first.id
    assert sessions.find([*start, user("c")]).id == first.id
    edited = sessions.find([*start, user("C")])
    assert edited.branch_of == first.id
    # two branches from one point, with the same words before their last turn, are two
    other = sessions.find([*start, user("CC")])
    assert len({first.id, edited.id, other.id}) == 3
    assert sessions.find([*start, user("C"), said("d"), user("e")]).id == edited.id
    assert sessions.find([*start, user("CC"), said("d"), user("e")]).id == other.id


def test_keys_share_no_session() -> None:
    sessions = Sessions()
    first = sessions.find([user("hi")], "a")
    sessions.bind(first.id, "coder")
    other = sessions.find([user("hi"), said("x"), user("y")], "b")
    assert (other.new, other.model, other.branch_of) == (True, None, None)


def test_what_was_unused_too_long_is_forgotten() -> None:
    clock = Clock()
    sessions = Sessions(ttl=10, clock=clock)
    old = sessions.find([user("old")])
    clock.now = 6
    young = sessions.find([user("young")])
    clock.now = 10
    assert not sessions.find([user("old")]).new
    clock.now = 16
    assert not sessions.find([user("young")]).new
    clock.now = 20.5
    assert sessions.find([user("old")]).new
    assert not sessions.find([user("young")]).new
    sessions.bind(old.id, "m")
    sessions.bind("gone", "m")
    assert len(sessions) == 2
    assert young.id != old.id


def test_the_one_unused_longest_goes_first() -> None:
    sessions = Sessions(limit=2)
    for text in ("a", "b", "a", "c"):
        sessions.find([user(text)])
    assert len(sessions) == 2
    assert not sessions.find([user("a")]).new
    assert sessions.find([user("b")]).new


def test_what_was_found_is_a_snapshot() -> None:
    sessions = Sessions()
    first = sessions.find([user("a")])
    sessions.bind(first.id, "coder")
    sessions.find([user("a")])
    assert (first.new, first.model) == (True, None)


TURNS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=5)


@given(st.lists(TURNS, max_size=30), st.integers(1, 5))
def test_memory_is_bounded_and_nothing_dangles(talks: list[list[str]], limit: int) -> None:
    clock = Clock()
    sessions = Sessions(limit=limit, ttl=7, clock=clock)
    for turns in talks:
        clock.now += 1
        messages = [message for turn in turns for message in (user(turn), said("ok"))]
        found = sessions.find(messages[:-1])
        assert len(sessions) <= limit
        assert sessions.find(messages[:-1]).id == found.id
    points = sessions._points
    assert set(points.values()) <= set(sessions._sessions)
    assert len(points) == sum(len(one.points) for one in sessions._sessions.values())


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=4)), min_size=1, max_size=5), st.data()
)
def test_different_conversations_have_different_ids(first: list[tuple[str, str]], data: st.DataObject) -> None:
    second = data.draw(
        st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=4)), min_size=1, max_size=5)
    )
    one, two = (
        session_id([{"role": role, "content": text} for role, text in talk] + [user("last")])
        for talk in (first, second)
    )
    assert (one == two) == (first == second)
