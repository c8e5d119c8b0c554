"""Errors of the Hugging Face hub and of its client, as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

from benchai.errors import ModelFileError

NETWORK = "check the network, or use file:"
_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "set HF_TOKEN to a token that is valid",
    HTTPStatus.FORBIDDEN: "the hub refuses this token: look at its permissions, and at the page of the repository",
    HTTPStatus.TOO_MANY_REQUESTS: "the hub has had too many requests: wait some minutes, then call again",
}


class WriteFailed(Exception):
    """The disk refuses; the hub's own errors are errors of the system as well."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Errors of the hub's client as ours, with what was asked for.

    Raises:
        ModelFileError: for any of them.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    repo = what.partition(":")[0]
    try:
        yield
    except (ModelFileError, WriteFailed):
        raise
    except GatedRepoError as error:
        hint = f"accept its terms on the page of {repo} at the hub, and set HF_TOKEN"
        raise ModelFileError(f"hf: {repo!r} is given only to those who have accepted its terms", hint=hint) from error
    except RepositoryNotFoundError as error:
        message = f"hf: there is no repository {repo!r}, or it needs a token"
        raise ModelFileError(message, hint="check the name, or set HF_TOKEN") from error
    except Exception as error:  # the errors of the hub's HTTP client have no common base that it makes public
        message = f"hf: {what!r} cannot be fetched: {reason(error)}"
        raise ModelFileError(message, hint=_hint(error)) from error


def reason(error: Exception) -> str:
    """What an error says, without the advice that stands below it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def status_of(error: Exception) -> int:
    """The HTTP status that an error of the hub's client carries; 0 where it has none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def _hint(error: Exception) -> str:
    status = status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "the hub has a fault: call again later, or use file:"
    return _HINTS.get(status, NETWORK)
