"""The tree of errors that BenchAI raises on purpose.

BenchAIError
    UsageError            the caller asked for something that cannot be done as asked
        UnknownWorkflow   no workflow of that name
        UnknownModel      no model, role or workflow of that name answers requests
        UnknownThread     no thread of that id
        UnknownRequest    no usage row of that id
        AmbiguousRequest  several usage rows of that id
        UnknownMemory     the memory holds nothing of that id
        NamespaceError    a namespace is not written as one
        NoteChanged       a note is not what it was when it was read
        UnknownItem       no assistant, thread or run of that id
        Conflict          what is there already contradicts it
        Unprocessable     a field of a request has a value that cannot be taken
        Refused           a run cannot begin as asked
    ConfigError           benchai.yaml (or an override of it) is wrong
    ModelFileError        a model file is missing, no GGUF, or truncated
    EngineError           the program that serves a GGUF
        EngineNotFound    no engine on this machine
        EngineStartError  the engine ended, or hung, before it was ready
            OutOfMemory   the engine found too little memory for the model
        PortInUse         something else listens on the model's port
        DoesNotFit        the model can't get the memory it needs
        MemoryNotReleased  a stopped model did not give its memory back
        Unavailable       not now, try again later: the model restarts or has failed, a queue is full
            QueueFull     too many requests wait for the role
    EndpointError         a ready endpoint refused or failed a call
        EndpointLost      it went away before the first piece of a reply
        EndpointNotReady  it says that it can't answer yet
        ReplyBroken       a reply broke off in the middle
        EmptyReply        a reply held nothing
        UnreadableCall    the server could not read the model's tool call
        BadStructure      a reply is not of the form that was asked for
        ContextExceeded   the prompt is longer than the model's context
    ToolError             a tool cannot do what the model asked
    ThreadsError          the file or database of the threads cannot be used
    StoreError            the memory's files or its index
        StoreInUse        another process owns them
        StoreDamaged      they can't be read
        StoreRefused      a server of the vectors wants a key
        StoreFull         the disk is full
        CollectionGone    somebody else has dropped a collection of vectors
        EmbedderError     vectors can't be made, or do not fit those that are kept
    SourceError           a document can't be read
        SourceBusy        not now: its permissions, or its writer, are in the way

Each message says what was wrong and the value (``!r``); ``hint`` says the mend.
``exit_code`` is what the CLI exits with, ``status`` the HTTP status that stands for the error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar


class BenchAIError(Exception):
    """Base of all errors that BenchAI raises on purpose.

    Args:
        message: What was wrong, with the value.
        hint: The mend, one line.
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BenchAIError):
    """The caller asked for something that cannot be done as asked."""

    exit_code = 2
    status = 400


class UnknownWorkflow(UsageError):
    """No workflow of that name is registered."""

    status = 404


class UnknownModel(UsageError):
    """No model, role or workflow of that name answers requests."""

    status = 404


class UnknownThread(UsageError):
    """No thread of that id has a checkpoint."""

    status = 404


class UnknownRequest(UsageError):
    """No request of that id has a usage row."""

    status = 404


class AmbiguousRequest(UsageError):
    """Several requests have the id that their clients gave them."""

    status = 409


class UnknownMemory(UsageError):
    """The memory holds nothing of that id, or not in this namespace."""

    status = 404


class NamespaceError(UsageError):
    """A namespace is not written as one."""


class NoteChanged(UsageError):
    """A note is not what it was when it was read; it is as the other writer left it."""

    status = 409


class UnknownItem(UsageError):
    """There is no assistant, thread or run of that id, or it is another owner's."""

    status = 404


class Conflict(UsageError):
    """What is asked for contradicts what is there already."""

    status = 409


class Unprocessable(UsageError):
    """A field of a request has a value that cannot be taken."""

    status = 422


class Refused(UsageError):
    """A run cannot begin as asked; the thread is as it was."""


class ConfigError(BenchAIError):
    """The configuration, or an override of it, is wrong."""

    exit_code = 2
    status = 400


class ModelFileError(BenchAIError):
    """A model file is missing, is no GGUF, or is truncated."""

    exit_code = 2
    status = 503


class EngineError(BenchAIError):
    """The program that serves a GGUF failed."""

    status = 503


class EngineNotFound(EngineError):
    """No engine can be found on this machine."""

    exit_code = 2


