"""Replies on the OpenAI wire: what servers say in place of them."""

from __future__ import annotations

import pytest

from benchai.agents.wire import ServerError


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no", "type": "t"}}, "HTTP 400: no"),
        ({"error": "no"}, "HTTP 400: no"),
        ({"message": "no"}, "HTTP 400: no"),
        ("<html>", "HTTP 400: <html>"),
        ("", "HTTP 400: it does not say why"),
        ([1], "HTTP 400: [1]"),
    ],
)
def test_what_a_server_says(body: object, words: str) -> None:
    assert str(ServerError(body, 400)) == words


def test_the_inner_error_is_the_body() -> None:
    assert ServerError({"error": {"type": "t"}}, 400).body == {"type": "t"}
