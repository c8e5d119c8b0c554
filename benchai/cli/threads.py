"""``benchai threads``: list, show, delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from langchain_core.messages import AnyMessage

    from benchai.graphs.checkpoints import Thread, ThreadStore
    from benchai.graphs.history import Point

T = TypeVar("T")
app = typer.Typer(help="Look at past conversations.", no_args_is_help=True, rich_markup_mode=None)
ThreadArgument = Annotated[str, typer.Argument(help="Id of the thread.")]


@app.command("list")
def list_(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List all threads, the one used last first."""
    from dataclasses import asdict

    threads = _in_store(_list, config)
    if json:
        print_json([asdict(thread) | {"state": state} for thread, state in threads])
        return
    for thread, state in threads:
        say("  ".join([thread.thread_id, _when(thread.updated), thread.workflow, state, thread.title]))


@app.command()
def show(
    thread: ThreadArgument,
    history: Annotated[bool, typer.Option("--history", help="Its checkpoints, for benchai run --from.")] = False,
    events: Annotated[bool, typer.Option("--events", help="The events of its runs.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="The path its runs took, as a mermaid flowchart.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print the conversation of a thread, or what else is kept of it."""
    from benchai.errors import UsageError

    if history + events + graph > 1:
        raise UsageError("--history, --events and --graph exclude each other", hint="call the command once for each")
    if graph:
        _show_graph(thread, config, json)
    elif history:
        _show_history(thread, config, json)
    elif events:
        _show_events(thread, config, json)
    else:
        _show_messages(thread, config, json)


@app.command()
def delete(thread: ThreadArgument, config: ConfigOption = None) -> None:
    """Delete a thread with all that is kept of it, in the memory, too."""
    from benchai.cli.memory_threads import forget_thread

    _in_store(lambda store: store.delete(thread), config)
    say(f"deleted {thread}", err=True)
    if forgot := forget_thread(thread, config):
        say(f"the memory forgot {forgot}", err=True)


def _show_messages(thread: str, config: Path | None, json: bool) -> None:
    messages = [_as_json(message) for message in _in_store(lambda store: store.messages(thread), config)]
    if json:
        print_json(messages)
        return
    for message in messages:
        calls = [f"{call['name']}({call['args']})" for call in message.get("tool_calls", [])]
        say(f"{message['type']}: {' '.join([message['content'], *calls]).strip()}")


def _show_history(thread: str, config: Path | None, json: bool) -> None:
    from dataclasses import asdict

    points = _in_store(lambda store: store.history(thread), config)
    if json:
        print_json([asdict(point) for point in points])
        return
    for point in points:
        say(_line_of(point))


def _line_of(point: Point) -> str:
    from datetime import datetime

    when = datetime.fromisoformat(point.created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    ran = "+".join(point.nodes) or point.source
    then = f"then {'+'.join(point.next)}" if point.next else "the end" if point.source == "loop" else ""
    return "  ".join(part for part in (point.checkpoint_id, when, f"{point.step:>3}", ran, then, point.last) if part)


def _show_events(thread: str, config: Path | None, json: bool) -> None:
    from datetime import datetime
    from json import dumps

    kept = _in_store(lambda store: store.events(thread), config)
    if json:
        print_json(kept)
        return
    for event in kept:
        when = datetime.fromtimestamp(event["time"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        rest = {key: value for key, value in event.items() if key not in ("type", "time", "run_id")}
        say(f"{when}  {event['type']:<12}  {dumps(rest, ensure_ascii=False)}")


def _show_graph(thread: str, config: Path | None, json: bool) -> None:
    from dataclasses import asdict

    from benchai.graphs.path import draw_path

    async def found(store: ThreadStore) -> tuple[str, list[Point]]:
        return await store.state_of(await store.get(thread)), await store.history(thread, nested=True)

    state, points = _in_store(found, config)
    drawn = draw_path(points, state)
    if json:
        print_json({"state": state, "mermaid": drawn, "checkpoints": [asdict(point) for point in points]})
    else:
        typer.echo(drawn)


def _in_store(work: Callable[[ThreadStore], Awaitable[T]], config: Path | None) -> T:
    from benchai.config import load_config
    from benchai.graphs.checkpoints import open_threads

    async def opened() -> T:
        async with open_threads(load_config(config).config.threads) as store:
            return await work(store)

    return asyncio.run(opened())


async def _list(store: ThreadStore) -> list[tuple[Thread, str]]:
    return [(thread, await store.state_of(thread)) for thread in await store.threads()]


def _as_json(message: AnyMessage) -> dict[str, Any]:
    data: dict[str, Any] = {"type": message.type, "content": str(message.text)}
    calls = getattr(message, "tool_calls", None)
    return data | ({"tool_calls": calls} if calls else {})


def _when(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
