"""``benchai config``: check, show, schema, path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.config import LoadedConfig

app = typer.Typer(help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check the configuration; exit code 2 when it is wrong."""
    from rich.markup import escape

    from benchai.cli.render import err_console
    from benchai.config import load_config

    loaded = load_config(config)
    console = err_console()
    for warning in loaded.warnings:
        console.print("[bold yellow]warning:[/]", escape(warning))
    _check_drafts(loaded)
    roles = ", ".join(f"{role}={model}" for role, model in loaded.config.role_map().items())
    typer.echo(f"{loaded.name}: valid; models {', '.join(loaded.config.models)}; roles {roles}")


def _check_drafts(loaded: LoadedConfig) -> None:
    """Compare the vocabularies of the drafts whose files are there; what is missing has its warning."""
    from benchai.config import paths
    from benchai.runtime.placement.vocabulary import check_draft

    for name, model in loaded.config.models.items():
        file = loaded.model_file(name) if model.draft else None
        draft = loaded.resolve(model.draft.file) if model.draft else None
        if file is not None and draft is not None and paths.is_file(file) and paths.is_file(draft):
            check_draft(file, draft, f"models.{name}")


@app.command()
def show(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print the configuration in force, with defaults and overrides."""
    from benchai.config import load_config

    loaded = load_config(config)
    data = loaded.config.as_data()
    if json:
        print_json(data)
        return
    import yaml

    overrides = "".join(f"# overridden by {variable}\n" for variable in loaded.overrides)
    typer.echo(f"# {loaded.name}\n{overrides}{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}", nl=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of benchai.yaml, for editors."""
    from benchai.config import Config

    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema())


@app.command()
def path(config: ConfigOption = None) -> None:
    """Print the path of the configuration in force; nothing for the built-in one."""
    from benchai.config import find_config, paths

    found = find_config(config)
    if found is not None:
        typer.echo(str(found))
        return
    own = paths.config_dir() / "benchai.yaml"
    typer.echo(f"the built-in configuration; your own would be ./benchai.yaml or {own}", err=True)
