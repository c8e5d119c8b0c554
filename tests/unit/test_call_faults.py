"""Which failures of a call put the engine in doubt: silence, and a connection that broke."""

from __future__ import annotations

import aiohttp
import pytest

from benchai.agents.faults import is_cut, is_timeout


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientConnectionResetError("reset"),
        aiohttp.ClientOSError(111, "refused"),
        aiohttp.ClientPayloadError("closed in the middle"),
    ],
)
def test_a_connection_that_broke_is_told_from_silence(error: Exception) -> None:
    assert is_cut(error)
    assert not is_timeout(error)


@pytest.mark.parametrize("error", [TimeoutError(), aiohttp.SocketTimeoutError("late")])
def test_silence_is_a_timeout(error: Exception) -> None:
    assert is_timeout(error)


@pytest.mark.parametrize("error", [ValueError("no JSON"), KeyError("choices")])
def test_a_reply_that_makes_no_sense_is_neither(error: Exception) -> None:
    assert not is_cut(error)
    assert not is_timeout(error)
