"""``benchai memory forget --prove``: what a look through all bytes has found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchai.cli.options import print_json, say

if TYPE_CHECKING:
    from benchai.memory.careful import Proven
    from benchai.memory.forget import Target


def forget_proved(target: Target, config: Path | None, namespace: str | None, json: bool) -> None:
    """Forget and prove it. Exit code 1: something was found, or not looked through."""
    from benchai.cli.memory import in_memory
    from benchai.graphs.forgetting import forget_replies, places

    forget_replies()
    told = in_memory(lambda memory, ns: memory.forget_proved(ns, target, places()), config, namespace)
    if json:
        print_json(told.model_dump(mode="json", exclude={"forgotten": {"texts"}}))
    else:
        _say(told)
    if not told.proof.clean:
        raise typer.Exit(1)


def _say(told: Proven) -> None:
    from benchai.cli.memory import counted

    proof = told.proof
    typer.echo(f"forgot {counted(told.forgotten)}", err=True)
    for one in proof.findings:
        say(f"still there: {one.what} in {one.place}, {one.file} at {one.offset}: {one.sample}")
    for file, reason in proof.unread.items():
        say(f"not looked through: {file}: {reason}")
    verdict = f"found: {len(proof.findings)}" if proof.findings else "nothing of it is left there"
    typer.echo(f"looked through {proof.files} files, {proof.bytes / 2**20:.1f} MiB: {verdict}", err=True)
