"""``benchai memory export|import``: all that a namespace holds, as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchai.cli.memory import NamespaceOption, in_memory
from benchai.cli.options import ConfigOption


def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; default: the output.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="For people; it can't be imported.")] = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
) -> None:
    """Write all that a namespace and those below it hold, as JSON lines."""
    from benchai.cli.render import safe
    from benchai.config.paths import replace_text
    from benchai.errors import UsageError

    text = in_memory(lambda memory, ns: memory.exported(ns, markdown), config, namespace)
    if file is None:
        sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
        return
    try:
        replace_text(file, text)
    except OSError as error:
        raise UsageError(f"{str(file)!r} cannot be written: {error.strerror}") from error


def import_(
    file: Annotated[Path, typer.Argument(help="What export wrote; - for the input.")],
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
) -> None:
    """Keep what an export holds; what is there already is not kept twice."""
    from benchai.errors import UsageError

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error}") from error
    done = in_memory(lambda memory, ns: memory.imported(ns, text.split("\n")), config, namespace)
    for word, counts in (("added", done.added), ("known", done.known)):
        told = ", ".join(f"{kind}s: {count}" for kind, count in counts.items() if count)
        typer.echo(f"{word}: {told or 'nothing'}", err=True)
