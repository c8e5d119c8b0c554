"""What the floors above see of the runtime: endpoints by role, handed out as leases."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

Placement = Literal["gpu", "cpu", "remote"]


def _nothing() -> None:
    pass


def _no_doubt(silent: bool) -> None:
    pass


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible address that answers for one role now.

    Attributes:
        role: The role that was leased.
        model: Name of the model in benchai.yaml.
        base_url: Up to and including ``/v1``.
        served_name: The model name to send in requests.
        n_ctx: Context of one request in tokens; None where a remote endpoint does not tell.
        placement: Where the model runs.
        idle_timeout: Seconds without a token after which a call is given up.
        max_tokens: Tokens of one reply at most.
        api_key: Key to send, or None.
        temperature, top_p: Sampling, or None for the server's own.
        vision: Whether the model sees images; None where that is not known.
        total_timeout: Seconds that a call may take in all.
        progress: To be called at each piece of a reply: the model visibly works.
        suspect: To be called when a call failed: True when no piece came for ``idle_timeout``, False when its
            connection broke. The model is looked at now, and leased to nobody until it answers or was started again.
    """

    role: str
    model: str
    base_url: str
    served_name: str
    n_ctx: int | None
    placement: Placement
    idle_timeout: float
    max_tokens: int
    api_key: str | None = field(default=None, repr=False)
    temperature: float | None = None
    top_p: float | None = None
    vision: bool | None = None
    total_timeout: float = 3600
    progress: Callable[[], None] = field(default=_nothing, repr=False, compare=False)
    suspect: Callable[[bool], None] = field(default=_no_doubt, repr=False, compare=False)


class Endpoints(Protocol):
    """Where role endpoints come from: a fleet that this process owns, or a server that runs already."""

    def lease(self, role: str) -> AbstractAsyncContextManager[Endpoint]:
        """The right to call the model of a role while the context is open.

        Entering makes the model ready (starting it if needed) and waits for a free place.

        Raises:
            ConfigError: no model serves the role.
            ModelFileError: the model's file is missing or no GGUF.
            EngineError: the model could not be started.
            DoesNotFit: there is not enough memory for it.
            Unavailable: it restarts or has failed, or its queue is full; ``retry_after`` says when to come again.
        """
        ...

    async def fit_together(self, roles: Collection[str]) -> bool:
        """Whether the models of these roles can all run at the same time, so that none has to leave for another.

        False where that is not known. Nothing is started or stopped for it.

        Raises:
            ConfigError: no model serves one of the roles.
        """
        ...
