"""Embeddings of the fleet's own role ``embed``."""

from __future__ import annotations

import orjson

from benchai.errors import EndpointError
from benchai.runtime.fleet.fleet import Fleet
from benchai.server.openai.upstream import Upstream, body_of, refused

ROLE = "embed"


class FleetEmbedder:
    """Asks the model of the role ``embed``."""

    def __init__(self, fleet: Fleet, upstream: Upstream) -> None:
        self._fleet = fleet
        self._upstream = upstream

    async def embed(self, text: str) -> list[float]:
        """The embedding of a text.

        Raises:
            BenchAIError: no model serves the role, or it failed.
        """
        async with self._fleet.lease(ROLE) as endpoint:
            body = orjson.dumps({"model": endpoint.served_name, "input": text})
            async with self._upstream.post(endpoint, "/embeddings", body) as response:
                answer = await body_of(response, endpoint)
                if response.status != 200:
                    raise refused(response.status, answer, endpoint)
        try:
            return [float(one) for one in orjson.loads(answer)["data"][0]["embedding"]]
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError) as error:
            raise EndpointError(f"the model {endpoint.model!r} gave no embedding") from error
