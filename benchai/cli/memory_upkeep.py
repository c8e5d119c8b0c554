"""``benchai memory stats|verify|rebuild|vacuum``: the memory looked after."""

from __future__ import annotations

from typing import Annotated

import typer

from benchai.cli.memory import NamespaceOption, in_memory
from benchai.cli.options import ConfigOption, JsonOption, print_json, say


def stats(namespace: NamespaceOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show how much is kept, and what it takes."""
    from benchai.memory.left import told

    found = in_memory(lambda memory, ns: memory.stats(ns), config, namespace)
    if json:
        print_json(found.model_dump(mode="json"))
        return
    for name, count in found.counts.items():
        typer.echo(f"{name}: {count}")
    for name, count in found.namespaces.items():
        typer.echo(f"passages of {name or 'the user'}: {count}")
    for name, size in found.bytes.items():
        typer.echo(f"{name}: {size / 2**20:.1f} MiB")
    if found.embedder is None:
        typer.echo(f"vectors: none of {found.pending} passages, only words are searched")
    else:
        typer.echo(f"vectors: of {found.embedder}, {found.pending} passages to be embedded")
    for place, problem in found.left.items():
        say(told(place, problem))
    for name, weight in found.weights.items():
        typer.echo(f"learned weight of {name}: {weight:.2f}")


def verify(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Look at every page and every row, and whether the indexes say what is kept. Exit code 1: something is wrong."""
    found = in_memory(lambda memory, _: memory.verify(), config, None)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        for problem in found.problems:
            typer.echo(problem)
        vectors = "" if found.vectors is None else f", {found.vectors} vectors"
        typer.echo(f"looked at {found.passages} passages{vectors}: {len(found.problems)} problems", err=True)
    if found.problems:
        raise typer.Exit(1)


def rebuild(config: ConfigOption = None) -> None:
    """Make the full-text index and all vectors anew from what is kept."""
    from benchai.cli.memory_progress import bar, embedding

    with bar() as show:
        done = in_memory(lambda memory, ns: embedding(memory, ns, memory.rebuild(), show), config, None)
    if done is None:
        typer.echo("the full-text index is new; there is no embedder", err=True)
        return
    typer.echo(f"the full-text index is new; {done.embedded} passages embedded, {len(done.failed)} failed", err=True)
    for number, reason in list(done.failed.items())[:20]:
        typer.echo(f"p{number}: {reason}", err=True)


def vacuum(
    give_up: Annotated[
        str | None,
        typer.Option(help="Leave the vectors of this place, which is not used any more, as they are.", metavar="PLACE"),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Give back to the disk what deleted rows took, and empty what the vectors have left. Exit code 1: it is not."""
    from benchai.memory.left import told

    left = in_memory(lambda memory, _: memory.vacuum(give_up), config, None)
    for place, problem in left.items():
        say(told(place, problem), err=True)
    if left:
        raise typer.Exit(1)
