"""``benchai memory add`` and ``add-vault``: documents are read here, and kept by whoever owns the memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.memory import NamespaceOption
from benchai.cli.options import ConfigOption, JsonOption, print_json, say

if TYPE_CHECKING:
    from benchai.memory.ingest import Failure, IngestReport
    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService

SHOWN_FAILURES = 20
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Stay, and follow what changes, until Ctrl-C.")]
Report = Callable[[Any], None]


def add(
    targets: Annotated[list[str], typer.Argument(help="Files, folders, http(s) addresses, or - for the input.")],
    name: Annotated[str, typer.Option(help="What the input is called; its suffix tells its format.")] = "",
    watch: WatchOption = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Keep documents: text, Markdown, code, HTML, PDF, DOCX, CSV, notebooks. What did not change is not read."""
    from benchai.errors import UsageError

    if watch and any(_is_no_file(target) for target in targets):
        raise UsageError("--watch follows files and folders", hint="add addresses and the input without it")
    reports = _watching(targets) if watch else _once(targets, name)
    _adding(reports, config, namespace, json)


def add_vault(
    vault: Annotated[Path, typer.Argument(help="Folder of an Obsidian vault.")],
    force: Annotated[bool, typer.Option("--force", help="Take a folder without .obsidian, too.")] = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Keep the notes of an Obsidian vault, with their links, tags and properties; renamed notes stay themselves."""

    async def once(memory: MemoryService, ns: Namespace, progress: Report) -> AsyncGenerator[IngestReport, None]:
        from benchai.memory.vault.ingest import ingest_vault

        yield await ingest_vault(memory, ns, vault, force=force, progress=progress)

    _adding(once, config, namespace, json)


Reports = Callable[["MemoryService", "Namespace", Report], AsyncGenerator["IngestReport", None]]


def _once(targets: list[str], name: str) -> Reports:
    async def reports(memory: MemoryService, ns: Namespace, progress: Report) -> AsyncGenerator[IngestReport, None]:
        from benchai.memory.ingest import ingest

        yield await ingest(memory, ns, targets, fetch=_fetch, name=name, progress=progress)

    return reports


def _watching(targets: list[str]) -> Reports:
    async def reports(memory: MemoryService, ns: Namespace, progress: Report) -> AsyncGenerator[IngestReport, None]:
        from benchai.memory.watch import watch

        async for report in watch(memory, ns, targets, progress=progress):
            yield report

    return reports


def _adding(reports: Reports, config: Path | None, namespace: str | None, json: bool) -> None:
    from benchai.cli.asyncrun import run_async

    failed = run_async(_added(reports, config, namespace, json))
    if failed:
        raise typer.Exit(1)


async def _added(reports: Reports, config: Path | None, namespace: str | None, json: bool) -> bool:
    """Whether anything could not be read."""
    from benchai.cli.memory_progress import bar, embedding
    from benchai.cli.opening import opened_memory
    from benchai.config import load_config

    failed = False
    async with opened_memory(load_config(config), namespace) as (memory, ns):
        with bar() as show:
            read = reports(memory, ns, lambda one: show(one.done, one.total, one.source))
            async with aclosing(read) as found:
                async for report in found:
                    await embedding(memory, ns, memory.index(), show)
                    failed = failed or bool(report.failures)
                    _say(report, json)
    return failed


async def _fetch(url: str) -> tuple[str, str, bytes]:
    """See ``ingest.Fetch``: no address of this machine or its network is asked."""
    from benchai.errors import SourceError, ToolError
    from benchai.memory.loaders import CAP
    from benchai.tools.net import Access
    from benchai.tools.web import Kind, fetch

    try:
        body = await fetch(url, Access(size=CAP, total=120), Kind(lambda _: True, ""))
    except ToolError as error:
        raise SourceError(error.message, hint=error.hint) from error
    if body.cut:
        raise SourceError(f"{url!r} is longer than {CAP >> 20} MiB", hint="save a part of it, and add that file")
    charset = f"; charset={body.charset}" if body.charset else ""
    return str(body.url), f"{body.media_type}{charset}", body.data


def _say(report: IngestReport, json: bool) -> None:
    from dataclasses import asdict

    if json:
        print_json(asdict(report))
        return
    _list(report.failures, "not read")
    _list(report.left_out, "left out")
    counts = {name: getattr(report, name) for name in ("added", "changed", "unchanged", "removed")}
    parts = [f"{count} {name}" for name, count in counts.items() if count] or ["nothing to do"]
    typer.echo(f"{', '.join(parts)}; {report.passages} passages in {report.seconds:.1f} s", err=True)


def _list(failures: list[Failure], what: str) -> None:

    for failure in failures[:SHOWN_FAILURES]:
        hint = f" ({failure.hint})" if failure.hint else ""
        named = "" if repr(failure.source) in failure.reason else f"{failure.source!r}: "
        say(f"{what}: {named}{failure.reason}{hint}", err=True)
    if (more := len(failures) - SHOWN_FAILURES) > 0:
        typer.echo(f"and {more} more; --json lists all", err=True)


def _is_no_file(target: str) -> bool:
    return target == "-" or target.lower().startswith(("http://", "https://"))
