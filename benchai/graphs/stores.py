"""The store that nodes get (``runtime.store``): that of the run's owner, whatever their graph was compiled with."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

from langgraph.store.base import BaseStore, Op, Result

from benchai.errors import UsageError

#: The store of the run under way; LangGraph hands contexts on to its nodes, those in threads too.
current: ContextVar[BaseStore | None] = ContextVar("store", default=None)


class RunStore(BaseStore):
    """Hands each call on to the store of the run that makes it."""

    supports_ttl = True

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """See LangGraph."""
        return _present().batch(ops)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """See LangGraph."""
        return await _present().abatch(ops)


def _present() -> BaseStore:
    found = current.get()
    if found is None:
        raise UsageError(
            "this run has no store", hint="graphs have one when they are run over the agent wire of 'benchai serve'"
        )
    return found
