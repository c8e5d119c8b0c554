"""Clients for engines and servers on this machine."""

from __future__ import annotations

from typing import Any

import httpx


def local_client(**settings: Any) -> httpx.AsyncClient:
    """A client for plain HTTP on this machine: no proxy, no certificates.

    Reading the certificates of the system, which httpx does for every client, takes 20 ms and serves nothing here.
    """
    return httpx.AsyncClient(trust_env=False, verify=False, **settings)  # noqa: S501 - plain HTTP has none
