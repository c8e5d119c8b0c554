"""Waiting for the first of several things, without leaving the others behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def race(*works: Awaitable[Any], seconds: float | None = None) -> AsyncIterator[Sequence[asyncio.Future[Any]]]:
    """Enter when the first of `works` is done, or after `seconds`; leaving cancels those that are not."""
    running = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        yield running
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
