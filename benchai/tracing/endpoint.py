"""A trace to an OTLP endpoint, through OpenTelemetry's SDK, in a thread that no run waits for."""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchai.tracing.spans import SCOPE, VERSION, Kind, Span, Value, clean

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
EXPORTER = "opentelemetry.exporter.otlp.proto.http"
# spans that may wait, and those that go out together; what an endpoint is too slow for is dropped
MOST_WAITING = 2048
BATCH = 512
# seconds: spans that follow soon go out together; an endpoint gets so long at the end
GATHER = 0.5
FLUSH = 1.0


def unusable(environment: Mapping[str, str]) -> str | None:
    """Why no span can go to the endpoint, where none can."""
    spoken = next((found for name in PROTOCOLS if (found := environment.get(name, "").strip())), PROTOCOL)
    if spoken != PROTOCOL:
        return f"no trace is sent: OTEL_EXPORTER_OTLP_PROTOCOL is {spoken!r}, only {PROTOCOL!r} is spoken here"
    try:
        there = importlib.util.find_spec(EXPORTER) is not None
    except ImportError:
        there = False
    if not there:
        return "no trace is sent: OpenTelemetry's exporter is not installed; pip install 'benchai[otel]'"
    return None


class Endpoint:
    """Sends spans from a thread of its own; ``tell`` takes what goes wrong, once for all spans.

    A dead endpoint costs a run nothing: ``write`` never waits, and ``close`` waits a second at most.
    """

    def __init__(self, address: str, origin: Mapping[str, Value], tell: Callable[[str], None]) -> None:
        self._host = urlsplit(address).hostname or "the endpoint"
        self._origin = origin
        self._tell = tell
        self._waiting: queue.Queue[Span | None] = queue.Queue(MOST_WAITING)
        self._closing = threading.Event()
        self._failing = False
        self._told = False
        self._exporter: OTLPSpanExporter | None = None
        self._thread: threading.Thread | None = None

    def write(self, span: Span) -> None:
        """Send a finished span soon; it is dropped where too many wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="trace")
            self._thread.start()
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._fail("too many spans wait, some are dropped")

    def close(self) -> None:
        """Send what waits, within a second; an endpoint that fails gets no second chance."""
        if self._thread is None:
            return
        self._closing.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(0 if self._failing else FLUSH)
        if self._thread.is_alive():
            self._fail("it was too slow at the end, some spans are lost")
            if self._exporter is not None:
                self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _work(self) -> None:
        try:
            self._send_all()
        except Exception as error:  # a thread's error would be printed with a trace, and help nobody
            self._fail(f"{type(error).__name__}: {error}")

    def _send_all(self) -> None:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import SpanExportResult

        resource = Resource({key: clean(value) for key, value in self._origin.items()})
        listener = self._listener()
        trace_exporter._logger.addFilter(listener)
        try:
            self._exporter = trace_exporter.OTLPSpanExporter()
            while batch := self._batch():
                sent = self._exporter.export([_readable(span, resource) for span in batch])
                self._failing = sent is not SpanExportResult.SUCCESS
        finally:
            trace_exporter._logger.removeFilter(listener)

    def _batch(self) -> list[Span]:
        """The next spans, those together that come soon after each other; none when it is over."""
        found: list[Span] = []
        while len(found) < BATCH:
            now = self._closing.is_set()
            try:
                span = self._waiting.get(timeout=GATHER if found and not now else None, block=not now)
            except queue.Empty:
                break
            if span is not None:
                found.append(span)
        return found

    def _listener(self) -> Callable[[logging.LogRecord], bool]:
        """Takes what the exporter logs in this thread, in place of the user's terminal."""
        mine = threading.get_ident()

        def listen(record: logging.LogRecord) -> bool:
            if record.thread != mine:
                return True
            if record.levelno >= logging.WARNING:
                self._failing = True
                self._fail(record.getMessage())
            return False

        return listen

    def _fail(self, why: str) -> None:
        if not self._told:
            self._told = True
            self._tell(f"the trace does not reach {self._host}: {why[:300]}")


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    """A span as OpenTelemetry's exporters take it."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(number: int) -> SpanContext:
        return SpanContext(span.trace, number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        name=str(clean(span.name)),
        context=context(span.id),
        parent=None if span.parent is None else context(span.parent),
        resource=resource,
        attributes={key: clean(value) for key, value in span.attributes.items()},
        events=[
            Event(one.name, {key: clean(value) for key, value in one.attributes.items()}, one.time)
            for one in span.moments
        ],
        kind=SpanKind.CLIENT if span.kind is Kind.CLIENT else SpanKind.INTERNAL,
        status=Status() if span.error is None else Status(StatusCode.ERROR, str(clean(span.error))),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=InstrumentationScope(SCOPE, VERSION),
    )
