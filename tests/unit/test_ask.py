"""The question on the terminal: keys, what belongs to them, and input that ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from benchai.cli.ask import make_approver
from benchai.cli.render import JsonView, View
from benchai.graphs.approvals import Approval, decisions_of
from benchai.graphs.execution import Approver

pytestmark = pytest.mark.anyio
SHELL = Approval("one", "tool", "shell", {"command": "ls"}, "shell asks by default")
WRITE = Approval("two", "tool", "write_file", {"path": "a"}, "")
PLAN = Approval("plan", "plan", "1. general: Write a.", {"tasks": []}, "--approve-plan")


class Paused(JsonView):
    """Notes whether the terminal was left to the question."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[bool] = []

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.states.append(True)
        yield
        self.states.append(False)


class Terminal:
    """A pseudo-terminal in the place of ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours, self.theirs = os.openpty()
        # own descriptors: a file closes the one that it is given
        self._stdin = open(os.dup(self.theirs), encoding="utf-8")  # noqa: SIM115, PTH123 - no path
        self._stderr = open(os.dup(self.theirs), "w", encoding="utf-8")  # noqa: SIM115, PTH123
        self._patch = monkeypatch

    def approver(self, view: View | None = None) -> Approver:
        """One that asks here; pytest puts its own streams in place after the fixtures are made."""
        self._patch.setattr(sys, "stdin", self._stdin)
        self._patch.setattr(sys, "stderr", self._stderr)
        made = make_approver(view or Paused(), yes=False, ask=True)
        assert made is not None
        return made

    async def decide(self, *asked: Approval, view: View | None = None) -> Any:
        return await asyncio.wait_for(_decided(self.approver(view), *asked), 10)

    def type(self, *lines: str) -> None:
        os.write(self.ours, "".join(f"{line}\n" for line in lines).encode())

    def shown(self) -> str:
        os.set_blocking(self.ours, False)
        seen = b""
        with suppress(BlockingIOError):
            while piece := os.read(self.ours, 4096):
                seen += piece
        return seen.decode()

    def close(self) -> None:
        self._stdin.close()
        self._stderr.close()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal(monkeypatch)
    yield made
    made.close()


async def _decided(approver: Approver, *asked: Approval) -> Any:
    return await approver(list(asked))


@pytest.mark.parametrize(
    ("lines", "decision"),
    [
        (["y"], {"decision": "approve"}),
        (["YES "], {"decision": "approve"}),
        (["n", ""], {"decision": "reject", "message": ""}),
        (["n", "too risky"], {"decision": "reject", "message": "too risky"}),
        (["no too risky"], {"decision": "reject", "message": "too risky"}),
        (["r", "42"], {"decision": "respond", "message": "42"}),
        (["r it is done"], {"decision": "respond", "message": "it is done"}),
        (["e", '{"command": "pwd"}'], {"decision": "edit", "arguments": {"command": "pwd"}}),
        (['e {"command": "pwd"}'], {"decision": "edit", "arguments": {"command": "pwd"}}),
        # what is none is asked again
        (["", "x", "y"], {"decision": "approve"}),
        (["e pwd", "e [1]", "y"], {"decision": "approve"}),
        (["r", " ", "n why, ä?"], {"decision": "reject", "message": "why, ä?"}),
    ],
)
async def test_answers(terminal: Terminal, lines: list[str], decision: dict[str, Any]) -> None:
    """Also when all lines are there at once, as they are when they are pasted."""
    terminal.type(*lines)
    given = await terminal.decide(SHELL)
    assert given == {"decisions": {"one": decision}}
    assert decisions_of(given, [SHELL])["one"].kind == decision["decision"]


async def test_what_is_shown(terminal: Terminal) -> None:
    terminal.type("q", "e {", "y")
    view = Paused()
    await terminal.decide(Approval("one", "tool", "shell", {"command": "echo \x1b[2J[red]"}, "asks"), view=view)
    shown = terminal.shown()
    assert "shell(" in shown
    # what a model wrote neither steers the terminal nor is read as markup
    assert "[red]" in shown
    assert "\x1b[2J" not in shown
    assert "(asks)" in shown
    assert "please answer y, n, e or r" in shown
    assert "that is no JSON" in shown
    assert view.states == [True, False]


async def test_several_questions(terminal: Terminal) -> None:
    terminal.type("y", "n no", "y")
    given = await terminal.decide(SHELL, WRITE, PLAN)
    kinds = {key: value["decision"] for key, value in given["decisions"].items()}
    assert kinds == {"one": "approve", "two": "reject", "plan": "approve"}
    assert "1. general: Write a." in terminal.shown()


async def test_the_input_ends(terminal: Terminal) -> None:
    """Nobody has decided: the run waits for it."""
    terminal.type("y")
    os.write(terminal.ours, b"\x04")
    view = Paused()
    assert await terminal.decide(SHELL, WRITE, view=view) is None
    assert "no decision" in terminal.shown()
    assert view.states == [True, False]


async def test_waiting_for_an_answer_can_be_cancelled(terminal: Terminal) -> None:
    asking = asyncio.create_task(_decided(terminal.approver(), SHELL))
    os.set_blocking(terminal.ours, True)
    seen = ""
    while "answer in its place" not in seen:
        seen += (await asyncio.to_thread(os.read, terminal.ours, 4096)).decode()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    # nothing reads from the terminal any more
    assert not asyncio.get_running_loop().remove_reader(terminal.theirs)


@pytest.mark.parametrize("ask", [True, False])
async def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch, ask: bool) -> None:
    if ask:
        monkeypatch.setattr(sys, "stdin", None)
    assert make_approver(Paused(), yes=False, ask=ask) is None


async def test_yes_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    approver = make_approver(Paused(), yes=True, ask=False)
    assert approver is not None
    assert await _decided(approver, SHELL) == "approve"
