"""What every node of a run is given: callers by role, tools, the ledger, and where events go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

from benchai.agents.role import Agents
from benchai.events import Emit
from benchai.graphs.guards import Ledger
from benchai.tools.registry import ToolRegistry
from benchai.tools.tool import ToolContext


@dataclass(frozen=True)
class RunContext:
    """The context of a LangGraph run (``runtime.context`` in a node)."""

    agents: Agents
    tools: ToolRegistry
    tool_context: ToolContext
    ledger: Ledger
    emit: Emit

    async def call(self, role: str, messages: Sequence[AnyMessage], tools: Sequence[dict[str, Any]] = ()) -> AIMessage:
        """Call the model of a role within the run's budget.

        Raises:
            BudgetSpent: a limit is reached; the call is not made.
            EndpointError: the call failed.
        """
        self.ledger.begin_step()
        reply = await self.agents.role(role).call(messages, tools, self.ledger.tokens_left)
        self.ledger.add(reply)
        return reply
