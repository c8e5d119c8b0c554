"""Prompts that are longer than the context are refused before they cost anything."""

from __future__ import annotations

from typing import Any

import orjson

from benchai.errors import ContextExceeded
from benchai.runtime.endpoints import Endpoint
from benchai.server.openai.job import Job
from benchai.server.openai.upstream import Upstream, body_of

#: Fewer bytes a token are so rare that a shorter request is let through uncounted: the engine still counts.
BYTES_PER_TOKEN = 2
COUNTERS = {"/chat/completions": "/chat/completions/input_tokens", "/responses": "/responses/input_tokens"}


async def check_context(upstream: Upstream, endpoint: Endpoint, job: Job) -> None:
    """Count a prompt that may be too long, by the model's own tokenizer and template.

    Raises:
        ContextExceeded: it is too long.
    """
    path = COUNTERS.get(job.path)
    if path is None or endpoint.n_ctx is None or endpoint.placement == "remote":
        return
    if job.size < endpoint.n_ctx * BYTES_PER_TOKEN:
        return
    async with upstream.post(endpoint, path, job.body_for(endpoint)) as response:
        if response.status != 200:
            # an older engine: it will say itself that the prompt is too long
            return
        counted = _input_tokens(await body_of(response, endpoint))
    if isinstance(counted, int) and counted >= endpoint.n_ctx:
        raise ContextExceeded(
            f"the prompt has {counted:,} tokens, the context of {endpoint.model!r} {endpoint.n_ctx:,}",
            n_prompt_tokens=counted,
            n_ctx=endpoint.n_ctx,
        )


def _input_tokens(body: bytes) -> Any:
    try:
        return orjson.loads(body)["input_tokens"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
