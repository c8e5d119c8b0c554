"""``benchai fleet``: what the fleet would run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.runtime.placement.plan import ModelPlan

app = typer.Typer(help="Look at the fleet of models.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    # a group of one command would otherwise be that command
    pass


@app.command()
def plan(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print engine, argument vector, port, roles and placement of every model, without starting any."""
    from benchai.config import load_config
    from benchai.runtime.engine.discover import find_engine
    from benchai.runtime.placement.gpu import list_gpus
    from benchai.runtime.placement.plan import plan_fleet

    loaded = load_config(config)
    local = any(not model.remote for model in loaded.config.models.values())
    engine = find_engine(loaded.config.engine, loaded.folder) if local else None
    plans = plan_fleet(loaded, engine, list_gpus())
    if json:
        print_json([one.as_json() for one in plans])
        return
    for one in plans:
        _print(one)


def _print(plan: ModelPlan) -> None:
    import shlex

    typer.echo(f"{plan.model}: {plan.placement}, roles {', '.join(plan.roles) or 'none'}")
    if plan.placement == "remote":
        typer.echo(f"  endpoint {plan.host}")
        return
    typer.echo(f"  listens on {plan.host}:{plan.port or 'a free port'}")
    for file in plan.missing:
        typer.echo(f"  missing {file}")
    typer.echo(f"  {shlex.join(plan.argv)}")
