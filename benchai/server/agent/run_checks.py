"""What is asked for as a run, checked against the graph that it is for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fastapi import Request

from benchai.errors import UsageError
from benchai.server.agent.active import Wanted
from benchai.server.agent.assistants import find_assistant
from benchai.server.agent.requests import CommandBody, RunBody
from benchai.server.agent.service import AgentService, UnknownItem, Unprocessable, owner_of

if TYPE_CHECKING:
    from benchai.bench import Bench
    from benchai.graphs.execution import Graph


async def wanted_run(
    service: AgentService, request: Request, thread_id: str | None, body: RunBody, key: str | None
) -> Wanted:
    """A run that can be made, as far as that can be told before it is taken in.

    Raises:
        Unprocessable: there is no such assistant, or a field does not fit its graph.
        UnknownItem: the checkpoint that it is to begin at is not there.
    """
    owner = owner_of(request)
    _ = body.config.budget, body.config.priority
    if body.webhook is not None:
        service.webhooks.check(body.webhook)
    try:
        assistant = await find_assistant(service, owner, body.assistant_id)
    except UnknownItem as error:
        raise Unprocessable(error.message, hint=error.hint) from error
    async with service.workshop.bench() as bench:
        graph = bench.graph(assistant.graph_id)
        _check_nodes(graph, body)
        if body.command is not None:
            if body.input:
                raise Unprocessable("a run is given an input or a command, not both", hint='send "input": null')
            _check_command(graph, body.command)
        if body.begins_at is not None:
            await _check_checkpoint(service, bench, owner, thread_id, body.begins_at)
        if body.command is None and body.input is not None:
            from benchai.graphs.starting import started

            try:
                started(bench.registry.get(assistant.graph_id), graph, body.input)
            except UsageError as error:
                raise Unprocessable(error.message, hint=error.hint) from error
    digest = b""
    if key is not None:
        path = request.url.path.removesuffix("/wait").removesuffix("/stream")
        digest = hashlib.sha256(path.encode() + b"\0" + await request.body()).digest()
    return Wanted(owner, thread_id, assistant, body, key, digest)


async def _check_checkpoint(
    service: AgentService, bench: Bench, owner: str, thread_id: str | None, checkpoint_id: str
) -> None:
    """A graph that is to begin at a checkpoint that is not there would begin with nothing.

    Raises:
        UnknownItem: the thread has no such checkpoint.
    """
    inner = service.check_thread(owner, thread_id)["inner_id"] if thread_id is not None else None
    if inner is None or not await bench.threads.has_checkpoint(inner, checkpoint_id):
        raise UnknownItem(f"there is no checkpoint {checkpoint_id[:100]!r} on the thread")


def _check_nodes(graph: Graph, body: RunBody) -> None:
    for name, given in (("interrupt_before", body.interrupt_before), ("interrupt_after", body.interrupt_after)):
        _check_names(name, [] if given in (None, "*") else list(given), graph)


def _check_names(what: str, names: list[str], graph: Graph) -> None:
    for unknown in (one for one in names if one not in graph.nodes):
        known = ", ".join(sorted(one for one in graph.nodes if not one.startswith("__")))
        raise Unprocessable(f"{what} names {unknown[:100]!r}, which is no node", hint=f"there are: {known}")


def _check_command(graph: Graph, command: CommandBody) -> None:
    if command.update is None and command.resume is None and not command.goto:
        hint = "resume, update or goto; a run that is to go on as it is needs no command"
        raise Unprocessable("the command is empty", hint=hint)
    goto = command.goto if isinstance(command.goto, list) else [command.goto] if command.goto is not None else []
    names = [one if isinstance(one, str) else one.node for one in goto]
    _check_names("command.goto", [one for one in names if one != "__end__"], graph)
    update = command.update or {}
    pairs = list(update.items()) if isinstance(update, dict) else update
    keys = {key for schema in graph.builder.schemas.values() for key in schema}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Unprocessable(f"command.update holds {str(pair)[:100]!r}, which is no pair of a key and a value")
        if pair[0] not in keys:
            known = ", ".join(sorted(keys))
            raise Unprocessable(f"command.update: the state has no key {str(pair[0])[:100]!r}", hint=f"it has: {known}")
