"""What the benchmarks of the router compute, and how their clients judge answers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from benchmarks.router_parts.client import Way as ClientWay
from benchmarks.router_parts.figures import Goal, Growth, goals, latencies, table, throughput_goals, throughputs
from benchmarks.router_parts.ways import CPP, CPP_DIRECT, DIRECT, OURS, Way
from benchmarks.soak import Found, violations
from benchmarks.soak_parts.clients import KINDS, Ask, Outcome, dechunked, draw, judged, taken_apart

WAYS = [
    Way(DIRECT, "", "tiny"),
    Way(OURS, "", "auto"),
    Way(CPP, "", "tiny", CPP_DIRECT),
    Way(CPP_DIRECT, "", "tiny", CPP_DIRECT),
]


def burst(*total: float, cpu: float = 0.0, wall: float = 1.0, events: int = 0) -> dict[str, Any]:
    return {
        "total": list(total),
        "first": list(total),
        "cpu": cpu,
        "wall": wall,
        "events": events,
        "bytes": events * 10,
    }


def test_added_is_against_the_same_engine_in_the_same_round() -> None:
    found = {
        DIRECT: [burst(1, 1), burst(11, 11)],
        OURS: [burst(1.5, 1.5, cpu=2), burst(11.5, 11.5, cpu=2)],
        CPP: [burst(3, 3), burst(3, 3)],
        CPP_DIRECT: [burst(2, 2), burst(2, 2)],
    }
    made = {one.way: one for one in latencies(WAYS, found, "total")}
    assert (made[OURS].added_p50, made[OURS].added_p99) == (0.5, 0.5)
    assert (made[CPP].added_p50, made[CPP].ratio) == (1, 1.5)
    assert (made[DIRECT].added_p50, made[OURS].cpu) == (None, 1)
    assert table(list(made.values()))[2][:4] == [OURS, "6.50", "11.50", "+0.50"]
    asked = goals("x", list(made.values()), 0.4, 3.0)
    assert [one.met for one in asked] == [True, False, True]
    assert "NOT met" in str(asked[1])


def test_a_way_of_which_every_request_failed_is_left_out() -> None:
    found = {DIRECT: [burst(1)], OURS: [burst()], CPP: [burst()], CPP_DIRECT: [burst()]}
    assert [one.way for one in latencies(WAYS, found, "total")] == [DIRECT]
    assert goals("x", latencies(WAYS, found, "total"), 1, 1) == []


def test_throughput_is_a_share_of_direct() -> None:
    found = {DIRECT: [burst(1, events=100)] * 2, OURS: [burst(1, events=97), burst(1, events=99)]}
    made = throughputs(WAYS[:2], found)
    assert made[1].share == pytest.approx(0.98)
    assert throughput_goals(made)[0].met
    assert not Goal("x", 0.97, 0.98, at_least=True).met


def test_memory_is_judged_by_its_second_half() -> None:
    assert Growth([0, 1000, 2000, 3000, 4000], [10, 40, 50, 51, 52]).per_thousand == 1


def test_each_request_has_its_own_number() -> None:
    way = ClientWay("x", "http://127.0.0.1:1/v1/chat/completions", {"text": "number {number}"})
    head, _, body = way.request(7).partition(b"\r\n\r\n")
    assert json.loads(body) == {"text": "number 7"}
    assert f"content-length: {len(body)}".encode() in head.lower()


# ---- the soak


def test_the_same_seed_asks_the_same() -> None:
    def asked(seed: int) -> list[Ask]:
        chance = random.Random(seed)
        return [draw(number, ["auto"], chance) for number in range(200)]

    assert asked(1) == asked(1) != asked(2)
    assert {one.kind for one in asked(1)} == set(KINDS)
    assert len({one.id for one in asked(1)}) == 200


WHOLE: dict[str, Any] = {"model": "auto"}
STREAM = WHOLE | {"stream": True}
CHUNK = b'data: {"choices":[{"delta":{},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'{"error": {"message": "it broke off", "type": "server_error"}}'


@pytest.mark.parametrize(
    ("body", "status", "data", "verdict"),
    [
        (WHOLE, 200, b'{"choices": [{"finish_reason": "stop"}]}', "ok"),
        (WHOLE, 200, b'{"choices": [{"finish_reason": null}]}', "WRONG"),
        (WHOLE, 200, b'{"choices": []}', "WRONG"),
        (WHOLE, 200, None, "WRONG"),
        (WHOLE, 503, ERROR, "error"),
        (WHOLE, 500, ERROR, "WRONG"),
        (WHOLE, 503, b"oops", "WRONG"),
        (WHOLE, 503, b'{"error": "oops"}', "WRONG"),
        (STREAM, 200, CHUNK + LAST + DONE, "ok"),
        (STREAM, 200, b": waiting\n\n" + CHUNK + LAST + DONE, "ok"),
        (STREAM, 200, CHUNK + LAST, "WRONG"),
        (STREAM, 200, CHUNK + DONE, "WRONG"),
        (STREAM, 200, CHUNK + LAST + LAST + DONE, "WRONG"),
        (STREAM, 200, CHUNK + LAST + DONE + DONE, "WRONG"),
        (STREAM, 200, CHUNK + b"data: " + ERROR + b"\n\n", "error"),
        (STREAM, 200, CHUNK + b"data: " + ERROR + b"\n\n" + DONE, "WRONG"),
        (STREAM, 200, b'data: {"choices\n\n' + DONE, "WRONG"),
        (STREAM, 503, ERROR, "error"),
    ],
)
def test_an_answer_is_whole_or_a_proper_error(
    body: dict[str, Any], status: int, data: bytes | None, verdict: str
) -> None:
    assert judged(Ask("1", "whole", body), status, {}, data).startswith(verdict)


def test_an_answer_is_taken_apart() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-BenchAI-Cache: exact\r\n\r\n"
    assert taken_apart(head + b"{}")[2] == b"{}"
    assert taken_apart(head + b"{")[2] is None
    assert taken_apart(head + b"{}{}")[2] is None
    assert taken_apart(head)[1]["x-benchai-cache"] == "exact"
    assert dechunked(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n") == b"abc"
    assert dechunked(b"2\r\nab\r\n") is None
    assert dechunked(b"2\r\nab\r\n0\r\n\r\nmore") is None


def found(end: str, *rows: tuple[str, str, int], **more: Any) -> Found:
    return Found(
        [Outcome(Ask("a", "whole", WHOLE), "ok"), Outcome(Ask("b", "whole", WHOLE), end)], rows=list(rows), **more
    )


OK = ("a", "ok", 200)


@pytest.mark.parametrize(
    ("what", "count"),
    [
        (found("ok", OK, ("b", "ok", 200)), 0),
        (found("error", OK, ("b", "EndpointLost", 502)), 0),
        (found("left", OK, ("b", "cancelled", 499)), 0),
        (found("ok", OK), 2),
        (found("ok", OK, ("b", "ok", 200), ("b", "ok", 200)), 1),
        (found("ok", OK, ("b", "ok", 200), ("c", "ok", 200)), 1),
        (found("ok", OK, ("b", "EndpointLost", 502)), 1),
        (found("error", OK, ("b", "ok", 200)), 1),
        (found("WRONG: no end after 60 s", OK, ("b", "cancelled", 499)), 1),
        (found("ok", OK, ("b", "ok", 200), left=["7: llama-server"]), 1),
        (found("ok", OK, ("b", "ok", 200), log="Traceback (most recent call last)"), 1),
        (found("ok", OK, ("b", "ok", 200), rss=[100.0] * 6 + [130.0] * 2), 1),
        (found("ok", OK, ("b", "ok", 200), rss=[10.0, 100.0, 100.0, 100.0, 101.0, 101.0, 100.0, 100.0]), 0),
        # in a long run a leak of 14 MiB is told, in a short one the server is still loading
        (found("ok", OK, ("b", "ok", 200), rss=[100.0] * 80 + [107.0] * 40 + [114.0] * 40), 1),
        (found("ok", OK, ("b", "ok", 200), rss=[100.0] * 80 + [103.0] * 40 + [106.0] * 40), 0),
        (found("ok", OK, ("b", "ok", 200), rss=[100.0] * 8 + [107.0] * 4 + [114.0] * 4), 0),
    ],
)
def test_what_does_not_hold_is_told(what: Found, count: int) -> None:
    assert len(violations(what)) == count
