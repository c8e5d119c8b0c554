"""``benchai route``: which role a request would go to, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.runtime.router.route import Route
    from benchai.runtime.router.tables import Tables

TextArgument = Annotated[
    str | None, typer.Argument(help="What is asked. Left out: --file, or -f - for standard input.")
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="JSON: a list of messages, or an object with messages and tools; - is stdin."),
]
#: A file of more bytes is no conversation that a person wrote or recorded by hand.
LARGEST = 64 * 2**20


def route(
    text: TextArgument = None,
    file: FileOption = None,
    explain: Annotated[bool, typer.Option("--explain", "-e", help="Print every factor and sign.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="As if tools were offered with it.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print which role answers a text or a conversation, and why; no model is asked.

    The first line is the role alone, so that scripts can read it; the reason goes with it on the second one.
    """
    from benchai.config import load_config
    from benchai.runtime.router.conversation import conversation
    from benchai.runtime.router.route import workflow
    from benchai.runtime.router.rules import Rules
    from benchai.runtime.router.tables import tables

    messages, offered = _request(text, file)
    loaded = load_config(config)
    known = tables(loaded.config.routing)
    found = Rules(known).route(messages, tools or offered)
    chosen = workflow(found, conversation(messages).text)
    if json:
        print_json(_data(found, known, chosen))
        return
    typer.echo(found.role)
    typer.echo(found.reason)
    if explain:
        for line in _lines(found, known, chosen):
            typer.echo(line)


def _request(text: str | None, file: Path | None) -> tuple[list[Any], bool]:
    """The messages, and whether tools are offered.

    Raises:
        UsageError: both or none given, or a file that cannot be read or holds no conversation.
    """
    from benchai.errors import UsageError

    if (text is None) == (file is None):
        given = "neither was" if text is None else "both were"
        raise UsageError(
            f"a text or --file is needed, {given} given", hint='for example: benchai route "fix the bug in cart.py"'
        )
    if file is None:
        return [{"role": "user", "content": text}], False
    return _conversation(_parsed(file), str(file))


def _parsed(file: Path) -> Any:
    import json
    import sys

    from benchai.errors import UsageError

    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error.strerror}", hint="check the path") from error
    if len(data) > LARGEST:
        raise UsageError(f"{str(file)!r} is larger than {LARGEST // 2**20} MiB", hint="leave pictures out of the file")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{str(file)!r} is no JSON: {error}", hint="a list of messages is expected") from error


def _conversation(data: Any, name: str) -> tuple[list[Any], bool]:
    from benchai.errors import UsageError

    messages = data.get("messages") if isinstance(data, dict) else data
    if not isinstance(messages, list):
        raise UsageError(
            f"{name!r} holds no list of messages",
            hint='expected: [{"role": "user", "content": "..."}] or {"messages": [...]}',
        )
    return messages, isinstance(data, dict) and bool(data.get("tools"))


def _data(found: Route, known: Tables, chosen: str) -> dict[str, Any]:
    return {
        "role": found.role,
        "intent": found.intent,
        "complexity": round(found.complexity, 4),
        "reason": found.reason,
        "follows": found.follows,
        "picture": found.picture,
        "workflow": chosen,
        "scores": dict(found.scores),
        "signals": {intent: list(names) for intent, names in found.signals.items()},
        "factors": [
            {"name": name, "amount": amount, "weight": weight, "limit": limit, "adds": round(adds, 4)}
            for name, amount, weight, limit, adds in _factors(found)
        ],
        "thresholds": _thresholds(known),
        "allowed": dict(found.allowed),
    }


def _thresholds(known: Tables) -> dict[str, float]:
    import dataclasses

    return dataclasses.asdict(known.thresholds)


def _factors(found: Route) -> list[tuple[str, float, float, float, float]]:
    from benchai.runtime.router.route import FACTORS

    return [
        (name, found.factors[name], weight, limit, min(limit, weight * found.factors[name]))
        for name, (weight, limit) in FACTORS.items()
    ]


def _lines(found: Route, known: Tables, chosen: str) -> list[str]:
    """The factors, the signs and the roles, as a person reads them."""
    lines = [f"complexity {found.complexity:.2f}"]
    lines += [
        f"  {name:<16} {amount:g} x {weight:g} = {adds:.2f}" + (f" (limit {limit:g})" if adds == limit else "")
        for name, amount, weight, limit, adds in _factors(found)
    ]
    limits = ", ".join(f"{name} {value:g}" for name, value in _thresholds(known).items())
    lines += [f"  thresholds: {limits}", "signs"]
    for intent, points in sorted(found.scores.items(), key=lambda one: -one[1]):
        named = ", ".join(found.signals.get(intent, ())) or "none"
        lines.append(f"  {intent:<10} {points:4.1f}  {named}")
    allowed = ", ".join(f"{role} (+{seconds:g} s)" if seconds else role for role, seconds in found.allowed.items())
    return [*lines, f"may answer: {allowed}", f"workflow of benchai run: {chosen}"]
