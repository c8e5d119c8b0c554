"""What a run may spend: one ledger for the whole run, whoever calls the models."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage

from benchai.events import StopReason, Usage

# a run wraps up when this share of its tokens or of its time is left
LOW = 0.1
LOW_SECONDS = 30.0


@dataclass(frozen=True)
class Budget:
    """Limits of a run: calls of a model, tokens (prompt and completion), wall time in seconds."""

    steps: int
    tokens: int
    seconds: float


class BudgetSpent(Exception):
    """A run has reached a limit; raised before the call that would exceed it."""

    def __init__(self, reason: StopReason, message: str) -> None:
        super().__init__(message)
        self.reason: StopReason = reason


@dataclass
class Ledger:
    """What a run has spent so far."""

    budget: Budget
    steps: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    began: float = field(default_factory=time.monotonic)

    def begin_step(self, wrap_up: bool = False) -> int:
        """Count a call of a model that is about to be made; returns its number, from 1.

        Args:
            wrap_up: The call that ends a run may be one more than ``budget.steps``.

        Raises:
            BudgetSpent: a limit is reached.
        """
        if self.steps >= self.budget.steps + wrap_up:
            raise BudgetSpent("budget_steps", f"stopped after {self.steps} steps (budgets.steps)")
        if self.tokens >= self.budget.tokens:
            raise BudgetSpent(
                "budget_tokens", f"stopped after {self.tokens} tokens (budgets.tokens = {self.budget.tokens})"
            )
        if self.seconds_left <= 0:
            raise BudgetSpent("budget_time", f"stopped after {self.budget.seconds:g} s (budgets.seconds)")
        self.steps += 1
        return self.steps

    def add(self, reply: AIMessage) -> None:
        """Count the tokens of a reply."""
        usage = reply.usage_metadata
        if usage is not None:
            self.prompt_tokens += usage["input_tokens"]
            self.completion_tokens += usage["output_tokens"]

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens spent."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def tokens_left(self) -> int:
        """Tokens that are left, at least 1."""
        return max(self.budget.tokens - self.tokens, 1)

    @property
    def seconds_left(self) -> float:
        """Wall time that is left; negative when it is over."""
        return self.began + self.budget.seconds - time.monotonic()

    def low(self) -> tuple[StopReason, str] | None:
        """The limit that is near, so that no more than a last call should be made, and how near; None if none is."""
        if self.steps >= self.budget.steps:
            return "budget_steps", f"all {self.budget.steps} steps are used (budgets.steps)"
        if self.tokens_left < LOW * self.budget.tokens:
            return "budget_tokens", f"{self.tokens_left} of {self.budget.tokens} tokens are left (budgets.tokens)"
        if self.seconds_left < min(LOW * self.budget.seconds, LOW_SECONDS):
            return "budget_time", f"{self.seconds_left:.0f} of {self.budget.seconds:g} s are left (budgets.seconds)"
        return None

    def usage(self) -> Usage:
        """The tokens as an event carries them."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.tokens,
        )
