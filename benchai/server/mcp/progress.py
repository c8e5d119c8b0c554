"""Progress notifications of a run: what happens in it, and a sign of life while nothing does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress

from benchai.agents.messages import clean
from benchai.events import Event, RunStarted
from benchai.server.mcp.calls import Context
from benchai.server.openai.workflows import told

#: Seconds without news after which a client hears that the run goes on: most give up after a minute without any.
BEAT = 10.0


class Progress:
    """Tells a client how far its call is; it says nothing where the client did not ask."""

    def __init__(self, context: Context) -> None:
        self._session = context.session
        self._began = time.monotonic()
        self._steps = 0

    async def tell(self, event: Event | None) -> None:
        """What an event says to a person; None stands for silence."""
        text = self._words(event)
        if text:
            self._steps += 1
            await self._session.report_progress(self._steps, None, str(clean(text.strip())))

    def _words(self, event: Event | None) -> str | None:
        if event is None:
            return f"still at work after {time.monotonic() - self._began:.0f} s"
        return f"{event.workflow} begins" if isinstance(event, RunStarted) else told(event)


async def with_beats(events: AsyncGenerator[Event, None], seconds: float = BEAT) -> AsyncGenerator[Event | None, None]:
    """The events, and None whenever so many seconds pass without one. Closing it closes them."""
    following: asyncio.Task[Event] | None = None
    try:
        while True:
            following = following or asyncio.create_task(_next(events))
            await asyncio.wait((following,), timeout=seconds)
            if not following.done():
                yield None
                continue
            done, following = following, None
            try:
                event = done.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        if following is not None:
            following.cancel()
            with suppress(BaseException):
                await following
        await events.aclose()


async def _next(events: AsyncGenerator[Event, None]) -> Event:
    return await anext(events)
