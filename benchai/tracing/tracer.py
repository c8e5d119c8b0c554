"""Traces of all runs of a bench; off unless a file or an endpoint is given."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchai.events import Emit, Event, StopReason

if TYPE_CHECKING:
    from benchai.config import LoadedConfig
    from benchai.tracing.run import RunTrace
    from benchai.tracing.spans import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
LOGGER = logging.getLogger(__name__)
# the variable that OpenTelemetry's instrumentations share; "true" is what it was before it had kinds
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
WITH_CONTENT = ("SPAN_ONLY", "SPAN_AND_EVENT", "TRUE")


class Sink(Protocol):
    """Where finished spans go; neither call raises."""

    def write(self, span: Span) -> None:
        """Take a span."""
        ...

    def close(self) -> None:
        """No more come."""
        ...


class Tracer:
    """Follows runs, and gives their spans to its sinks; without a sink it does nothing."""

    def __init__(self, content: bool = False) -> None:
        self.sinks: list[Sink] = []
        self._content = content
        self._runs: dict[str, RunTrace] = {}
        self._problems: list[str] = []

    def begin(self, run_id: str, task: str, loaded: LoadedConfig) -> None:
        """Follow a run."""
        if self.sinks:
            from benchai.tracing.models import Models
            from benchai.tracing.run import RunTrace

            self._runs[run_id] = RunTrace(self._finish, Models(loaded), task, self._content)

    def follow(self, run_id: str, emit: Emit) -> Emit:
        """Takes a run's events for its trace, where it has one, and for ``emit``."""
        trace = self._runs.get(run_id)
        if trace is None:
            return emit
        from benchai.tracing.place import here

        def both(event: Event) -> None:
            emit(event)
            self._safely(run_id, lambda: trace.take(event, here()))

        return both

    def end(self, run_id: str, reason: StopReason, error: BaseException | None = None) -> None:
        """A run has ended."""
        if (trace := self._runs.get(run_id)) is not None:
            self._safely(run_id, lambda: trace.end(reason, error))
            self._runs.pop(run_id, None)

    def problem(self, text: str) -> None:
        """Note what has gone wrong with the traces."""
        self._problems.append(text)

    def problems(self) -> list[str]:
        """What has gone wrong since this was asked last."""
        found, self._problems = self._problems, []
        return found

    def _safely(self, run_id: str, work: Callable[[], None]) -> None:
        """A trace that fails ends; the run does not."""
        if run_id not in self._runs:
            return
        try:
            work()
        except Exception as error:
            del self._runs[run_id]
            self.problem(f"the trace of this run ends early: {type(error).__name__}: {error}")

    def _finish(self, span: Span) -> None:
        for sink in self.sinks:
            sink.write(span)

    def close(self) -> None:
        """Close the sinks, which may take a second; what went wrong unheard is logged."""
        for sink in self.sinks:
            sink.close()
        for problem in self.problems():
            LOGGER.warning(problem)


@asynccontextmanager
async def tracing(file: Path | str | None, environment: Mapping[str, str] | None = None) -> AsyncIterator[Tracer]:
    """A tracer to ``file`` and to the OTLP endpoint of the environment; each may be missing.

    Raises:
        UsageError: the file can't be written.
    """
    environment = os.environ if environment is None else environment
    tracer = Tracer(environment.get(CONTENT, "").strip().upper() in WITH_CONTENT)
    tracer.sinks = _sinks(tracer, file, environment)
    if not tracer.sinks:
        yield tracer
        return
    from benchai.runtime.background import in_background

    try:
        yield tracer
    finally:
        await in_background(tracer.close)


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """The endpoint that the environment names; None where it names none, or switches traces off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("otlp", ""):
        return None
    return next((found for name in ENDPOINTS if (found := environment.get(name, "").strip())), None)


def _sinks(tracer: Tracer, file: Path | str | None, environment: Mapping[str, str]) -> list[Sink]:
    address = endpoint_of(environment)
    if file is None and address is None:
        return []
    from benchai.tracing.file import TraceFile
    from benchai.tracing.spans import resource

    origin = resource(environment)
    sinks: list[Sink] = [] if file is None else [TraceFile(Path(file), origin, tracer.problem)]
    if address is not None:
        from benchai.tracing.endpoint import Endpoint, unusable

        why = unusable(environment)
        if why is None:
            sinks.append(Endpoint(address, origin, tracer.problem))
        else:
            tracer.problem(why)
    return sinks
