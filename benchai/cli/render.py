"""What a run looks like: live steps for people on stderr, the answer or JSON events on stdout."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchai.errors import BenchAIError, EngineStartError
from benchai.events import (
    ApprovalGiven,
    ApprovalRequested,
    BudgetLow,
    Compacted,
    Delta,
    Event,
    ModelCall,
    ModelLoading,
    ModelReady,
    Notice,
    Observation,
    Repair,
    Result,
    RunStarted,
    Step,
    Then,
    Thought,
    ToolCall,
    Usage,
)

if TYPE_CHECKING:
    from benchai.graphs.guards import Ledger

MAX_TEXT = 500
MAX_LINES = 8
LABEL_WIDTH = 9
FAILED = {"UsageError": "bad call", "Refused": "refused", "TimeoutError": "timed out"}
THEN: dict[Then, str] = {"called_again": "called again", "repaired": "repaired", "given_up": "given up"}


def safe(text: str) -> str:
    """Text without the control characters by which a model could steer the terminal."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")


def err_console() -> Console:
    """The console for people."""
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def print_error(error: BenchAIError) -> None:
    """An error on stderr: what, the engine's last lines where it has some, the mend."""
    console = err_console()
    for line in safe(error.message).splitlines():
        console.print(f"[bold red]error:[/] {escape(line)}")
    if isinstance(error, EngineStartError):
        for line in error.log:
            console.print(f"  [dim]{escape(safe(line))}[/]")
    if error.hint and error.hint not in error.message:
        console.print(f"[bold cyan]hint:[/] {escape(safe(error.hint))}")


