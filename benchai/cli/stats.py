"""``benchai stats`` and ``benchai feedback``: what requests cost, and what users think of the replies."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.options import JsonOption, print_json

if TYPE_CHECKING:
    from benchai.runtime.usage.read import Report

app = typer.Typer(
    help="What requests cost and how they ended, and the targets of the fleet.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
NO_ROWS = (
    "there are no usage rows yet: each request to the address of benchai serve, and each call of a run, leaves one"
    " (unless usage.enabled is false)"
)


class Grouping(StrEnum):
    """What requests are grouped by."""

    role = "role"
    model = "model"
    workflow = "workflow"
    key = "key"


@app.callback()
def stats(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option("--since", help="An age (12h, 7d, 4w) or a date. Default: all there is.")
    ] = None,
    by: Annotated[Grouping, typer.Option("--by", help="What the table has a row for.")] = Grouping.role,
    last: Annotated[int, typer.Option("--last", min=0, help="List so many of the last requests instead.")] = 0,
    json: JsonOption = False,
    png: Annotated[
        Path | None, typer.Option("--png", help="Draw the report into this file.", show_default=False)
    ] = None,
) -> None:
    """Print tables and plots of past requests, and whether the fleet meets its targets."""
    if context.invoked_subcommand is not None:
        return
    from benchai.errors import UsageError

    if json and png is not None:
        raise UsageError("--json and --png exclude each other", hint="call the command once for each")
    if last:
        _print_last(last, json)
        return
    found = _report(since, by)
    if found is None:
        _say_empty(json)
    elif json:
        print_json(found.as_json())
    elif png is not None:
        from benchai.runtime.usage.picture import save_png

        save_png(found, png)
        typer.echo(f"wrote {png}", err=True)
    else:
        from benchai.cli.stats_view import print_report

        print_report(found)


@app.command()
def purge(
    before: Annotated[
        str | None, typer.Option("--before", help="Delete what is older: an age (30d) or a date.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete usage rows, and contents where they were kept, for good."""
    from benchai.errors import UsageError
    from benchai.runtime.usage.periods import moment, when
    from benchai.runtime.usage.purge import count
    from benchai.runtime.usage.purge import purge as delete
    from benchai.runtime.usage.schema import usage_file

    if (before is None) == (not everything):
        raise UsageError("say what to delete", hint="give either --before (30d, or a date) or --all")
    file = usage_file()
    if not file.is_file():
        typer.echo(NO_ROWS, err=True)
        return
    limit = None if before is None else moment(before)
    what = "all usage rows" if limit is None else f"the usage rows before {when(limit)}"
    if not yes:
        _ask(f"delete {what} ({count(file, limit):,} requests)? [y/N] ")
    typer.echo(f"deleted {delete(file, limit):,} requests", err=True)


def feedback(
    request: Annotated[str, typer.Argument(metavar="ID", help="Id of the request: benchai stats --last 10.")],
    value: Annotated[str, typer.Argument(help="up, down, or a number from -1 to 1 (after --, if negative).")],
    comment: Annotated[str | None, typer.Option("--comment", help="Further words.", show_default=False)] = None,
) -> None:
    """Say what you think of a reply."""
    from benchai.runtime.usage.row import checked_comment, feedback_value
    from benchai.runtime.usage.schema import give_feedback, opened, usage_file

    given = feedback_value(_number(value))
    words = checked_comment(comment)
    with opened(usage_file()) as connection:
        give_feedback(connection, request, given, words)
    typer.echo(f"noted {given:+g} for {request}", err=True)


def _number(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value


def _report(since: str | None, by: Grouping) -> Report | None:
    from benchai.runtime.usage.periods import moment
    from benchai.runtime.usage.read import report
    from benchai.runtime.usage.schema import usage_file

    return report(usage_file(), by.value, None if since is None else moment(since))


def _print_last(count: int, json: bool) -> None:
    from dataclasses import asdict

    from benchai.runtime.usage.read import last_rows
    from benchai.runtime.usage.row import CONTENTS
    from benchai.runtime.usage.schema import usage_file

    rows = last_rows(usage_file(), count)
    if json:
        print_json([{name: value for name, value in asdict(row).items() if name not in CONTENTS} for row in rows])
    elif rows:
        from benchai.cli.stats_view import print_rows

        print_rows(rows)
    else:
        _say_empty(json)


def _say_empty(json: bool) -> None:
    typer.echo(NO_ROWS, err=True)
    if json:
        print_json({})


def _ask(question: str) -> None:
    """Go on only if the user on the terminal says so."""
    from benchai.errors import UsageError

    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("nobody is there to be asked", hint="give --yes to delete without a question")
    sys.stderr.write(question)
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo("nothing is deleted", err=True)
        raise typer.Exit(1)
