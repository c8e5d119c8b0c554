"""Chroma's client of a server, which waits for ever for what it asks when it is made: here it does not."""

from __future__ import annotations

from typing import Any

import httpx
from chromadb.api.client import Client

#: Seconds for each of the answers that a client asks for when it is made.
OPEN_SECONDS = 10.0


class Limited(Client):
    """A client of a server.

    Args:
        settings: Of chromadb, with the server's address.
        connect: Seconds that a connection may take.
    """

    def __init__(self, settings: Any, connect: float) -> None:
        self._limit = httpx.Timeout(OPEN_SECONDS, connect=connect)
        try:
            super().__init__(settings=settings)
        except BaseException:
            for session in self._sessions():
                session.close()
            raise

    def get_user_identity(self) -> Any:
        """As of the base class, which asks for it first."""
        self._see_limit()
        return super().get_user_identity()

    def _validate_tenant_database(self, tenant: str, database: str) -> None:
        # the first question to the second of its servers
        self._see_limit()
        super()._validate_tenant_database(tenant, database)

    def _see_limit(self) -> None:
        for session in self._sessions():
            session.timeout = self._limit

    def _sessions(self) -> list[httpx.Client]:
        owners = [getattr(self, "_server", None), getattr(getattr(self, "_admin_client", None), "_server", None)]
        return [owner._session for owner in owners if owner is not None]
