"""``benchai memory``: what is kept, found, corrected and forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from benchai.cli.memory_shown import day, line, of_id
from benchai.cli.options import ConfigOption, JsonOption, print_json, say

if TYPE_CHECKING:
    from benchai.memory.forget import Forgotten
    from benchai.memory.namespace import Namespace
    from benchai.memory.search import Found
    from benchai.memory.service import MemoryService
    from benchai.memory.types import Passage

T = TypeVar("T")
app = typer.Typer(
    help="Keep, find and forget documents and what was said.", no_args_is_help=True, rich_markup_mode=None
)
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="PROJECT, PROJECT/THREAD or /THREAD, behind KEY: for the user of an API key; default: memory.project",
        show_default=False,
    ),
]
IdArgument = Annotated[str, typer.Argument(help="Id, such as f12 or p7.")]


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to look for, in words.")],
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=1000, help="Passages at most.")] = 10,
    kind: Annotated[
        list[str] | None, typer.Option(help="document, turn, fact, howto or summary; may be repeated.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Pattern of documents' sources, such as '*/notes/*'.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag that documents must have; may be repeated.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens that the passages may take together.")] = None,
    neighbours: Annotated[bool, typer.Option("--neighbours", help="Notes linked with what is found, too.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell each leg's place, weights, and what is off.")
    ] = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Find passages that belong to a question, best first."""
    from benchai.memory.search import Filter, Query

    wanted = _valid(Filter, kinds=tuple(kind or ()), source=source, tags=tuple(tag or ()))
    asked = _valid(Query, text=question, count=count, tokens=tokens, neighbours=neighbours, filter=wanted)
    found = in_memory(lambda memory, ns: memory.search(ns, asked), config, namespace)
    if json:
        print_json(found.model_dump(mode="json"))
        return
    for passage in found.passages:
        _say_passage(passage, explain)
    if explain:
        _say_explanation(found)
    elif not found.passages:
        typer.echo("nothing is found", err=True)


@app.command()
def remember(
    text: Annotated[str, typer.Argument(help="A fact, as a sentence that stands alone.")],
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
) -> None:
    """Keep a note."""
    _not_empty(text, "the note")
    added = in_memory(lambda memory, ns: memory.remember(ns, text), config, namespace)
    typer.echo(added.id)
    if added.how == "known":
        typer.echo("it was known", err=True)


