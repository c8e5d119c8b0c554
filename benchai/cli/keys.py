"""``benchai keys``: API keys of `benchai serve`. They stand in benchai.yaml, as their SHA-256 sums alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.config.server import KeyConfig

app = typer.Typer(help="API keys of 'benchai serve'.", no_args_is_help=True, rich_markup_mode=None)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Who will use it: letters, digits, '.', '_', '@' and '-'.")],
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="Requests a minute; default: any.")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option("--concurrent", min=1, help="Requests at a time; default: any.")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key: it goes to stdout and is kept nowhere; what to put into benchai.yaml goes to stderr."""
    from benchai.config import load_config
    from benchai.server.auth import digest, new_key

    loaded = load_config(config)
    _check_name(name, loaded.config.server.keys)
    key = new_key()
    entry: dict[str, str | int] = {"name": name, "sha256": digest(key)}
    limits = {"requests_per_minute": requests_per_minute, "concurrent": concurrent}
    entry |= {what: limit for what, limit in limits.items() if limit is not None}
    if json:
        print_json({"key": key} | entry)
        return
    typer.echo(key)
    where = loaded.path or "benchai.yaml"
    typer.echo(f"The key is shown this once. To let it in, {where} needs:\n\n{_yaml(entry)}", err=True)


@app.command("list")
def listed(config: ConfigOption = None, json: JsonOption = False) -> None:
    """The keys that benchai.yaml lets in, one a line: name, limits, the start of the sum."""
    from benchai.config import load_config

    keys = load_config(config).config.server.keys
    if json:
        print_json([key.model_dump() for key in keys])
        return
    if not keys:
        typer.echo("there are no keys; 'benchai keys new NAME' makes one", err=True)
    for key in keys:
        limits = f"{_limit(key.requests_per_minute)}/min  {_limit(key.concurrent)} at a time"
        typer.echo(f"{key.name}  {limits}  {key.sha256[:12]}")


def _limit(limit: int | None) -> str:
    return "any" if limit is None else str(limit)


def _check_name(name: str, keys: list[KeyConfig]) -> None:
    from benchai.config.server import KEY_NAME
    from benchai.errors import UsageError

    if not re.fullmatch(KEY_NAME, name):
        hint = "a letter or digit first, then letters, digits, '.', '_', '@' or '-', at most 64 in all"
        raise UsageError(f"a key cannot have the name {name[:80]!r}", hint=hint)
    if any(key.name == name for key in keys):
        raise UsageError(f"there is a key of the name {name!r} already", hint="take its line out of server.keys first")


def _yaml(entry: dict[str, str | int]) -> str:
    # quoted: a sum of digits alone would be a number
    fields = ", ".join(
        f'{name}: "{value}"' if isinstance(value, str) else f"{name}: {value}" for name, value in entry.items()
    )
    return f"server:\n  keys:\n    - {{{fields}}}"
