"""``benchai doctor``: what this machine has, and what to do about each problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.runtime.checkup import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Check engine, hardware, models, ports and folders; exit code 1 when there is a problem."""
    from benchai.runtime.checkup import check_up

    findings = check_up(config)
    if json:
        from dataclasses import asdict

        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    raise typer.Exit(1 if any(finding.state == "problem" for finding in findings) else 0)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape

    from benchai.cli.render import safe

    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for finding in findings:
        state = f"[{STYLES[finding.state]}]{finding.state:<8}[/]"
        console.print(f"{state} {escape(safe(finding.what))}: {escape(safe(finding.text))}")
        if finding.mend:
            console.print(f"         [cyan]hint:[/] {escape(finding.mend)}")
