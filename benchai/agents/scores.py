"""Calls of the roles that write no text: ``embed`` makes vectors, ``rerank`` scores texts for a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from benchai.agents.faults import explain
from benchai.agents.wire import ServerError
from benchai.errors import EndpointError, EndpointLost
from benchai.runtime.connections import Connections
from benchai.runtime.endpoints import Endpoint, Endpoints

EMBED, RERANK = "embed", "rerank"


def _nothing() -> None:
    pass


class Scores:
    """Asks the models of ``embed`` and ``rerank``; close it when no call is under way."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._connections = Connections()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    async def embed(self, texts: Sequence[str], check: Callable[[], None] = _nothing) -> list[list[float]]:
        """A vector for each text, in their order.

        Args:
            texts: What is embedded.
            check: Called once a model is leased, which stays as it is from then on; what it raises is passed on.

        Raises:
            BenchAIError: no model serves the role, or it failed.
        """
        answer, endpoint = await self._ask(EMBED, "/embeddings", {"input": list(texts)}, check)
        try:
            rows = sorted(answer["data"], key=lambda row: int(row["index"]))
            found = [[float(one) for one in row["embedding"]] for row in rows]
        except (LookupError, TypeError, ValueError) as error:
            raise EndpointError(f"the model {endpoint.model!r} gave no vectors") from error
        return found

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers a question; higher is better.

        Raises:
            BenchAIError: no model serves the role, or it failed.
        """
        answer, endpoint = await self._ask(RERANK, "/rerank", {"query": query, "documents": list(texts)})
        try:
            found = {int(row["index"]): float(row["relevance_score"]) for row in answer["results"]}
            return [found[place] for place in range(len(texts))]
        except (LookupError, TypeError, ValueError) as error:
            raise EndpointError(f"the model {endpoint.model!r} gave no scores") from error

    async def _ask(
        self, role: str, path: str, body: Mapping[str, Any], check: Callable[[], None] = _nothing
    ) -> tuple[Any, Endpoint]:
        async with self._endpoints.lease(role) as endpoint:
            check()
            data = json.dumps({"model": endpoint.served_name, **body}).encode()
            asking = self._connections.post(
                endpoint.base_url + path,
                data,
                api_key=endpoint.api_key,
                remote=endpoint.placement == "remote",
                total=endpoint.total_timeout,
                idle=endpoint.idle_timeout,
            )
            try:
                async with asking as response:
                    status, said = response.status, await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                endpoint.suspect(isinstance(error, TimeoutError))
                raise EndpointLost(f"the model {endpoint.model!r} did not answer: {type(error).__name__}") from error
        try:
            answer = json.loads(said)
        except ValueError as error:
            raise EndpointError(f"the model {endpoint.model!r} answered no JSON") from error
        if status != 200:
            raise explain(ServerError(answer, status), endpoint, begun=False)
        return answer, endpoint
