"""What went wrong with a call, in words: from the exceptions of a connection and what servers say to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from benchai.agents.wire import ServerError
from benchai.errors import (
    ContextExceeded,
    EmptyReply,
    EndpointError,
    EndpointLost,
    EndpointNotReady,
    ReplyBroken,
    UnreadableCall,
    UsageError,
)
from benchai.runtime.endpoints import Endpoint

# llama-server's type; the code of OpenAI and of most servers that follow it
OVERFLOW = ("exceed_context_size_error", "context_length_exceeded")
# llama-server's words for a call that its parser can't read, as HTTP 500 or in the stream
UNPARSED = ("failed to parse tool call", "failed to parse input", "failed to parse messages")
NOT_READY = (429, 502, 503, 504)
UNAUTHORISED = 401
CALL_ERRORS = (ServerError, aiohttp.ClientError, TimeoutError, ValueError)


def explain(error: BaseException, endpoint: Endpoint, *, begun: bool) -> EndpointError:
    """The error of a call that failed; ``begun`` says whether a piece of the reply had come."""
    if isinstance(error, ServerError) and error.status is not None:
        return _refused(error, endpoint)
    if unparsed(str(error)):
        return unreadable(endpoint)
    if not begun and _unconnected(error):
        return _lost(error, endpoint)
    return broken(error, endpoint)


def is_overflow(said: Mapping[str, Any]) -> bool:
    """Whether a server's ``error`` says that the prompt is longer than the context."""
    return said.get("type") in OVERFLOW or said.get("code") in OVERFLOW


def unparsed(text: str) -> bool:
    """Whether a server says that it could not read the call that its model wrote."""
    return any(words in text.lower() for words in UNPARSED)


def unreadable(endpoint: Endpoint) -> UnreadableCall:
    """The server's parser choked on a tool call."""
    return UnreadableCall(
        f"the server of {endpoint.model!r} could not read the tool call that the model wrote",
        hint="check the model's chat template (jinja, chat_template_file)",
    )


def nothing(endpoint: Endpoint) -> EmptyReply:
    """The reply was empty."""
    return EmptyReply(f"the model {endpoint.model!r} answered nothing", hint="try again, or another model")


def cut_before_answer(endpoint: Endpoint, max_tokens: int) -> EmptyReply:
    """The reply was cut before it held any text: a model that thinks aloud spent it all on that."""
    return EmptyReply(
        f"the model {endpoint.model!r} spent all {max_tokens} tokens before it answered",
        hint=f"raise models.{endpoint.model}.max_tokens, or switch its thinking off",
    )


def no_vision(endpoint: Endpoint, hint: str) -> UsageError:
    """An image was given to a model that reads text alone; ``hint`` says who sees it."""
    return UsageError(f"the model {endpoint.model!r} of the role {endpoint.role!r} sees no images", hint=hint)


def too_long(endpoint: Endpoint) -> EndpointError:
    """The reply was not complete within the whole time."""
    return EndpointError(
        f"the model {endpoint.model!r} wrote for more than {endpoint.total_timeout:g} s",
        hint="router.timeouts.total sets the limit",
    )


def is_timeout(error: BaseException) -> bool:
    """Whether nothing came for too long."""
    return isinstance(error, TimeoutError)


def is_cut(error: BaseException) -> bool:
    """Whether the connection broke, or never came about."""
    return isinstance(error, aiohttp.ClientError)


def broken(error: BaseException, endpoint: Endpoint) -> EndpointError:
    """The reply broke off."""
    hint = None
    if is_timeout(error):
        hint = f"no token for {endpoint.idle_timeout:g} s ends a call; router.timeouts sets the limit"
    text = f"the model {endpoint.model!r} broke off: {type(error).__name__}: {error}"
    # a remote server that said nothing for so long will do so again; one of ours is looked at, and restarted
    again = hint is None or endpoint.placement != "remote"
    return (ReplyBroken if again else EndpointError)(text.rstrip(": "), hint=hint)


def _unconnected(error: BaseException) -> bool:
    """Whether no connection came about, or it was closed before the reply began."""
    return is_cut(error) and not isinstance(error, aiohttp.SocketTimeoutError)


def _lost(error: BaseException, endpoint: Endpoint) -> EndpointError:
    reason = str(error) or type(error).__name__
    message = f"the model {endpoint.model!r} at {endpoint.base_url} cannot be reached: {reason}"
    # a connection that was kept from an earlier call may be closed by now: that is no sign of a server that is gone
    if endpoint.placement == "remote" and isinstance(
        error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
    ):
        return EndpointError(message, hint="check that the server runs, and its address in benchai.yaml")
    return EndpointLost(message, hint="its log says why; 'benchai doctor' names the folder")


def _refused(error: ServerError, endpoint: Endpoint) -> EndpointError:
    if is_overflow(error.body):
        return _overflow(error.body, endpoint)
    if error.status == UNAUTHORISED:
        hint = f"check the key that models.{endpoint.model}.api_key_env names"
        return EndpointError(f"the model {endpoint.model!r} refused the key", hint=hint)
    if unparsed(str(error)):
        return unreadable(endpoint)
    text = f"the model {endpoint.model!r} refused the call: {error}"
    if error.status in NOT_READY:
        return EndpointNotReady(text, retry_after=_retry_after(error))
    return EndpointError(text)


def _retry_after(error: ServerError) -> float:
    """Seconds that the server asks for; 0 when it does not say."""
    try:
        return max(float(error.retry_after or 0), 0.0)
    except ValueError:
        return 0.0


def _overflow(body: Mapping[str, Any], endpoint: Endpoint) -> ContextExceeded:
    needed = body.get("n_prompt_tokens")
    n_ctx = body.get("n_ctx", endpoint.n_ctx)
    figures = f"{needed} tokens, the context has {n_ctx}" if needed else str(body.get("message", ""))
    return ContextExceeded(
        f"the prompt is too long for the model {endpoint.model!r}: {figures}",
        n_prompt_tokens=needed,
        n_ctx=n_ctx,
        hint=f"raise models.{endpoint.model}.context, or shorten the task",
    )
