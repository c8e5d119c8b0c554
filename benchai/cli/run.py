"""``benchai run``: a workflow from the command line."""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import ConfigOption

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchai.bench import Bench
    from benchai.cli.render import View
    from benchai.config import LoadedConfig
    from benchai.events import Event, Result
    from benchai.graphs.execution import Approver
    from benchai.graphs.guards import Budget

INTERRUPTED = 130
ROUTER = "router"


@dataclass(frozen=True)
class Order:
    """What is to be run: a workflow on a task, or a thread that goes on."""

    workflow: str
    task: str
    images: list[Path] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    workspace: Path | None = None
    thread: str | None = None
    resume: str | None = None
    checkpoint: str | None = None
    decisions: Any = None
    approve_plan: bool = False
    limits: tuple[int | None, int | None, float | None] = (None, None, None)
    trace: Path | None = None


def run(
    workflow: Annotated[
        str | None,
        typer.Argument(
            help="Name of a workflow ('benchai workflows' lists them), or the task itself.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Argument(help="The task; '-' or nothing reads it from stdin.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="An image that belongs to the task; may be repeated.")
    ] = None,
    input: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="KEY=VALUE: an input of the workflow beside the task.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Folder that file tools see; default: the current one.")
    ] = None,
    thread: Annotated[
        str | None, typer.Option("--thread", help="Go on with this thread, or begin one of this name.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Finish the interrupted run of this thread.", metavar="THREAD")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--from", help="Branch off at this checkpoint of the thread.", metavar="CHECKPOINT")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve everything that would be asked.")] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask; stop where a decision is needed.")] = False,
    decide: Annotated[
        str | None, typer.Option("--decide", help="With --resume: approve, reject, or a decision as JSON.")
    ] = None,
    approve_plan: Annotated[bool, typer.Option("--approve-plan", help="Show a plan before work begins.")] = False,
    tools: Annotated[
        str | None, typer.Option("--tools", help="Names of the tools to offer, with commas; 'all' for all.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option("--role", help="ROLE=MODEL: another model for a role.")] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Calls of a model at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Tokens of the run at most.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.001, help="Seconds of the run at most.")] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Append the run's spans to this file (OTLP JSON).", metavar="FILE")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON event a line on stdout.")] = False,
) -> None:
    """Run a workflow on a task; without a workflow's name, the one that fits the task."""
    from benchai.cli.ask import make_approver
    from benchai.cli.asyncrun import Interrupted, run_async
    from benchai.cli.faults import fault_of
    from benchai.cli.render import make_view, print_error
    from benchai.config import load_config
    from benchai.errors import BenchAIError

    view = make_view(json)
    name = workflow or ROUTER
    try:
        loaded = load_config(config).with_roles(parse_roles(role or [])).with_tools(tools)
        name, text = ("", "") if resume else what_to_run(workflow, task, loaded)
        order = Order(
            name,
            text,
            image or [],
            parse_inputs(input or []),
            workspace,
            thread,
            resume,
            checkpoint,
            parse_decision(decide, resume),
            approve_plan,
            (max_steps, max_tokens, timeout),
            trace,
        )
        check_order(order, workflow, task)
        with view:
            approver = make_approver(view, yes=yes, ask=not no_input and not json)
            result = run_async(_run(view, order, loaded, approver))
    except BenchAIError as error:
        view.failed(name, error)
        print_error(error)
        raise typer.Exit(error.exit_code) from None
    except Interrupted as interrupted:
        view.interrupted(name)
        raise typer.Exit(interrupted.exit_code) from None
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        view.failed(name, fault)
        print_error(fault)
        raise typer.Exit(fault.exit_code) from None
    raise typer.Exit(0 if result.stop_reason == "completed" else 1)


async def _run(view: View, order: Order, loaded: LoadedConfig, approver: Approver | None) -> Result:
    from benchai.bench import Bench
    from benchai.cli.asyncrun import on_termination
    from benchai.events import Result

    result: Result | None = None
    async with Bench.open(loaded, workspace=order.workspace, trace=order.trace) as bench:
        with on_termination(bench.drain):
            async with aclosing(await _events(bench, view, order, approver)) as events:
                async for event in events:
                    view.show(event)
                    result = event if isinstance(event, Result) else result
    assert result is not None
    return result


