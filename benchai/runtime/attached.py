"""Endpoints of a running `benchai serve`: leases are taken over HTTP, the engines are called directly.

A lease is a response that stays open: the server frees it when the connection closes, however that comes about.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from benchai import errors
from benchai.config import LoadedConfig
from benchai.errors import BenchAIError, EngineError, Unavailable
from benchai.events import Emit, ModelLoading, ModelReady, ModelStopped, Notice
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.fleet.terms import remote_endpoint
from benchai.runtime.http import local_client
from benchai.runtime.serving import ServerRecord, models_of, running_server

CONNECT_SECONDS = 5.0
# to look at models' files takes the server a moment
FIT_SECONDS = 10.0
EVENTS = {kind.type: kind for kind in (ModelLoading, ModelReady, ModelStopped, Notice)}


class AttachedFleet:
    """Implements ``Endpoints`` with the fleet of another process."""

    def __init__(self, server: ServerRecord, loaded: LoadedConfig, emit: Emit) -> None:
        self._server = server
        self._loaded = loaded
        self._emit = emit

    @asynccontextmanager
    async def lease(self, role: str) -> AsyncIterator[Endpoint]:
        """See ``Endpoints.lease``."""
        name, model = self._loaded.model_for(role)
        if model.remote:
            yield remote_endpoint(self._loaded, role, name)
            return
        body = {"role": role, "models": self._loaded.config.models_of(role)}
        headers = {"Authorization": f"Bearer {self._server.token}"}
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        async with AsyncExitStack() as stack:
            client = local_client(base_url=self._server.url, headers=headers, timeout=timeout)
            await stack.enter_async_context(client)
            try:
                response = await stack.enter_async_context(client.stream("POST", "/fleet/lease", json=body))
                # held here: httpx closes the connection, and so the lease, once nobody holds this iterator
                lines = response.aiter_lines()
                lease, endpoint = await self._granted(role, response, lines)
            except httpx.TransportError as error:
                message = f"the server at {self._server.url} cannot be reached: {error}"
                raise EngineError(message, hint="'benchai serve' starts it") from error
            doubts: list[bool] = []
            try:
                yield replace(endpoint, suspect=doubts.append)
            finally:
                if doubts:
                    await _suspect(client, lease, silent=any(doubts))

    async def fit_together(self, roles: Collection[str]) -> bool:
        """See ``Endpoints.fit_together``: the server knows its memory; one that does not answer is not known to fit."""
        models = dict(self._loaded.model_for(role) for role in roles)
        local = [name for name, model in models.items() if not model.remote]
        if len(local) < 2:
            return True
        headers = {"Authorization": f"Bearer {self._server.token}"}
        try:
            async with local_client(base_url=self._server.url, headers=headers, timeout=FIT_SECONDS) as client:
                answer = await client.post("/fleet/fit", json={"models": local})
                return bool(answer.raise_for_status().json() == {"fit": True})
        except (httpx.HTTPError, ValueError):
            return False

    async def _granted(self, role: str, response: httpx.Response, lines: AsyncIterator[str]) -> tuple[str, Endpoint]:
        """The lease, by the name that the server gave it, and what it is for."""
        if response.is_error:
            await response.aread()
            raise error_from(refusal(response.text))
        async for line in lines:
            message = json.loads(line) if line.strip() else {}
            kind = message.pop("type", None)
            if kind == "lease":
                return message.pop("id"), self._endpoint(role, message)
            if kind == "error":
                raise error_from(message)
            if kind in EVENTS:
                self._emit(EVENTS[kind](**message))
        raise EngineError(f"the server at {self._server.url} ended", hint="try again")

    def _endpoint(self, role: str, data: dict[str, Any]) -> Endpoint:
        if data.get("placement") == "remote":
            # its key stays with the server, ours comes from our own environment
            return remote_endpoint(self._loaded, role, data["model"])
        return Endpoint(**data)


async def _suspect(client: httpx.AsyncClient, lease: str, *, silent: bool) -> None:
    """Tell the server that a call failed; while the lease is held: nobody gets the model before it was looked at."""
    with contextlib.suppress(httpx.HTTPError):
        await client.post("/fleet/suspect", json={"lease": lease, "silent": silent}, timeout=CONNECT_SECONDS)


def refusal(text: str) -> dict[str, Any]:
    """What a server said when it refused: ours, FastAPI's, or any text."""
    try:
        found = json.loads(text)
    except ValueError:
        found = text[:200]
    if not isinstance(found, dict):
        return {"message": str(found)}
    error = found.get("error") or found.get("detail")
    return error if isinstance(error, dict) else {"message": str(error)}


def error_from(data: dict[str, Any]) -> BenchAIError:
    """The error that a server sent."""
    kind = getattr(errors, str(data.get("kind")), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, BenchAIError)):
        kind = EngineError
    message, hint = str(data.get("message", "the server refused")), data.get("hint")
    if issubclass(kind, Unavailable):
        return kind(message, retry_after=float(data.get("retry_after") or 1), hint=hint)
    if issubclass(kind, errors.EngineStartError):
        return kind(message, log=data.get("log") or (), hint=hint)
    return kind(message, hint=hint)


def attached(loaded: LoadedConfig, emit: Emit) -> AttachedFleet | None:
    """The fleet of the running server, if it serves the same models as a configuration."""
    server = running_server()
    return AttachedFleet(server, loaded, emit) if server is not None and server.models == models_of(loaded) else None
