"""``benchai bench``: what the models of the roles can do on this machine, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.runtime.measure.report import Report

DEFAULT = "speed"
HELP = ("--help",)
MOST_AT_A_TIME = 256
PromptsOption = Annotated[
    Path | None,
    typer.Option("--prompts", help="Your prompts: text with an empty line between two, or JSONL.", show_default=False),
]


class DefaultGroup(TyperGroup):
    """A group whose first word may be left out: what is no command of it goes to ``speed``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front of words that name none."""
        if not args or (args[0] not in self.commands and args[0] not in HELP):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=DefaultGroup,
    help="Measure models. Without a command the speed is measured: benchai bench code is benchai bench speed code.",
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    # a group of one command would otherwise be that command
    pass


@app.command()
def speed(
    roles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROLE]...", help="Roles or models; default: all roles that write text."),
    ] = None,
    prompts: PromptsOption = None,
    concurrent: Annotated[
        str, typer.Option("--concurrent", help="Requests at a time, with commas between the numbers.")
    ] = "1,2,4",
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="How often all prompts are sent.")] = 3,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=100_000, help="Tokens of each reply.")] = 64,
    png: Annotated[Path | None, typer.Option("--png", help="Draw it into this file.", show_default=False)] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Measure tokens per second, time to the first token and memory, and compare with the last run.

    Each model gets an engine of its own for the time of the measurement. Models that make embeddings or scores are
    measured in texts per second, where they are named.
    """
    from benchai.cli.asyncrun import run_async
    from benchai.cli.render import safe
    from benchai.config import load_config
    from benchai.runtime.measure.prompts import read_prompts
    from benchai.runtime.measure.report import choose, measure_all
    from benchai.runtime.measure.speed import Work

    work = Work(read_prompts(prompts), at_a_time(concurrent), repeats, max_tokens)
    if png is not None:
        _refuse_no_place(png)
    loaded = load_config(config)
    # not within the progress, which a terminal forgets
    chosen = choose(loaded, roles or [], lambda text: typer.echo(safe(text), err=True))
    with progress() as say:
        report = run_async(measure_all(loaded, chosen, work, say, downloads(say)))
    _show(report, json, png)


@app.command()
def history(
    last: Annotated[int, typer.Option("--last", min=1, max=100_000, help="So many of the newest rows.")] = 20,
    json: JsonOption = False,
) -> None:
    """List past measurements of speed, the newest first."""
    from dataclasses import asdict

    from benchai.runtime.measure.history import history_file, last_rows

    rows = last_rows(history_file(), last)
    if json:
        print_json([asdict(row) for row in rows])
    elif rows:
        from benchai.cli.bench_view import print_rows

        print_rows(rows)
    else:
        typer.echo("nothing was measured yet: benchai bench", err=True)


def at_a_time(text: str) -> tuple[int, ...]:
    """``1,2,4`` as numbers.

    Raises:
        UsageError: it is no list of numbers, or one is too small or too large.
    """
    from benchai.errors import UsageError

    parts = [part.strip() for part in text.split(",")]
    if not all(
        part.isascii() and part.isdigit() and len(part) < 9 and 1 <= int(part) <= MOST_AT_A_TIME for part in parts
    ):
        hint = f"numbers from 1 to {MOST_AT_A_TIME} with commas, for example 1,2,4"
        raise UsageError(f"--concurrent {text[:80]!r} is no list of numbers of requests", hint=hint)
    return tuple(sorted({int(part) for part in parts}))


def _refuse_no_place(png: Path) -> None:
    from benchai.errors import UsageError

    if png.is_dir() or not png.absolute().parent.is_dir():
        hint = "name a file in a folder that is there"
        raise UsageError(f"the picture {str(png)!r} cannot be written there", hint=hint)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Say on stderr what is done now: in one place on a terminal, else a line a step."""
    from benchai.cli.render import err_console, safe

    console = err_console()
    if not console.is_terminal:
        yield lambda text: typer.echo(safe(text), err=True)
        return
    from rich.text import Text

    with console.status("") as status:
        yield lambda text: status.update(Text(safe(text)))


def downloads(say: Callable[[str], None]) -> Callable[[Any], None]:
    """Says what a download tells, and nothing else of the events."""
    from benchai.events import Notice

    return lambda event: say(event.text) if isinstance(event, Notice) else None


def _show(report: Report, json: bool, png: Path | None) -> None:
    if json:
        print_json(report.as_json())
    else:
        from benchai.cli.bench_view import print_report

        print_report(report)
    if png is not None:
        from benchai.runtime.measure.speed_picture import save_png

        save_png(report, png)
        typer.echo(f"wrote {png}", err=True)
    errors = [*report.failed.values(), *([report.unkept] if report.unkept else [])]
    for error in errors:
        from benchai.cli.render import print_error

        print_error(error)
    if errors:
        raise typer.Exit(errors[0].exit_code)