async def _events(bench: Bench, view: View, order: Order, approver: Approver | None) -> AsyncGenerator[Event, None]:
    from benchai.graphs.guards import Ledger

    name = (await bench.threads.get(order.resume)).workflow if order.resume else order.workflow
    ledger = Ledger(_budget(bench.default_budget(bench.registry.get(name)), *order.limits))
    view.follow(ledger)
    common: dict[str, Any] = {
        "checkpoint": order.checkpoint,
        "ledger": ledger,
        "approver": approver,
        "approve_plan": order.approve_plan,
    }
    if order.resume:
        return bench.stream_resumed(order.resume, order.decisions, **common)
    return bench.stream(name, order.task, images=order.images, inputs=order.inputs, thread_id=order.thread, **common)


def what_to_run(workflow: str | None, task: str | None, loaded: LoadedConfig) -> tuple[str, str]:
    """Workflow and task: a single argument that is no workflow's name but has blanks is a task for the router."""
    from benchai.graphs.names import workflow_names

    if workflow is not None and task is None and workflow not in workflow_names(loaded) and len(workflow.split()) > 1:
        return ROUTER, workflow
    if workflow is None:
        return ROUTER, read_task(None)
    return workflow, read_task(task)


def check_order(order: Order, workflow: str | None, task: str | None) -> None:
    """Refuse options that exclude each other.

    Raises:
        UsageError: they do.
    """
    from benchai.errors import UsageError

    if order.resume and (workflow or task or order.thread or order.images or order.inputs):
        hint = "for a new task on the thread: benchai run WORKFLOW TASK --thread " + order.resume
        raise UsageError("--resume takes no new workflow, task, thread, image or input", hint=hint)
    if order.checkpoint and not (order.resume or order.thread):
        raise UsageError("--from needs --thread or --resume: the thread that the checkpoint belongs to")


def parse_inputs(pairs: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a mapping; a value that is JSON is read as such, a key given twice makes a list."""
    import json

    from benchai.errors import UsageError

    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not key or not sign:
            raise UsageError(f"--input {pair!r} is not of the form KEY=VALUE", hint="for example --input refinements=2")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if key in found:
            earlier = found[key] if isinstance(found[key], list) else [found[key]]
            value = [*earlier, value]
        found[key] = value
    return found


def parse_decision(text: str | None, resume: str | None) -> Any:
    """The decision of ``--decide``: a word, or JSON."""
    import json

    from benchai.errors import UsageError

    if text is None:
        return None
    if resume is None:
        raise UsageError("--decide needs --resume: the thread that awaits the decision")
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--decide is no JSON: {error}", hint='for example --decide \'{"decision": "approve"}\''
        ) from error


def _budget(default: Budget, steps: int | None, tokens: int | None, seconds: float | None) -> Budget:
    from benchai.graphs.guards import Budget

    return Budget(steps or default.steps, tokens or default.tokens, seconds or default.seconds)


def parse_roles(pairs: list[str]) -> dict[str, str]:
    """``ROLE=MODEL`` texts as a mapping."""
    from benchai.errors import UsageError

    roles = {}
    for pair in pairs:
        role, _, model = pair.partition("=")
        if not role or not model:
            raise UsageError(f"--role {pair!r} is not of the form ROLE=MODEL", hint="for example --role general=tiny")
        roles[role] = model
    return roles


def read_task(task: str | None) -> str:
    """The task from the argument, or from stdin.

    Raises:
        UsageError: it is not UTF-8, larger than can be taken, or there is none.
    """
    from benchai.errors import UsageError

    if task in (None, "-") and sys.stdin is None:
        raise UsageError("the task is missing, and stdin is closed", hint="give the task as an argument")
    if task is None and sys.stdin.isatty():
        raise UsageError("the task is missing", hint='for example: benchai run react "What is 12 * 7?"')
    if task is None or task == "-":
        return _read_stdin()
    try:
        task.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the task is not UTF-8 at character {error.start}", hint="check the terminal's encoding"
        ) from error
    return task


def _read_stdin() -> str:
    from benchai.errors import UsageError

    # room for any task that is taken, and one byte to see that it was more
    limit = 64 * 1024 * 1024
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise UsageError(f"stdin holds more than {limit:,} bytes", hint="put the text into a file of the workspace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "convert it, for example with iconv -t UTF-8"
        raise UsageError(
            f"stdin is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}", hint=hint
        ) from error
