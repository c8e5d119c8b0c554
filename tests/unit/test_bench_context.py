"""``benchai bench context`` without an engine: the conversations and the sums."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from benchai.cli.bench_context import print_context
from benchai.runtime.measure.context import ContextReport, Layout, saved
from benchai.runtime.measure.conversations import CLEARED, Session, Turn, log_question, questions_of


@pytest.mark.parametrize(
    ("before", "after", "share"), [(100, 25, 0.75), (100, 100, 0.0), (100, 150, -0.5), (0, 5, 0.0)]
)
def test_the_share_that_is_saved(before: int, after: int, share: float) -> None:
    assert saved(before, after) == share


def test_questions_differ_by_session_and_turn() -> None:
    assert len({log_question(session, turn) for session in range(3) for turn in range(3)}) == 9
    own = questions_of(["a", "b"])
    assert [own(0, 0), own(0, 1), own(0, 2), own(1, 0)] == ["a", "b", "a", "b"]
    assert questions_of([]) is log_question


def test_old_turns_are_cleared_and_left_out() -> None:
    session = Session("http://unused", 10, 8)
    system = session.messages[0]
    for turn in range(3):
        session.messages += [{"role": "user", "content": f"q{turn}"}, {"role": "assistant", "content": f"a{turn}"}]
    session.clear(1)
    assert [one["content"] for one in session.messages[1:]] == ["q0", "a0", CLEARED, "a1", "q2", "a2"]
    session.drop_oldest()
    assert [one["content"] for one in session.messages[1:]] == [CLEARED, "a1", "q2", "a2"]
    assert session.messages[0] is system
    assert Session("http://unused", 11, 8).messages[0] != system


def report() -> ContextReport:
    turns = ((Turn(1000, 1000, 0.5), Turn(1000, 1000, 0.5)), (Turn(2000, 2000, 1.0), Turn(1500, 500, 0.2)))
    return ContextReport("m", "e 1", 2, 4096, 256, 512, (Layout("sessions", "off", "on", turns),))


def test_the_tables_and_the_data() -> None:
    console = Console(file=StringIO(), width=200, highlight=False)
    print_context(report(), console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "--cache-ram 256 keeps about 512 tokens" in text
    assert "sessions: off -> on" in text
    second, total = [line.split() for line in text.splitlines() if line.startswith(("2 ", "all"))]
    assert second == ["2", "2,000", "->", "1,500", "2,000", "500", "75", "%", "1.00", "s", "0.20", "s"]
    assert total == ["all", "3,000", "1,500", "50", "%"]
    data = json.loads(json.dumps(report().as_json()))
    [layout] = data["layouts"]
    assert (layout["saved"], [turn["saved"] for turn in layout["turns"]]) == (0.5, [0.0, 0.75])
    assert layout["turns"][1]["after"] == {
        "prompt_tokens": 1500,
        "evaluated_tokens": 500,
        "first_token_seconds": 0.2,
    }
