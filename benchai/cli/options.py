"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The benchai.yaml to use.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def say(text: str, *, err: bool = False) -> None:
    """A text that others may have written, without what steers a terminal."""
    from benchai.cli.render import safe

    typer.echo(safe(text), err=err)


def print_json(data: object) -> None:
    """Indented JSON on stdout."""
    import json

    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
