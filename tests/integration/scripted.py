"""The scripted model of the package, as the integration tests use it."""

from __future__ import annotations

from benchai.testing import (
    USAGE,
    Call,
    Exchange,
    Reply,
    ScriptedServer,
    begun,
    broken_call,
    calls,
    chosen,
    contents,
    error,
    error_in_stream,
    overflow,
    silent,
    text,
)

__all__ = [
    "USAGE",
    "Call",
    "Exchange",
    "Reply",
    "ScriptedServer",
    "begun",
    "broken_call",
    "calls",
    "chosen",
    "contents",
    "error",
    "error_in_stream",
    "overflow",
    "silent",
    "text",
]