@app.command()
def show(
    id: Annotated[str | None, typer.Argument(help="Id, such as f12, d3 or p7; default: what there is.")] = None,
    thread: Annotated[str | None, typer.Option(help="The turns of this thread.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Facts as they were held on this day (2026-05-01).")] = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print facts and threads, or one of them."""
    at = _seconds(as_of)

    async def found(memory: MemoryService, ns: Namespace) -> list[Any]:
        if thread is not None:
            return list(await memory.turns_of(ns, thread))
        if id is not None:
            return await of_id(memory, ns, id)
        return [*await memory.facts(ns, as_of=at), *([] if at else await memory.threads(ns))]

    _say_all(in_memory(found, config, namespace), json)


@app.command()
def why(
    id: IdArgument, namespace: NamespaceOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Tell how a fact was learned, with the turns it comes from."""
    told = in_memory(lambda memory, ns: memory.why(ns, id), config, namespace)
    if json:
        print_json(told.model_dump(mode="json"))
        return
    say(f"{line(told.fact)}\nlearned {day(told.fact.at)} by {told.fact.extractor}")
    for turn in told.sources:
        say(f"  from {line(turn)}")
    for older in told.history:
        if older.id != told.fact.id:
            say(f"  on the same: {line(older)}")


@app.command()
def edit(
    id: IdArgument,
    text: Annotated[str | None, typer.Option(help="The fact as a sentence.")] = None,
    value: Annotated[str | None, typer.Option(help="Its value alone.")] = None,
    confidence: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
) -> None:
    """Correct a fact: what it said before is not kept."""
    from benchai.errors import UsageError

    if text is None and value is None and confidence is None:
        raise UsageError("nothing is to be changed", hint="name --text, --value or --confidence")
    changed = in_memory(lambda memory, ns: memory.edit(ns, id, text, value, confidence), config, namespace)
    say(line(changed))


@app.command()
def forget(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of what is to be forgotten.")] = None,
    source: Annotated[str | None, typer.Option(help="Documents whose source matches this pattern.")] = None,
    thread: Annotated[str | None, typer.Option(help="All that was said on this thread.")] = None,
    matching: Annotated[str | None, typer.Option(help="All that contains this text.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All of the namespace.")] = False,
    sources: Annotated[bool, typer.Option("--sources", help="The turns that facts come from, too.")] = False,
    prove: Annotated[bool, typer.Option("--prove", help="Write all files anew, and look through their bytes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Forget sources and all that was derived from them, in a namespace and those below it."""
    from benchai.cli.proving import forget_proved
    from benchai.graphs.forgetting import forget_replies
    from benchai.memory.forget import Target

    target = _valid(
        Target,
        ids=tuple(ids or ()),
        source=source,
        thread=thread,
        matching=matching,
        everything=everything,
        sources=sources,
    )
    if not yes:
        would = in_memory(lambda memory, ns: memory.would_forget(ns, target), config, namespace)
        _confirm(would)
    if prove:
        forget_proved(target, config, namespace, json)
        return
    gone = in_memory(lambda memory, ns: memory.forget(ns, target), config, namespace)
    forget_replies()
    if json:
        print_json(gone.model_dump(mode="json"))
        return
    typer.echo(f"forgot {counted(gone)}", err=True)


def in_memory(
    work: Callable[[MemoryService, Namespace], Awaitable[T]], config: Path | None, namespace: str | None
) -> T:
    """The result of work on the memory: that of a running server, or opened for it."""
    from benchai.cli.asyncrun import run_async
    from benchai.cli.opening import opened_memory
    from benchai.config import load_config

    async def done() -> T:
        async with opened_memory(load_config(config), namespace) as (memory, ns):
            return await work(memory, ns)

    return run_async(done())


def _valid(model: type[Any], **values: Any) -> Any:
    from pydantic import ValidationError

    from benchai.errors import UsageError

    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{name} = {first['input']!r}: {told}" if name else told) from error


def _not_empty(text: str, what: str) -> None:
    from benchai.errors import UsageError

    if not text.strip():
        raise UsageError(f"{what} is empty")


def _seconds(day: str | None) -> float | None:
    from datetime import datetime

    from benchai.errors import UsageError

    if day is None:
        return None
    try:
        return datetime.fromisoformat(day).astimezone().timestamp()
    except ValueError as error:
        raise UsageError(f"--as-of {day!r} is no date", hint="write it as 2026-05-01") from error


def _confirm(would: Forgotten) -> None:
    import sys

    from benchai.errors import UsageError

    if not any(would.counts.values()):
        raise UsageError("there is nothing to forget")
    if not sys.stdin.isatty():
        raise UsageError(f"this would forget {counted(would)}", hint="--yes does it without asking")
    typer.confirm(f"forget {counted(would)}?", abort=True, err=True)


def counted(gone: Forgotten) -> str:
    """What was forgotten, by kind."""
    return ", ".join(f"{kind}s: {count}" for kind, count in gone.counts.items() if count) or "nothing"


def _say_passage(passage: Passage, explain: bool) -> None:
    head = "  ".join(part for part in (passage.id, passage.kind, passage.place, passage.heading) if part)
    if explain:
        legs = ", ".join(f"{name} {leg.rank} ({leg.score:.3g})" for name, leg in passage.legs.items())
        head += f"  [{passage.score:.4f}: {legs}]"
    say(head)
    say("\n".join(f"    {line}" for line in passage.text.strip().splitlines()))


def _say_explanation(found: Found) -> None:
    typer.echo(f"words: {' '.join(found.words)}", err=True)
    for name, count in found.candidates.items():
        weight = f"weight {found.weights[name]:.2f}" if name in found.weights else "off"
        typer.echo(f"{name}: {count} candidates, {weight}, {found.seconds.get(name, 0) * 1000:.1f} ms", err=True)
    for name, reason in found.off.items():
        # in the words of a server
        say(f"{name} is off: {reason}", err=True)


def _say_all(found: list[Any], json: bool) -> None:
    if json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    from benchai.memory.types import Passage

    for one in found:
        if isinstance(one, Passage):
            _say_passage(one, False)
        else:
            say(line(one))
