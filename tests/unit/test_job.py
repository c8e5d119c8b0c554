"""Whole replies: which of them engines are asked for as streams."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from benchai.runtime.endpoints import Endpoint
from benchai.server.openai.job import Job

ENDPOINT = Endpoint("general", "tiny", "http://localhost/v1", "tiny", 4096, "cpu", 10, 100)


@pytest.mark.parametrize(
    ("path", "data", "streamed"),
    [
        ("/chat/completions", {}, True),
        ("/chat/completions", {"n": 2}, True),
        ("/completions", {"prompt": "Hello"}, True),
        ("/completions", {"prompt": ["Hello", "you"], "n": 2}, True),
        ("/completions", {"prompt": "Hello", "best_of": 2}, False),
        ("/responses", {"input": "Hello"}, True),
        ("/embeddings", {"input": "Hello"}, False),
        ("/rerank", {}, False),
    ],
)
def test_whole_replies_are_asked_for_as_streams(path: str, data: dict[str, Any], streamed: bool) -> None:
    job = Job("", path, data)
    assert job.assembled is streamed
    assert (orjson.loads(job.body_for(ENDPOINT)).get("stream") is True) is streamed
    assert not Job("", path, data | {"stream": True}).assembled
