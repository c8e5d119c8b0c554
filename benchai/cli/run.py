"""``benchai run``: a workflow from the command line."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.options import ConfigOption

if TYPE_CHECKING:
    from benchai.cli.render import View
    from benchai.config import LoadedConfig
    from benchai.events import Result
    from benchai.graphs.guards import Budget

INTERRUPTED = 130


def run(
    workflow: Annotated[str, typer.Argument(help="Name of the workflow; 'benchai workflows' lists them.")],
    task: Annotated[
        str | None, typer.Argument(help="The task; '-' or nothing reads it from stdin.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="An image that belongs to the task; may be repeated.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Folder that file tools see; default: the current one.")
    ] = None,
    thread: Annotated[
        str | None, typer.Option("--thread", help="Go on with this thread, or begin one of this name.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option("--role", help="ROLE=MODEL: another model for a role.")] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Calls of a model at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Tokens of the run at most.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.001, help="Seconds of the run at most.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON event a line on stdout.")] = False,
) -> None:
    """Run a workflow on a task."""
    from benchai.cli.asyncrun import Interrupted, run_async
    from benchai.cli.render import make_view, print_error
    from benchai.config import load_config
    from benchai.errors import BenchAIError

    view = make_view(json)
    try:
        loaded = load_config(config).with_roles(parse_roles(role or []))
        limits = (max_steps, max_tokens, timeout)
        text = read_task(task)
        with view:
            result = run_async(_run(view, workflow, text, image or [], thread, loaded, workspace, limits))
    except BenchAIError as error:
        view.failed(workflow, error)
        print_error(error)
        raise typer.Exit(error.exit_code) from None
    except Interrupted as interrupted:
        view.interrupted(workflow)
        raise typer.Exit(interrupted.exit_code) from None
    raise typer.Exit(0 if result.stop_reason == "completed" else 1)


async def _run(
    view: View,
    workflow: str,
    task: str,
    images: list[Path],
    thread: str | None,
    loaded: LoadedConfig,
    workspace: Path | None,
    limits: tuple[int | None, int | None, float | None],
) -> Result:
    from benchai.bench import Bench
    from benchai.events import Result
    from benchai.graphs.guards import Ledger

    result: Result | None = None
    async with Bench.open(loaded, workspace=workspace) as bench:
        ledger = Ledger(_budget(bench.default_budget(), *limits))
        view.follow(ledger)
        async with aclosing(bench.stream(workflow, task, images=images, thread_id=thread, ledger=ledger)) as events:
            async for event in events:
                view.show(event)
                result = event if isinstance(event, Result) else result
    assert result is not None
    return result


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
