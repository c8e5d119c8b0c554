"""Calls of the command line to a running `benchai serve`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchai.errors import EngineError, UsageError
from benchai.runtime.attached import error_from, refusal
from benchai.runtime.serving import ServerRecord, running_server

if TYPE_CHECKING:
    import httpx


def the_server() -> ServerRecord:
    """The running server.

    Raises:
        UsageError: none runs.
    """
    server = running_server()
    if server is None:
        raise UsageError("no server of this user runs", hint="'benchai serve' starts one")
    return server


@contextmanager
def _client(server: ServerRecord) -> Iterator[httpx.Client]:
    import httpx

    headers = {"Authorization": f"Bearer {server.token}"}
    try:
        with httpx.Client(base_url=server.url, headers=headers, timeout=None, trust_env=False) as client:  # noqa: S113 - a start may take long
            yield client
    except httpx.TransportError as error:
        raise EngineError(f"the server at {server.url} cannot be reached: {error}", hint="is it ending?") from error


def call(method: str, path: str, **params: Any) -> Any:
    """The server's answer as plain data.

    Raises:
        BenchAIError: what the server refused, or it cannot be reached.
    """
    with _client(the_server()) as client:
        response = client.request(method, path, params=params)
        if response.is_error:
            raise error_from(refusal(response.text))
        return response.json()


def lines(path: str, **params: Any) -> Iterator[str]:
    """The lines of a streamed answer, as they come."""
    with _client(the_server()) as client, client.stream("GET", path, params=params) as response:
        if response.is_error:
            raise error_from(refusal(response.read().decode(errors="replace")))
        yield from response.iter_lines()
