"""Asking the user on the terminal: what a tool is about to do, or a plan."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from benchai.cli.render import err_console, safe
from benchai.errors import UsageError

if TYPE_CHECKING:
    from benchai.cli.render import View
    from benchai.graphs.approvals import Approval
    from benchai.graphs.execution import Approver

KEYS = "y yes, n no, e edit the arguments, r answer in its place"
PLAN_KEYS = "y yes, n no, e edit it, r say what to change"
SHOWN_BEFORE = 0.02
_INDENT = " " * 11


def make_approver(view: View, *, yes: bool, ask: bool) -> Approver | None:
    """Who decides: everything is approved, the user on the terminal, or nobody."""
    if yes:
        return _approve_all
    if not ask or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    lines = Lines(sys.stdin.fileno())

    async def on_terminal(asked: list[Approval]) -> dict[str, Any] | None:
        # what led to the question is shown before it
        await asyncio.sleep(SHOWN_BEFORE)
        with view.paused():
            try:
                return {"decisions": {one.id: await _decide(one, lines) for one in asked}}
            except EOFError:
                err_console().print(f"\n{_INDENT}no decision: the input ended")
                return None

    return on_terminal


class Lines:
    """Lines of a terminal, read without blocking the run."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._read = b""

    async def ask(self, prompt: str) -> str:
        """The next line, without its end.

        Raises:
            EOFError: the input has ended.
        """
        sys.stderr.write(prompt)
        sys.stderr.flush()
        while b"\n" not in self._read:
            await _readable(self._terminal)
            piece = os.read(self._terminal, 4096)
            if not piece:
                raise EOFError
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")


async def _readable(terminal: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    # a thread that waits for input could not be ended by Ctrl-C
    loop.add_reader(terminal, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(terminal)


async def _approve_all(_: list[Approval]) -> str:
    return "approve"


async def _decide(asked: Approval, lines: Lines) -> dict[str, Any]:
    console = err_console()
    plan = asked.kind == "plan"
    what = "this plan:" if plan else f"{asked.subject}({_shown(asked.arguments)})"
    why = f"  [dim]({escape(safe(asked.reason))})[/]" if asked.reason and not plan else ""
    console.print(f"[bold yellow]{'approve?':>9}[/]  {escape(safe(what))}{why}")
    if plan:
        console.print(escape(safe(asked.subject)))
    while True:
        answer = (await lines.ask(f"{_INDENT}[{PLAN_KEYS if plan else KEYS}] ")).strip()
        word, _, rest = answer.partition(" ")
        try:
            return await decision_of(word.lower(), rest.strip(), asked, lines)
        except UsageError as error:
            console.print(f"{_INDENT}{escape(safe(error.message))}")


async def decision_of(word: str, rest: str, asked: Approval, lines: Lines) -> dict[str, Any]:
    """The decision that a key stands for; what belongs to it is asked for where it does not follow the key.

    Raises:
        UsageError: it is no decision.
        EOFError: the input has ended.
    """
    if word in ("y", "yes"):
        return {"decision": "approve"}
    if word in ("n", "no"):
        return {"decision": "reject", "message": rest or await lines.ask(f"{_INDENT}why? (enter for no reason) ")}
    if word in ("r", "respond"):
        message = rest or (await lines.ask(f"{_INDENT}answer: ")).strip()
        if not message:
            raise UsageError("there is no answer")
        return {"decision": "respond", "message": message}
    if word in ("e", "edit"):
        text = rest or await lines.ask(f"{_INDENT}arguments, now {safe(_shown(asked.arguments))}: ")
        return {"decision": "edit", "arguments": _object(text)}
    raise UsageError("please answer y, n, e or r")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"that is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError("a JSON object is expected")
    return value


def _shown(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)
