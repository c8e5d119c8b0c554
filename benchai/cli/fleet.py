"""``benchai fleet``: what the fleet would run, and the fleet of a running ``benchai serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from benchai.runtime.placement.plan import ModelPlan

app = typer.Typer(help="Look at the fleet of models, and steer it.", no_args_is_help=True, rich_markup_mode=None)

ModelArgument = Annotated[str, typer.Argument(help="Name of the model in benchai.yaml.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")]
WATCH_SECONDS = 1.0
# more than any row: Rich cuts what is wider
PIPE_WIDTH = 10_000


@app.command()
def plan(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print engine, argument vector, port, roles and placement of every model, and the memory they would take."""
    from benchai.config import load_config
    from benchai.runtime.engine.discover import find_engine
    from benchai.runtime.placement.outlook import outlook
    from benchai.runtime.placement.plan import plan_fleet

    loaded = load_config(config)
    local = any(not model.remote for model in loaded.config.models.values())
    engine = find_engine(loaded.config.engine, loaded.folder) if local else None
    view = outlook(loaded, engine)
    plans = plan_fleet(loaded, engine, view.gpus if view.gpus and engine and engine.uses_gpus() else [], view.claims())
    if json:
        print_json([one.as_json() | {"memory": view.of(one.model)} for one in plans])
        return
    for one in plans:
        _print(one)
    for bar in view.bars():
        typer.echo(bar)


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


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Show every model of the running server: state, process, memory, queue, restarts, speed."""
    from benchai.cli.server_client import call

    if json:
        print_json(call("GET", "/fleet"))
        return
    if watch:
        _watch()
        return
    _stdout().print(_table(call("GET", "/fleet")))


def _stdout() -> Any:
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    # a pipe has no width: nothing is cut there
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=PIPE_WIDTH)


def _watch() -> None:
    import contextlib
    import time

    from rich.live import Live

    from benchai.cli.server_client import call

    with contextlib.suppress(KeyboardInterrupt), Live(_table(call("GET", "/fleet")), console=_stdout()) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(_table(call("GET", "/fleet")))


def _table(models: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from benchai.cli.render import safe

    table = Table(box=None, pad_edge=False)
    for title in ("model", "roles", "state", "where", "pid", "port", "memory", "in use", "queue", "restarts", "tok/s"):
        table.add_column(title, no_wrap=title == "model")
    for model in models:
        # as text: a name may look like markup
        table.add_row(*(Text(safe(cell)) for cell in _row(model)))
    return table


def _row(model: dict[str, Any]) -> list[str]:
    name = model["model"]
    roles = ", ".join([*model["roles"], *(f"copy for {role}" for role in model.get("copy_of", []))])
    if model["state"] == "remote":
        return [name, roles, "remote", model["endpoint"], *[""] * 7]
    memory = model["memory"]
    measured = sum(memory["measured"].values())
    claimed = sum(memory["claimed"].values()) or memory["estimated"]
    size = f"{measured} of {claimed} MiB" if measured else f"{claimed} MiB" if claimed else ""
    state = model["state"] + (f", again in {model['retry_after']:.0f} s" if model["retry_after"] >= 1 else "")
    cells = (model["pid"], model["port"], size, f"{model['in_use']}/{model['slots']}", model["queue"])
    more = (model["restarts"], model["tokens_per_second"])
    return [name, roles, state, model["placement"], *("" if cell is None else str(cell) for cell in (*cells, *more))]


@app.command()
def start(model: ModelArgument) -> None:
    """Start a model if it fits beside what runs."""
    _act(model, "start")


@app.command()
def stop(model: ModelArgument) -> None:
    """Stop a model once its requests have ended; the next request for it starts it again."""
    _act(model, "stop")


@app.command()
def restart(model: ModelArgument) -> None:
    """Stop a model and start it again, also one that has failed."""
    _act(model, "restart")


@app.command()
def swap(model: ModelArgument) -> None:
    """Start a model in place of others, which keep their KV caches and come back when it is idle."""
    _act(model, "swap")


def _act(model: str, action: str) -> None:
    from urllib.parse import quote

    from benchai.cli.server_client import call

    for one in call("POST", f"/fleet/models/{quote(model, safe='')}/{action}"):
        typer.echo(f"{one['model']}: {one['state']}")


@app.command()
def logs(
    model: ModelArgument,
    follow: FollowOption = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines to begin with.")] = 50,
) -> None:
    """Print the last lines of a model's log."""
    from urllib.parse import quote

    _print_lines(f"/fleet/models/{quote(model, safe='')}/logs", lines=lines, follow=follow)


@app.command()
def events(
    follow: FollowOption = False,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Events to begin with.")] = 100,
    json: JsonOption = False,
) -> None:
    """Print what happened to the fleet: every change of a model's state with its cause and exit code."""
    _print_lines("/fleet/events", form=None if json else _event_line, last=last, follow=follow)


def _print_lines(path: str, form: Any = None, **params: Any) -> None:
    import contextlib
    import sys

    from benchai.cli.render import safe
    from benchai.cli.server_client import lines

    # a reader that has left is Typer's business: it ends without a word
    with contextlib.suppress(KeyboardInterrupt):
        for line in lines(path, **params):
            text = form(line) if form else line
            if text:
                sys.stdout.write(f"{safe(text)}\n")
                sys.stdout.flush()


def _event_line(line: str) -> str:
    import json
    import time

    event = json.loads(line)
    at = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    if event["type"] == "model_state":
        code = f", exit code {event['exit_code']}" if event["exit_code"] is not None else ""
        return f"{at}  {event['model']}: {event['previous']} -> {event['state']}: {event['cause']}{code}"
    return f"{at}  {event['text']}" if event["type"] == "notice" else ""
