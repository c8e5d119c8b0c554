"""``benchai memory export|import``: all that a namespace holds, as a file; notes that others wrote."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.memory import NamespaceOption, in_memory
from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.memory.importing import Imported

SUFFIXES = (".md", ".markdown")


def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; default: the output.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="For people; it can be imported, too.")] = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
) -> None:
    """Write all that a namespace and those below it hold, as JSON lines."""
    from benchai.cli.render import safe
    from benchai.config.paths import replace_file
    from benchai.errors import UsageError

    text = in_memory(lambda memory, ns: memory.exported(ns, markdown), config, namespace)
    if file is None:
        sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
        return
    try:
        replace_file(file, text)
    except OSError as error:
        message = f"{str(file)!r} cannot be written: {error.strerror}"
        raise UsageError(message, hint="name another file, or free space on its disk") from error


def import_(
    file: Annotated[Path, typer.Argument(help="What export wrote, or Markdown, or a folder of it; - for the input.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="It is Markdown, whatever its name.")] = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Keep what an export holds; of other Markdown each bullet and paragraph, as a note. Nothing is kept twice."""
    from benchai.memory.markdown import is_export

    if str(file) != "-" and file.is_dir():
        done = _markdown(_folder(file), config, namespace)
    else:
        text = _text(file)
        lines = text.split("\n")
        if markdown or file.suffix.lower() in SUFFIXES or is_export(lines):
            done = _markdown({"": text}, config, namespace)
        else:
            done = in_memory(lambda memory, ns: memory.imported(ns, lines), config, namespace)
    if json:
        print_json(done.model_dump(mode="json"))
    else:
        _say(done)


def _markdown(files: dict[str, str], config: Path | None, namespace: str | None) -> Imported:
    return in_memory(lambda memory, ns: memory.imported_markdown(ns, files), config, namespace)


def _folder(folder: Path) -> dict[str, str]:
    """The Markdown below a folder, by its names there; what is hidden is left out."""
    from benchai.errors import UsageError

    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = {path.relative_to(folder): path for path in found}
    files = {str(name): _text(path) for name, path in names.items() if not any(part[0] == "." for part in name.parts)}
    if not files:
        raise UsageError(f"{str(folder)!r} holds no Markdown", hint=f"its files end with {' or '.join(SUFFIXES)}")
    return files


def _text(file: Path) -> str:
    from benchai.errors import UsageError

    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{str(file)!r} cannot be read: line {line} is no UTF-8: {error.reason}") from error
    except OSError as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error}") from error


def _say(done: Imported) -> None:
    for word, counts in (("added", done.added), ("known", done.known)):
        told = ", ".join(f"{kind}s: {count}" for kind, count in counts.items() if count)
        typer.echo(f"{word}: {told or 'nothing'}", err=True)
    left = ", ".join(f"{sort}: {count}" for sort, count in done.skipped.items() if count)
    if left:
        typer.echo(f"skipped: {left}", err=True)
