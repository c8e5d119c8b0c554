"""The command line. Start-up is lazy: a command imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from benchai.cli import config, doctor, fleet, run, threads, workflows

app = typer.Typer(
    name="benchai",
    help="Run tool-using agent workflows on a fleet of local llama.cpp servers.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("workflows")(workflows.workflows)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(fleet.app, name="fleet")
app.add_typer(threads.app, name="threads")


def _version(value: bool) -> None:
    if value:
        from benchai import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors of BenchAI become two lines on stderr and their exit code."""
    from benchai.errors import BenchAIError

    try:
        app()
    except BenchAIError as error:
        from benchai.cli.render import print_error

        print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
