"""Errors in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchai import errors
from benchai.errors import BenchAIError, ContextExceeded, EndpointNotReady, QueueFull, Unavailable, UsageError
from benchai.server.openai.errors import LONGEST, Reply, error_body, failure, malformed, openai_error, unknown_model
from tests.unit.test_serving import every_error


def parts(reply: Reply) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    status, headers, body = reply
    return status, dict(headers), json.loads(body)["error"]


def test_the_shape() -> None:
    status, headers, error = parts(openai_error(418, "no", type="t", param="p", code="c", headers=[(b"x", b"y")]))
    assert status == 418
    assert headers == {b"content-type": b"application/json", b"x": b"y"}
    assert error == {"message": "no", "type": "t", "param": "p", "code": "c"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_the_kind_that_belongs_to_a_status(status: int, kind: str) -> None:
    assert parts(openai_error(status, "no"))[2]["type"] == kind


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_an_answer(kind: type[BenchAIError]) -> None:
    status, headers, error = parts(failure(kind("what is 'x'", hint="mend it")))
    assert (status, error["message"]) == (kind.status, "what is 'x'; mend it")
    assert 400 <= status < 600
    waits = issubclass(kind, Unavailable | EndpointNotReady)
    assert (b"retry-after" in headers) is waits


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ContextExceeded("9 tokens of 8"), (400, "context_length_exceeded", "messages")),
        (QueueFull("full"), (429, "queue_full", None)),
        (Unavailable("later"), (503, "model_unavailable", None)),
        (EndpointNotReady("loads"), (503, "model_unavailable", None)),
        (UsageError("wrong"), (400, None, None)),
        (unknown_model("gtp", ["gpt", "code"]), (404, "model_not_found", "model")),
    ],
)
def test_codes_that_clients_look_at(error: BenchAIError, expected: tuple[int, str | None, str | None]) -> None:
    status, _, told = parts(failure(error))
    assert (status, told["code"], told["param"]) == expected


@pytest.mark.parametrize(("seconds", "header"), [(0, b"1"), (1, b"1"), (1.2, b"2"), (60, b"60")])
def test_when_to_come_again(seconds: float, header: bytes) -> None:
    assert parts(failure(Unavailable("later", retry_after=seconds)))[1][b"retry-after"] == header


def test_an_unknown_model_has_a_nearest_one() -> None:
    assert parts(failure(unknown_model("gtp", ["gpt", "code"])))[2]["message"] == (
        "the model 'gtp' does not exist; did you mean 'gpt'?"
    )
    assert len(failure(unknown_model("x" * 100_000, ["a"]))[2]) < 400


def test_what_cannot_be_encoded_is_told_all_the_same() -> None:
    body = error_body("half \ud800 \x00 \u20ac", "t")
    assert body.isascii()
    assert json.loads(body)["error"]["message"] == "half \ud800 \x00 \u20ac"
    assert len(error_body("x" * 100_000, "t")) < LONGEST + 200


def test_the_log_of_an_engine_stays_here() -> None:
    error = errors.EngineStartError("it ended", log=["/home/ann/secret"], hint="look")
    assert b"secret" not in failure(error)[2]


def test_wrong_fields_are_named() -> None:
    status, _, error = parts(malformed([(("messages", 0, "role"), "missing"), (("n",), "not a number")]))
    assert (status, error["param"]) == (400, "messages.0.role")
    assert "messages.0.role: missing; n: not a number" in error["message"]
    assert parts(malformed([]))[2]["param"] is None
