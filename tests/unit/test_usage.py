"""Rows, periods, statistics, uptime and targets: pure computations on figures that were counted by hand."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config import Config
from benchai.errors import UsageError
from benchai.runtime.usage.periods import moment, span, when
from benchai.runtime.usage.row import COLUMNS, UsageRow, checked_comment, feedback_value, new_id, speed_of, values_of
from benchai.runtime.usage.schema import MIGRATIONS
from benchai.runtime.usage.statistics import (
    BUCKETS,
    Facts,
    Measured,
    Summary,
    highest_concurrency,
    percentile,
    summarise,
)
from benchai.runtime.usage.targets import GpuFigures, Target, judge, share_of
from benchai.runtime.usage.uptime import Change, Service, Uptime, uptimes

NOW = 1_800_000_000.0


def measured(**known: Any) -> Measured:
    empty: dict[str, Any] = dict.fromkeys(Measured._fields)
    return Measured(**(empty | {"time": 10.0, "total_s": 1.0, "cache": "none", "outcome": "ok"} | known))


def row(**known: Any) -> UsageRow:
    fields: dict[str, Any] = {"id": "a", "time": NOW}
    return UsageRow(**(fields | known))


def test_a_row_is_the_columns_of_its_table() -> None:
    columns = re.findall(r"(\w+) (?:TEXT|REAL|INTEGER)", MIGRATIONS[0][0])
    added = re.findall(r"ALTER TABLE requests ADD COLUMN (\w+)", str(MIGRATIONS[1:]))
    assert columns + added == ["number", *COLUMNS]
    assert values_of(row(role="code", comment="c"))[COLUMNS.index("comment")] == "c"
    assert not {"request", "reply"} & set(COLUMNS)


def test_ids_differ() -> None:
    assert len({new_id() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("known", "speed"),
    [
        ({"tokens_per_s": 7.0, "tokens_out": 100, "first_token_s": 1.0, "total_s": 2.0}, 7.0),
        ({"tokens_out": 11, "first_token_s": 1.0, "total_s": 3.0}, 5.0),
        ({"tokens_out": 1, "first_token_s": 1.0, "total_s": 3.0}, None),
        ({"tokens_out": 11, "total_s": 3.0}, None),
        ({"first_token_s": 1.0, "total_s": 3.0}, None),
        ({"tokens_out": 11, "first_token_s": 3.0, "total_s": 3.0}, None),
        ({"tokens_out": 11, "first_token_s": 1.0, "total_s": 3.0, "cache": "exact"}, None),
    ],
)
def test_the_speed_of_a_reply(known: dict[str, Any], speed: float | None) -> None:
    assert speed_of(row(**known)) == speed


@pytest.mark.parametrize(("given_value", "kept"), [("up", 1), ("down", -1), (0, 0), (-1, -1), (0.25, 0.25), (1, 1)])
def test_what_feedback_may_be(given_value: str | float, kept: float) -> None:
    assert feedback_value(given_value) == kept


@pytest.mark.parametrize("value", ["", "Up", "good", "1", 1.01, -2, True, False, float("nan"), float("inf"), None, [1]])
def test_what_feedback_may_not_be(value: Any) -> None:
    with pytest.raises(UsageError, match="feedback"):
        feedback_value(value)


def test_comments() -> None:
    assert checked_comment(None) is checked_comment("  \n") is None
    assert checked_comment(" fine ") == " fine "
    assert checked_comment("half a pair: \ud800") == "half a pair: ?"
    with pytest.raises(UsageError, match="4001 characters"):
        checked_comment("x" * 4001)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604_800), ("12h", 43_200), ("30m", 1800), ("90 s", 90), ("2w", 1_209_600), ("1.5H", 5400), ("0d", 0)],
)
def test_an_age(text: str, seconds: float) -> None:
    assert moment(text, NOW) == NOW - seconds
    assert abs(moment(text) - (time.time() - seconds)) < 60


def test_a_date() -> None:
    assert moment("2026-11-01") == datetime(2026, 11, 1).timestamp()
    assert moment(" 2026-11-01T12:30 ") == datetime(2026, 11, 1, 12, 30).timestamp()
    assert moment("2026-11-01T12:00:00+00:00") == 1_793_534_400


@pytest.mark.parametrize("text", ["", "yesterday", "7", "-7d", "7y", "d", "2026-13-01", "1e3d", "9" * 40 + "d", "7d7d"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match="is no moment") as caught:
        moment(text)
    assert "7d" in str(caught.value.hint)


def test_moments_and_spans_for_people() -> None:
    assert when(datetime(2026, 11, 1, 8, 5).timestamp()) == "2026-11-01 08:05"
    assert (when(1e30), when(-1e30)) == ("the end", "the beginning")
    assert [span(value) for value in (5, 90, 7200, 7 * 86_400)] == ["5 s", "1.5 min", "2 h", "7 d"]


def test_percentiles_by_nearest_rank() -> None:
    values = [15.0, 20.0, 35.0, 40.0, 50.0]
    assert [percentile(values, share) for share in (0.05, 0.3, 0.4, 0.5, 0.95, 1.0)] == [15, 20, 20, 35, 50, 50]
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.0) == 3.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_that_covers(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found is not None
    assert sum(one <= found for one in values) >= share * len(values) - 1e-9
    assert sum(one < found for one in values) < share * len(values)


@pytest.mark.parametrize(
    ("intervals", "highest"),
    [
        ([], 0),
        ([(1, 2)], 1),
        ([(1, 2), (2, 3)], 1),
        ([(1, 3), (2, 4), (3, 5)], 2),
        ([(0, 10), (1, 2), (3, 4), (3.5, 5)], 3),
        # one that was refused at once came while the other was under way
        ([(1, 3), (2, 2)], 2),
        ([(2, 2)], 1),
    ],
)
def test_the_highest_concurrency(intervals: list[tuple[float, float]], highest: int) -> None:
    assert highest_concurrency([begin for begin, _ in intervals], [end for _, end in intervals]) == highest


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), max_size=20))
def test_the_highest_concurrency_is_that_at_some_begin(pairs: list[tuple[int, int]]) -> None:
    intervals = [(begin, begin + length) for begin, length in pairs]
    counts = [sum(begin <= moment < end for begin, end in intervals) for moment, _ in intervals]
    found = highest_concurrency([begin for begin, _ in intervals], [end for _, end in intervals])
    assert found == max(counts, default=0)


def test_figures_of_groups() -> None:
    rows = [
        measured(name="code", time=0.0, total_s=2.0, first_token_s=0.5, tokens_in=100, tokens_out=10, tokens_cached=50),
        measured(name="code", time=1.0, total_s=4.0, first_token_s=1.5, tokens_in=300, tokens_out=30, tokens_per_s=9.0),
        measured(name="code", time=2.0, total_s=9.0, cache="exact", tokens_per_s=11.0, tokens_cached=0, feedback=1.0),
        measured(name="code", time=50.0, total_s=0.1, outcome="QueueFull", tokens_in=5, feedback=-0.5),
        measured(name="code", time=60.0, total_s=0.2, outcome="cancelled"),
        measured(name=None, time=99.9, total_s=1.0),
    ]
    found = summarise(rows, 0.0, 100.0)
    code = found.groups[0]
    assert (code.name, code.requests, code.errors, code.cancelled) == ("code", 5, 1, 1)
    assert (code.total_p50, code.total_p95, code.first_token_p50, code.first_token_p95) == (4.0, 9.0, 0.5, 1.5)
    assert (code.tokens_in, code.tokens_out, code.tokens_per_s) == (400, 40, 9.0)
    # tokens of a prompt whose cached part is not known count for nothing
    assert (code.cached, code.hits, code.feedback) == (0.5, 1 / 3, 0.25)
    assert [(group.name, group.requests) for group in found.groups] == [("code", 5), (None, 1)]
    assert (found.total.requests, found.total.errors) == (6, 1)
    assert found.groups[1].cached is found.groups[1].feedback is found.groups[1].first_token_p50 is None


def test_a_timeline() -> None:
    rows = [
        measured(time=0.0),
        measured(time=0.5),
        measured(time=47.9, outcome="Unavailable"),
        measured(time=48.0),
        measured(time=99),
    ]
    timeline = summarise(rows, 0.0, 48.0).timeline
    assert len(timeline) == BUCKETS
    assert (timeline[0].requests, timeline[0].total_p50) == (2, 1.0)
    # what came at the end, or was written by a clock that runs ahead, is in the last
    assert (timeline[-1].requests, timeline[-1].errors, timeline[-1].time) == (3, 1, 47.0)
    assert sum(bucket.requests for bucket in timeline) == 5


def test_no_rows_are_no_figures() -> None:
    found = summarise([], 5.0, 5.0)
    assert (found.total.requests, found.total.total_p50, found.total.hits, found.groups) == (0, None, None, ())
    assert (found.facts.at_once, list(found.facts.code)) == (0, [])


def test_what_counts_for_the_targets() -> None:
    rows = [
        measured(time=1, total_s=3, role="code"),
        measured(time=2, total_s=9, role="code", cache="exact"),
        measured(time=2.5, total_s=9, role="code", outcome="cancelled"),
        measured(time=20, total_s=99, role="code", workflow="planner-coder-reviewer"),
        measured(time=30, total_s=1, role="general", score=0.29),
        measured(time=31.5, total_s=2, role="general", score=0.3),
        measured(time=40, total_s=4, role="general"),
        measured(time=50, total_s=5, role="planner", score=0.1),
    ]
    facts = summarise(rows, 0, 200).facts
    assert (list(facts.code), list(facts.simple)) == ([3], [1, 4])
    assert (facts.at_once, facts.served_at_once) == (3, 2)


def life(*states: tuple[float, str, str], service: str = "s", model: str = "m") -> list[Change]:
    return [Change(service, at, model, previous, state) for at, previous, state in states]


def service(started: float, seen: float, core: dict[str, str] | None = None, name: str = "s") -> Service:
    return Service(name, started, seen, {"code": "m"} if core is None else core)


START = ((1, "stopped", "starting"), (2, "starting", "ready"))


@pytest.mark.parametrize(
    ("states", "up", "down", "away"),
    [
        (START, 98, 0, 2),
        # it fell over, and came back
        ((*START, (50, "ready", "backoff"), (51, "backoff", "starting"), (52, "starting", "ready")), 96, 2, 2),
        # stopped to make room, and brought back
        (
            (
                *START,
                (40, "ready", "stopping"),
                (41, "stopping", "stopped"),
                (60, "stopped", "starting"),
                (62, "starting", "ready"),
            ),
            76,
            0,
            24,
        ),
        # it never came up
        (((1, "stopped", "starting"), (5, "starting", "failed")), 0, 95, 5),
        # asked for again after a failure: not up until it is ready
        (
            (
                (0, "stopped", "starting"),
                (10, "starting", "failed"),
                (20, "failed", "stopped"),
                (21, "stopped", "starting"),
                (30, "starting", "ready"),
            ),
            70,
            20,
            10,
        ),
        # given up on purpose while it waited to be started again
        ((*START, (50, "ready", "backoff"), (60, "backoff", "stopped")), 48, 10, 42),
    ],
)
def test_the_uptime_of_a_role(states: tuple[tuple[float, str, str], ...], up: float, down: float, away: float) -> None:
    [found] = uptimes([service(0, 100)], reversed(life(*states)), 0, 1000)
    assert (found.role, found.up, found.down, found.away) == ("code", up, down, away)
    assert found.share == (up / (up + down))


def test_the_uptime_within_a_period() -> None:
    changes = life(*START, (50, "ready", "backoff"), (60, "backoff", "ready"), (90, "ready", "failed"))
    [found] = uptimes([service(0, 100)], changes, 40, 80)
    assert (found.up, found.down, found.away) == (30, 10, 0)


def test_the_uptime_over_several_servers() -> None:
    services = [service(0, 10, name="a"), service(50, 60, {"code": "m", "chat": "remote"}, name="b")]
    changes = life((0, "starting", "ready"), service="a") + life((50, "starting", "failed"), service="b")
    [found] = uptimes(services, changes, 0, 100)
    assert (found.role, found.up, found.down, found.share) == ("code", 10, 10, 0.5)


def test_a_role_that_was_never_wanted_has_no_uptime() -> None:
    [found] = uptimes([service(0, 10)], life((5, "stopped", "stopped")), 0, 100)
    assert found.share is None
    assert uptimes([service(0, 10)], [], 0, 100) == []


GOOD = Facts(code=[7.0] * 19 + [9.9], simple=[2.0], at_once=3, served_at_once=2)
UP = [Uptime("code", up=999, down=1), Uptime("planner", up=995, down=5, away=1000)]
GPU = GpuFigures(samples=10, memory=0.66, compute=0.2)


def verdicts(targets: list[Target]) -> list[str]:
    return [target.verdict for target in targets]


def test_all_targets_are_met() -> None:
    targets = judge(GOOD, UP, 0, GPU)
    assert verdicts(targets) == ["pass"] * 5
    assert [target.goal for target in targets] == ["< 10 s", "< 5 s", "> 99 %", "> 60 %", ">= 2"]
    assert [target.measured for target in targets] == ["p95 7.00 s", "p95 2.00 s", "99.5 %", "66 %", "2"]
    assert "code 99.9 %, planner 99.5 %; 16.7 min seen" in targets[2].detail
    assert "computing 20 %" in targets[3].detail


def test_no_target_is_met() -> None:
    facts = Facts(code=[10.0], simple=[1.0] * 18 + [5.0] * 2, at_once=2, served_at_once=1)
    targets = judge(facts, [*UP, Uptime("general", up=99, down=1)], 2, GpuFigures(1, 0.6, None))
    assert verdicts(targets) == ["fail"] * 5
    assert "killed 2 times" in targets[2].detail
    assert "computing not told" in targets[3].detail
    assert all(target.as_json()["value"] is not None for target in targets)


def test_targets_without_data() -> None:
    targets = judge(Facts([], [], 1, 1), [Uptime("code", away=5)], 0, None)
    assert verdicts(targets) == ["no data"] * 5
    assert all(target.detail and target.value is None and not target.measured for target in targets)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "100 %"), (0.99999, "99.99 %"), (0.29, "29 %"), (0.5, "50 %"), (0.0, "0 %"), (0.1234, "12.34 %")],
)
def test_a_share_is_never_rounded_up(share: float, shown: str) -> None:
    assert share_of(share) == shown


def test_a_summary_as_plain_data() -> None:
    found: Summary = summarise([measured(name="code")], 0.0, 100.0)
    data = found.as_json()
    assert data["groups"][0]["name"] == "code"
    assert data["total"]["requests"] == 1
    assert len(data["timeline"]) == BUCKETS


@pytest.mark.parametrize("wrong", [{"retention": 0}, {"retention": 1.5}, {"contents": 3}, {"keep": 1}])
def test_settings_that_are_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="usage"):
        Config.model_validate({"models": {"a": {"file": "a.gguf"}}, "usage": wrong})


def test_settings_that_are_not_given() -> None:
    usage = Config.model_validate({"models": {"a": {"file": "a.gguf"}}}).usage
    assert (usage.enabled, usage.contents, usage.retention) == (True, False, 90)


def test_a_row_can_be_changed_only_into_another() -> None:
    first = row()
    with pytest.raises(AttributeError):
        first.status = 500  # type: ignore[misc]
    assert replace(first, status=500).status == 500