class EngineStartError(EngineError):
    """The engine ended, or stalled, before it was ready.

    Args:
        message: The plain reason.
        log: The last lines the engine wrote.
        exit_code_of_process: The engine's exit code, negative for a signal, None while it still ran.
        hint: The mend, one line.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        log: Iterable[str] = (),
        exit_code_of_process: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.log = tuple(log)
        self.exit_code_of_process = exit_code_of_process


class OutOfMemory(EngineStartError):
    """The engine found too little memory for the model."""


class DoesNotFit(EngineError):
    """The model can't get the memory it needs, whatever else is stopped."""

    exit_code = 2


class MemoryNotReleased(EngineError):
    """A stopped model did not give its memory back in time.

    Args:
        message: What was waited for, with the figures.
        needed: MiB that should have become free, by device.
        free: MiB that were free at the last look, by device; a device that told nothing is not there.
        hint: The mend, one line.
    """

    def __init__(
        self,
        message: str,
        *,
        needed: Mapping[str, int] | None = None,
        free: Mapping[str, int] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.needed = dict(needed or {})
        self.free = dict(free or {})


class Unavailable(EngineError):
    """A model can't be called now, but may be later.

    Args:
        message: Why not now.
        retry_after: Seconds after which a new try makes sense.
        hint: The mend, one line.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class QueueFull(Unavailable):
    """Too many requests wait for the role already."""

    status = 429


class PortInUse(EngineError):
    """Something else listens on the port that a model is configured to use."""

    exit_code = 2


class EndpointError(BenchAIError):
    """A ready endpoint refused or failed a call."""

    status = 502


class EndpointLost(EndpointError):
    """An endpoint went away before the first piece of a reply came: the call can be made again."""


class EndpointNotReady(EndpointError):
    """An endpoint can't answer yet: it loads its model, or has too much to do.

    Args:
        message: What it said.
        retry_after: Seconds after which a new try makes sense.
        hint: The mend, one line.
    """

    status = 503

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ReplyBroken(EndpointError):
    """A reply broke off in the middle: the call can be made again."""


class EmptyReply(EndpointError):
    """A reply held neither text nor a tool call."""


class UnreadableCall(EndpointError):
    """The server could not read the tool call that the model wrote."""


class BadStructure(EndpointError):
    """A reply is not of the form that was asked for, not even after a complaint."""


class ContextExceeded(EndpointError):
    """The prompt is longer than the context of the model.

    Args:
        message: What was wrong, with both figures.
        n_prompt_tokens: Tokens of the prompt, if the engine told.
        n_ctx: Tokens of the context, if the engine told.
        hint: The mend, one line.
    """

    exit_code = 2
    status = 400

    def __init__(
        self,
        message: str,
        *,
        n_prompt_tokens: int | None = None,
        n_ctx: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.n_prompt_tokens = n_prompt_tokens
        self.n_ctx = n_ctx


class ToolError(BenchAIError):
    """A tool cannot do what the model asked; the message goes back to the model."""


class ThreadsError(BenchAIError):
    """The file or database of the threads cannot be made or opened, or is none."""

    status = 503


class StoreError(BenchAIError):
    """The memory's files, or its index, failed; what was acknowledged before is kept."""

    status = 503


class StoreInUse(StoreError):
    """Another process owns the memory."""


class StoreDamaged(StoreError):
    """The memory's files can't be read."""


class StoreRefused(StoreError):
    """A server of the memory's vectors wants a key that it was not given."""


class StoreFull(StoreError):
    """The disk is full; nothing of what was to be written is kept."""

    status = 507


class CollectionGone(StoreError):
    """A collection of vectors is not there any more: somebody else has dropped it."""


class EmbedderError(StoreError):
    """Vectors can't be made, or do not fit those that are kept."""


class SourceError(BenchAIError):
    """A document can't be read; the others are not touched by that."""

    status = 422


class SourceBusy(SourceError):
    """A file can't be read now; what is known of it may well be true still."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The valid name that is most like ``name``, or None if none is alike."""
    by_folded = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.5)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest valid one, or the list of all."""
    known = sorted(names)
    close = nearest(name, known)
    if close is not None:
        return f"did you mean {close!r}?"
    return f"valid names: {', '.join(known)}" if known else "there are none"
