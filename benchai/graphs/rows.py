"""Usage rows of runs: one for each call of a model, beside those that a server writes for its requests."""

from __future__ import annotations

import json
from dataclasses import dataclass

from langchain_core.messages import AIMessage, convert_to_openai_messages

from benchai import errors
from benchai.agents.role import FIRST, Request
from benchai.errors import BenchAIError
from benchai.events import ModelCall
from benchai.runtime.usage.log import UsageLog
from benchai.runtime.usage.row import CANCELLED, OK, UsageRow, new_id

#: The HTTP status of a request whose client has gone.
GONE = 499


@dataclass(frozen=True)
class Rows:
    """Writes the rows of one run; a call hands its row over in microseconds."""

    log: UsageLog
    workflow: str
    thread_id: str

    def take(self, call: ModelCall, request: Request, reply: AIMessage | None) -> None:
        """Keep a call that has ended; ``reply`` is None where it failed."""
        if not self.log.config.enabled:
            return
        asked, said = self._contents(request, reply) if self.log.keeps_contents else (None, None)
        self.log.append(
            UsageRow(
                id=new_id(),
                time=call.time - call.seconds,
                session=self.thread_id,
                asked=f"workflow:{self.workflow}",
                role=call.role,
                model=call.model or None,
                workflow=self.workflow,
                tokens_in=call.prompt_tokens or None,
                tokens_out=call.completion_tokens or None,
                tokens_cached=call.cached_tokens if call.prompt_tokens else None,
                first_token_s=reply.response_metadata.get(FIRST) if reply is not None else None,
                total_s=call.seconds,
                outcome=call.error or OK,
                status=_status(call.error),
                request=asked,
                reply=said,
            )
        )

    def _contents(self, request: Request, reply: AIMessage | None) -> tuple[str, str | None]:
        asked = {"messages": convert_to_openai_messages(list(request.messages)), **request.settings()}
        said = None if reply is None else json.dumps(convert_to_openai_messages(reply), default=str)
        return json.dumps(asked, default=str), said


def _status(error: str | None) -> int:
    """The HTTP status that stands for the end of a call."""
    if error is None:
        return 200
    if error == CANCELLED:
        return GONE
    kind = getattr(errors, error, None)
    return kind.status if isinstance(kind, type) and issubclass(kind, BenchAIError) else BenchAIError.status