class View(ABC):
    """Shows the events of one run."""

    def __init__(self) -> None:
        self._thread_id = ""
        self._ledger: Ledger | None = None
        self._done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027 - a view may have nothing to close
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, RunStarted):
            self._thread_id = event.thread_id
        self._done = self._done or isinstance(event, Result)
        self._show(event)

    def follow(self, ledger: Ledger) -> None:
        """Take what a run has spent from here, should it not live to tell."""
        self._ledger = ledger

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question while the context is open."""
        yield

    def failed(self, workflow: str, error: BenchAIError) -> None:
        """The run ended with an error, perhaps before it began."""
        if not self._done:
            self._end(self._result(workflow, "error", error.message))

    def interrupted(self, workflow: str) -> None:
        """A signal ended the run."""
        if not self._done:
            self._end(self._result(workflow, "cancelled", None))

    def _result(self, workflow: str, reason: Any, error: str | None) -> Result:
        return Result(
            output="",
            stop_reason=reason,
            steps=self._ledger.steps if self._ledger else 0,
            usage=self._ledger.usage() if self._ledger else Usage(),
            thread_id=self._thread_id,
            workflow=workflow,
            error=error,
        )

    @abstractmethod
    def _show(self, event: Event) -> None: ...

    @abstractmethod
    def _end(self, result: Result) -> None: ...


class JsonView(View):
    """One event a line on stdout; the last is the result."""

    def _show(self, event: Event) -> None:
        if not isinstance(event, Delta):
            sys.stdout.write(json.dumps(event.as_json(), ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def _end(self, result: Result) -> None:
        self._show(result)


class TextView(View):
    """Steps on stderr, with a spinner on a terminal; the answer alone on stdout."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or err_console()
        self._began = time.monotonic()
        self._text = ""
        self._asked: list[ApprovalRequested] = []
        self._told: tuple[str, str | None] = ("", None)
        self._spinner = Progress(
            SpinnerColumn(),
            TextColumn("[dim]{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._spinner.start()
        self._wait("starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spinner.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the spinner while the context is open."""
        self._spinner.stop()
        try:
            yield
        finally:
            self._spinner.start()

    def _wait(self, what: str) -> None:
        for task in self._spinner.task_ids:
            self._spinner.remove_task(task)
        self._spinner.add_task(escape(safe(what)))

    def _line(self, label: str, text: str, style: str = "") -> None:
        lines = _clip(safe(text)).splitlines() or [""]
        pad = " " * (LABEL_WIDTH + 2)
        body = f"\n{pad}".join(escape(line) for line in lines)
        self._console.print(
            f"[bold {style}]{label:>{LABEL_WIDTH}}[/]  {body}" if style else f"{label:>{LABEL_WIDTH}}  {body}"
        )

    def _show(self, event: Event) -> None:
        match event:
            case ModelLoading():
                self._wait(f"loading {event.model} for {event.role}")
            case ModelReady():
                self._line(
                    "model", f"{event.model}: ready in {event.seconds:.2f} s, context {event.n_ctx} tokens", "blue"
                )
                self._wait("thinking")
            case Delta():
                self._text = (self._text + event.text)[-60:]
                self._spinner.update(self._spinner.task_ids[-1], description=escape(safe(" ".join(self._text.split()))))
            case Step():
                self._line("step", f"{event.node}{': ' * bool(event.detail)}{event.detail}", "cyan")
                self._text = ""
                self._wait("thinking")
            case ModelCall():
                self._failed_call(event)
            case Repair():
                self._line("repaired", f"{event.rung}: {event.detail}", "red")
            case Compacted():
                self._line("context", f"{event.done}: about {event.before} -> {event.after} tokens", "blue")
            case BudgetLow():
                self._line("limit", event.detail, "red")
            case ApprovalRequested():
                self._asked.append(event)
            case ApprovalGiven():
                self._asked.clear()
                self._line("decided", f"{event.decision}{': ' * bool(event.message)}{event.message}", "yellow")
            case Thought():
                self._line("thought", event.text, "magenta")
            case ToolCall():
                self._line("call", f"{event.name}({_arguments(event.arguments)})", "yellow")
                self._wait(f"running {event.name}")
            case Observation():
                failed = FAILED.get(str(event.error), "failed")
                self._line("observed" if event.ok else failed, event.text, "green" if event.ok else "red")
                self._text = ""
                self._wait("thinking")
            case Notice():
                self._line("notice", event.text, "red")
            case Result():
                self._spinner.stop()
                self._end(event)

    def _failed_call(self, call: ModelCall) -> None:
        """A call that failed; its reason stands in the line beside it. One that waits is told once."""
        told, self._told = self._told, (call.role, call.error)
        if call.error is not None and call.then is not None and (call.then != "called_again" or told != self._told):
            self._line("model", f"{call.model}: the call failed ({call.error}), {THEN[call.then]}", "red")
            self._text = ""

    def _end(self, result: Result) -> None:
        if result.thread_id:
            seconds = time.monotonic() - self._began
            spent = f"{result.steps} steps, {result.usage.total_tokens} tokens, {seconds:.1f} s"
            self._console.print(f"[dim]{result.stop_reason}: {spent}, thread {escape(result.thread_id)}[/]")
        if result.stop_reason == "awaiting_approval":
            for asked in self._asked:
                what = asked.subject if asked.kind == "plan" else f"{asked.subject}({_arguments(asked.arguments)})"
                self._line("asks", what, "yellow")
            hint = f"benchai run --resume {result.thread_id} --decide approve (or reject)"
            self._console.print(f"[bold cyan]hint:[/] {escape(safe(hint))}")
        elif result.stop_reason == "completed" or result.output:
            sys.stdout.write((safe(result.output) if sys.stdout.isatty() else result.output) + "\n")
            sys.stdout.flush()


def _arguments(arguments: dict[str, Any] | str) -> str:
    if isinstance(arguments, str):
        return arguments
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def _clip(text: str) -> str:
    """The beginning of a long text: the run has all of it, a terminal need not."""
    lines = text.splitlines()
    cut = "\n".join(lines[:MAX_LINES])
    if len(lines) <= MAX_LINES and len(cut) <= MAX_TEXT:
        return cut
    return f"{cut[:MAX_TEXT]} ... ({len(lines)} lines, {len(text)} characters)"


def make_view(as_json: bool) -> View:
    """The view that the options ask for."""
    return JsonView() if as_json else TextView()
