"""Routing of conversations on OpenAI's wire: follow-ups, pictures, results of tools, and whatever is no message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config.routing import RoutingConfig
from benchai.runtime.router.conversation import LOOK_BACK, PICTURE_TURNS, conversation, pictures_in
from benchai.runtime.router.route import KEEP, route
from benchai.runtime.router.rules import LONGEST_FOLLOW_UP, Router, Rules
from benchai.runtime.router.tables import FALLBACKS, Tables, expand, phrases, tables

RULES = Rules()
INTENTS = {"code", "planner", "research", "vision", "general"}
PNG = "data:image/png;base64,iVBORw0KGgo="
CODE_ANSWER = "```python\ndef load(path):\n    return json.loads(path.read_text())\n```"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def said(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def picture(text: str = "what is this?", kind: str = "image_url") -> dict[str, Any]:
    return user([{"type": "text", "text": text}, {"type": kind, "image_url": {"url": PNG}}])


CODE = [user("write a function that loads a file"), said(CODE_ANSWER)]
PLAN = [user("plan the move of our office"), said("1. Find rooms.\n2. Pack.\n3. Move.")]
STUDY = [user("compare heat pumps and gas boilers, with sources"), said("Heat pumps need less energy [1].")]
JOKE = [user("tell me a joke"), said("A horse walks into a bar.")]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "42"}


@pytest.mark.parametrize(
    ("before", "text", "intent"),
    [
        (CODE, "and now with error handling", "code"),
        (CODE, "why?", "code"),
        (CODE, "thanks! the same for xml", "code"),
        (CODE, "does it close the handle", "code"),
        (CODE, "Und jetzt bitte kürzer", "code"),
        (CODE, "thank you", "general"),
        (CODE, "great, thanks, that's all for today", "general"),
        (CODE, "by the way, how tall is that tower in Paris?", "general"),
        (CODE, "translate 'good night' to Italian", "general"),
        (CODE, "plan a holiday in Norway", "planner"),
        (CODE, "compare cats and dogs", "research"),
        (CODE, "which birds sleep while flying over the ocean", "general"),
        (PLAN, "make step 2 longer", "planner"),
        (PLAN, "what if we only have one day?", "planner"),
        (PLAN, "write a bash script that lists the rooms", "code"),
        (STUDY, "and in old houses?", "research"),
        (JOKE, "another one", "general"),
        ([*CODE, *JOKE], "another one", "general"),
        ([*JOKE, *CODE], "another one", "code"),
        ([*CODE, user("and for a list?"), said("Then it returns one.")], "what about an empty one", "code"),
        ([user("sum of xs"), said(CODE_ANSWER)], "shorter please", "code"),
        ([user("sum of xs"), said([{"type": "text", "text": CODE_ANSWER}])], "shorter please", "code"),
    ],
)
def test_a_follow_up_stays_and_something_new_does_not(before: list[Any], text: str, intent: str) -> None:
    found = RULES.route([*before, user(text)])
    assert (found.intent, found.role) == (intent, intent), found.reason


def test_a_follow_up_says_so_and_a_first_turn_follows_nothing() -> None:
    found = RULES.route([*CODE, user("and now with error checks")])
    assert found.follows
    assert "goes on from the turns before" in found.reason
    assert not RULES.route([user("and now with error checks")]).follows


def test_a_long_turn_asks_for_something_of_its_own() -> None:
    text = "it is " + "blue " * LONGEST_FOLLOW_UP
    assert not RULES.route([*CODE, user(text)]).follows
    assert RULES.route([*CODE, user("it is " + "blue " * (LONGEST_FOLLOW_UP - 2))]).follows


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_a_picture_in_the_last_turn_means_vision_whatever_is_asked(kind: str) -> None:
    found = RULES.route([*CODE, picture("write the html for it", kind)])
    assert (found.role, found.intent, found.picture) == ("vision", "vision", True)
    assert "a picture comes with it" in found.reason


@pytest.mark.parametrize(
    ("turns", "role"), [(0, "vision"), (1, "vision"), (PICTURE_TURNS - 1, "vision"), (PICTURE_TURNS, "general")]
)
def test_a_picture_counts_for_the_last_turns_alone(turns: int, role: str) -> None:
    later = [message for number in range(turns) for message in (said("A bicycle."), user(f"colour of wheel {number}"))]
    found = RULES.route([picture(), *later])
    assert found.role == role, found.reason
    assert found.picture == (role == "vision")


def test_a_picture_that_a_tool_brought_counts() -> None:
    shown = {"role": "tool", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}
    assert RULES.route([user("open it"), CALL, shown, said("Done."), user("what colour is it")]).role == "vision"


def test_words_about_a_picture_need_one() -> None:
    found = RULES.route([user("what do you see in this picture?")])
    assert (found.intent, found.role, found.picture) == ("vision", "general", False)
    assert "no picture came" in found.reason


def test_pictures_are_found_however_old() -> None:
    old = [picture(), *(user("hi") for _ in range(LOOK_BACK * 2))]
    assert pictures_in(old)
    assert not pictures_in(old[1:])
    assert not pictures_in(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        {"role": "function", "name": "f", "content": "42"},
        user([{"type": "tool_result", "tool_use_id": "a", "content": "42"}]),
    ],
)
def test_the_result_of_a_tool_goes_back_to_the_model_that_called(result: dict[str, Any]) -> None:
    found = RULES.route([user("plan a holiday in Norway"), CALL, result])
    assert (found.role, found.intent) == (KEEP, "planner")
    assert dict(found.allowed)["planner"] == 0
    assert "goes back to the model" in found.reason
    assert RULES.route([user("plan a holiday in Norway"), CALL, result, system("be brief")]).role == KEEP


def test_a_turn_after_the_result_of_a_tool_is_routed() -> None:
    assert RULES.route([user("hi"), CALL, RESULT, said("42"), user("plan a holiday in Norway")]).role == "planner"


def test_a_system_prompt_tips_a_balance_and_decides_nothing() -> None:
    prompt = system("You are a Python programmer. You refactor functions and write unit tests.")
    plain, prompted = (RULES.route([*before, user("what is the weather like in May?")]) for before in ([], [prompt]))
    assert plain.role == prompted.role == "general"
    assert prompted.scores["code"] - plain.scores["code"] == 0.5
    assert "system prompt" in prompted.signals["code"]


def test_tools_let_weak_signs_count() -> None:
    asked = [user("check the repository")]
    assert RULES.route(asked).role == "general"
    assert RULES.route(asked, tools=True).role == "code"


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "hello",
        7,
        {},
        [],
        [None],
        [7, "x", [], {}],
        [{"role": "user"}],
        [{"role": ["user"], "content": "x"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": {"text": "x"}}],
        [
            {
                "role": "user",
                "content": [None, 7, "x", {"type": ["text"]}, {"type": "text"}, {"type": "text", "text": 3}],
            }
        ],
        [{"content": "plan a trip"}],
        [{"role": "tool"}],
        [{"role": "user", "content": "\ud800 plan \x00"}],
        [{"role": "system", "content": 3}, {"role": "assistant", "content": []}],
    ],
)
def test_what_is_no_conversation_gets_a_route(messages: Any) -> None:
    found = RULES.route(messages)
    assert found.intent in INTENTS
    assert found.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.sampled_from(
    ["plan ", "def f(x): ", "and ", "thanks ", "compare a and b", "```\nx\n```", "? ", "it", "ß", "\ud800"]
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "tool_result", "x"]), "text": TEXT | JSON})
    | JSON,
    max_size=4,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system", "x"]) | JSON, "content": TEXT | PARTS | JSON}
    )
    | JSON,
    max_size=8,
)


@given(MESSAGES, st.booleans())
def test_any_messages_get_the_same_route_twice(messages: list[Any], tools: bool) -> None:
    found = RULES.route(messages, tools)
    assert found == Rules().route(messages, tools)
    assert found.intent in INTENTS
    assert found.role in INTENTS | {KEEP}
    assert 0 <= found.complexity <= 1
    assert found.picture == (conversation(messages).picture is not None)
    assert found.picture <= (found.intent == "vision")


@given(st.text(), st.booleans())
def test_a_single_turn_is_routed_like_its_text(text: str, parts: bool) -> None:
    content = [{"type": "text", "text": text}] if parts else text
    alone = route(text)
    found = RULES.route([user(content)])
    assert (found.role, found.intent, found.complexity, found.reason) == (
        alone.role,
        alone.intent,
        alone.complexity,
        alone.reason,
    )


@given(st.lists(st.sampled_from([*CODE, *PLAN, *JOKE, picture(), CALL, RESULT]), max_size=20))
def test_what_lies_far_back_makes_no_difference(old: list[dict[str, Any]]) -> None:
    recent = [message for _ in range(LOOK_BACK) for message in (user("blue"), said("Blue."))]
    last = [*recent, user("and green?")]
    assert RULES.route([*old, *last]) == RULES.route(last)


def test_a_router_of_ones_own_fits_the_protocol() -> None:
    routers: list[Router] = [RULES]
    assert routers[0].route([user("hi")]).role == "general"


@pytest.mark.parametrize(
    ("phrase", "several"),
    [
        ("a", {"a"}),
        ("query(s)", {"query", "querys"}),
        ("optimi[ze|se] it", {"optimize it", "optimise it"}),
        ("debug(ger|ging)", {"debug", "debugger", "debugging"}),
    ],
)
def test_phrases_are_expanded(phrase: str, several: set[str]) -> None:
    assert set(expand(phrase)) == several
    assert set(phrases(f"x|{phrase}|y z")) == several | {"x", "y z"}


def test_every_phrase_can_be_found_by_the_words_of_a_text() -> None:
    from benchai.runtime.router.reading import read, words_of

    known = tables()
    for signal in known.signals:
        for phrase in phrases(signal.words):
            assert words_of(phrase) == phrase.split(), phrase
            assert signal.name in read(phrase, known).found.get(signal.intent, ()), phrase


def test_fallbacks_name_roles_that_exist_and_never_the_role_itself() -> None:
    for role, others in FALLBACKS.items():
        assert role not in others
        assert set(others) < INTENTS
        assert min(others.values(), default=1) > 0
    assert FALLBACKS["vision"] == {}


def test_the_config_adds_words_expressions_terms_limits_and_roles() -> None:
    config = RoutingConfig.model_validate(
        {
            "signals": [
                {"intent": "code", "points": 3, "words": ["ABAP", "Z-Report"], "name": "SAP"},
                {"intent": "research", "regex": r"ticket #\d+"},
                {"intent": "general", "points": -10, "words": ["plan b"], "opening": True},
            ],
            "technical_terms": ["BAPI call"],
            "thresholds": {"simple": 0.1, "planner": 0.15, "research": 0.5},
            "roles": {"research": "planner", "code": "coder"},
            "fallbacks": {"code": {"general": 5}},
        }
    )
    rules = Rules(tables(config))
    assert RULES.route([user("my z-report is empty")]).intent == "general"
    found = rules.route([user("my z-report is empty")])
    assert (found.intent, found.role, found.reason) == ("code", "coder", "code: SAP")
    assert dict(found.allowed) == {"coder": 0, "general": 5}
    assert rules.route([user("what about Ticket #12")]).role == "planner"
    assert rules.route([user("a bapi call")]).factors["technical_terms"] == 1
    assert RULES.route([user("blue " * 35)]).role == "general"
    assert rules.route([user("blue " * 35)]).role == "planner"


def test_the_built_in_tables_are_not_changed_by_a_config() -> None:
    before = tables()
    tables(RoutingConfig.model_validate({"signals": [{"intent": "code", "words": ["blue"]}]}))
    assert isinstance(before, Tables)
    assert RULES.route([user("blue")]).intent == "general"
