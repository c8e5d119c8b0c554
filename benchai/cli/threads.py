"""``benchai threads``: list, show, delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import JsonOption, print_json

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage

    from benchai.graphs.checkpoints import Thread

app = typer.Typer(help="Look at past conversations.", no_args_is_help=True, rich_markup_mode=None)
ThreadArgument = Annotated[str, typer.Argument(help="Id of the thread.")]


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List all threads, the one used last first."""
    from dataclasses import asdict

    from benchai.cli.render import safe

    threads = asyncio.run(_list())
    if json:
        print_json([asdict(thread) | {"state": state} for thread, state in threads])
        return
    for thread, state in threads:
        line = "  ".join([thread.thread_id, _when(thread.updated), thread.workflow, state, thread.title])
        typer.echo(safe(line))


@app.command()
def show(thread: ThreadArgument, json: JsonOption = False) -> None:
    """Print the conversation of a thread."""
    from benchai.cli.render import safe

    messages = [_as_json(message) for message in asyncio.run(_messages(thread))]
    if json:
        print_json(messages)
        return
    for message in messages:
        calls = [f"{call['name']}({call['args']})" for call in message.get("tool_calls", [])]
        typer.echo(safe(f"{message['type']}: {' '.join([message['content'], *calls]).strip()}"))


@app.command()
def delete(thread: ThreadArgument) -> None:
    """Delete a thread with all its checkpoints."""
    asyncio.run(_delete(thread))
    typer.echo(f"deleted {thread}", err=True)


async def _list() -> list[tuple[Thread, str]]:
    from benchai.config import paths
    from benchai.graphs.checkpoints import open_threads

    async with open_threads(paths.threads_file()) as store:
        return [(thread, store.state_of(thread)) for thread in await store.threads()]


async def _messages(thread: str) -> list[AnyMessage]:
    from benchai.config import paths
    from benchai.graphs.checkpoints import open_threads

    async with open_threads(paths.threads_file()) as store:
        return await store.messages(thread)


async def _delete(thread: str) -> None:
    from benchai.config import paths
    from benchai.graphs.checkpoints import open_threads

    async with open_threads(paths.threads_file()) as store:
        await store.delete(thread)


def _as_json(message: AnyMessage) -> dict[str, Any]:
    data: dict[str, Any] = {"type": message.type, "content": str(message.text)}
    calls = getattr(message, "tool_calls", None)
    return data | ({"tool_calls": calls} if calls else {})


def _when(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
