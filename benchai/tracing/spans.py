"""A span as plain data, and as OTLP writes it in JSON; nothing of it needs OpenTelemetry's packages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import metadata
from typing import Any
from urllib.parse import unquote

# what OpenTelemetry's own SDKs keep by default
MOST_EVENTS = 128
# OTLP's number for a span that failed; all others leave their status unset
FAILED = 2
# what writes the spans, and its version
SCOPE = "benchai"
VERSION = metadata.version(SCOPE)

Value = str | bool | int | float | list[str]


class Kind(IntEnum):
    """OTLP's numbers for what a span is to the process."""

    INTERNAL = 1
    CLIENT = 3


@dataclass(frozen=True)
class Moment:
    """Something that happened within a span; ``time`` in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: dict[str, Value]


@dataclass(eq=False)
class Span:
    """One span; times in nanoseconds since the epoch, ids as numbers, ``error`` the words of a failure."""

    name: str
    trace: int
    start: int
    parent: int | None = None
    kind: Kind = Kind.INTERNAL
    end: int = 0
    attributes: dict[str, Value] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    dropped: int = 0
    error: str | None = None
    # an id of zeros is no id
    id: int = field(default_factory=lambda: secrets.randbits(64) or 1)

    def add(self, name: str, time: int, attributes: dict[str, Value]) -> None:
        """Note that something happened; beyond a limit it is no more than counted."""
        if len(self.moments) < MOST_EVENTS:
            self.moments.append(Moment(name, time, attributes))
        else:
            self.dropped += 1


def new_trace() -> int:
    """The id of a trace."""
    return secrets.randbits(128) or 1


def clean(value: Value) -> Value:
    """A value that can be written as UTF-8: what a model wrote may hold half a character."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return [str(clean(one)) for one in value] if isinstance(value, list) else value


def resource(environment: Mapping[str, str]) -> dict[str, Value]:
    """What the spans come from, by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES."""
    found: dict[str, Value] = {"service.name": "benchai", "service.version": VERSION}
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, sign, value = pair.partition("=")
        if key.strip() and sign:
            found[key.strip()] = unquote(value.strip())
    if name := environment.get("OTEL_SERVICE_NAME"):
        found["service.name"] = name
    return found


def as_request(span: Span, origin: Mapping[str, Value]) -> dict[str, Any]:
    """OTLP's TracesData, which is an ExportTraceServiceRequest too, with this one span."""
    scope = {"name": SCOPE, "version": VERSION}
    spans = [{"scope": scope, "spans": [as_json(span)]}]
    return {"resourceSpans": [{"resource": {"attributes": _pairs(origin)}, "scopeSpans": spans}]}


def as_json(span: Span) -> dict[str, Any]:
    """A span in OTLP's JSON: ids in hexadecimal digits, 64-bit numbers as texts, enumerations as numbers."""
    found: dict[str, Any] = {
        "traceId": f"{span.trace:032x}",
        "spanId": f"{span.id:016x}",
        "name": clean(span.name),
        "kind": int(span.kind),
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _pairs(span.attributes),
        "events": [
            {"name": one.name, "timeUnixNano": str(one.time), "attributes": _pairs(one.attributes)}
            for one in span.moments
        ],
        "status": {} if span.error is None else {"code": FAILED, "message": clean(span.error)},
    }
    if span.dropped:
        found["droppedEventsCount"] = span.dropped
    return found if span.parent is None else found | {"parentSpanId": f"{span.parent:016x}"}


def _pairs(attributes: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(clean(value))} for key, value in attributes.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
