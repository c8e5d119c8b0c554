"""What a run asks its user: which calls, which answers it takes, and what comes of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai.bench import Bench
from benchai.errors import BenchAIError, UsageError
from benchai.events import ApprovalGiven, ApprovalRequested, Event, Notice, Observation, Result
from benchai.graphs.approvals import Approval
from benchai.graphs.execution import MOST_ANSWERS
from benchai.graphs.guards import Budget, Ledger
from tests.integration import scripted
from tests.integration.helpers import Forked, benchai, commands, loaded, write_config
from tests.integration.scripted import Exchange, ScriptedServer, contents

__all__ = ["commands"]
pytestmark = pytest.mark.anyio
WRITE = ("write_file", '{"path": "a.txt", "content": "hello"}')
ADD = ("calculator", '{"expression": "1 + 1"}')
PLAN = {
    "tasks": [
        {"id": 1, "role": "general", "task": "Write a.", "depends_on": []},
        {"id": 2, "role": "general", "task": "Write b.", "depends_on": []},
    ]
}


@asynccontextmanager
async def bench_on(folder: Path, config: dict[str, Any], **extra: Any) -> AsyncIterator[Bench]:
    tools = {"tools": {"enabled": ["calculator", "write_file"]}}
    async with Bench.open(loaded(folder, tools | config | extra), workspace=folder) as bench:
        yield bench


async def collected(stream: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in stream]


def asked_in(events: list[Event]) -> list[ApprovalRequested]:
    return [event for event in events if isinstance(event, ApprovalRequested)]


def observed(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Observation)]


def written_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[ab].txt"))


async def waiting(bench: Bench, workflow: str = "react", **settings: Any) -> ApprovalRequested:
    """A run on the thread "one" that waits for one decision."""
    events = await collected(bench.stream(workflow, "Write it", thread_id="one", **settings))
    assert isinstance(events[-1], Result)
    assert events[-1].stop_reason == "awaiting_approval"
    [asked] = asked_in(events)
    return asked


async def test_nobody_there_to_decide(tmp_path: Path) -> None:
    """The run ends with the question; reading goes on unasked, writing waits."""
    with ScriptedServer(scripted.calls(ADD), scripted.calls(WRITE), scripted.text("Written.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            asked = await waiting(bench)
            assert (asked.kind, asked.subject) == ("tool", "write_file")
            assert asked.arguments == {"path": "a.txt", "content": "hello"}
            assert asked.reason
            assert not (tmp_path / "a.txt").exists()
            assert (await bench.threads.get("one")).stop_reason == "awaiting_approval"
        async with bench_on(tmp_path, server.config()) as bench:
            result = await bench.resume("one", "approve")
    assert (result.output, result.stop_reason, result.steps) == ("Written.", "completed", 3)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "hello"
    assert len(server.requests) == 3


@pytest.mark.usefixtures("store")
async def test_a_decision_takes_effect_once(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            await waiting(bench)
            await bench.resume("one", "approve")
            (tmp_path / "a.txt").unlink()
            with pytest.raises(UsageError, match="awaits no decision"):
                await bench.resume("one", "approve")
            assert (await bench.threads.get("one")).stop_reason == "completed"
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize(
    ("decision", "told", "written"),
    [
        ({"decision": "reject", "message": "not that file"}, "refused this call: not that file", None),
        ("reject", "Error: the user refused this call", None),
        ({"decision": "respond", "message": "It is there already."}, "It is there already.", None),
        ({"decision": "edit", "arguments": {"path": "a.txt", "content": "bye"}}, "a.txt", "bye"),
    ],
)
async def test_decisions(tmp_path: Path, decision: Any, told: str, written: str | None) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Well.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            await waiting(bench)
            events = await collected(bench.stream_resumed("one", decision))
    [given] = [event for event in events if isinstance(event, ApprovalGiven)]
    assert given.decision == (decision if isinstance(decision, str) else decision["decision"])
    [text] = contents(server.requests[-1], "tool")
    assert told in text
    [seen] = [event for event in events if isinstance(event, Observation)]
    assert (seen.ok, seen.error) == ((False, "Refused") if given.decision == "reject" else (True, None))
    file = tmp_path / "a.txt"
    assert (file.read_text(encoding="utf-8") if file.exists() else None) == written


@pytest.mark.parametrize(
    ("decision", "part"),
    [
        ("aprove", "did you mean 'approve'?"),
        (["approve"], "is no decision"),
        ({"decision": "edit"}, "needs arguments"),
        ({"decision": "edit", "arguments": {"path": "a.txt"}}, "'content' is missing"),
        ({"decision": "edit", "arguments": {"path": "a.txt", "content": "x", "mode": 1}}, "'mode'"),
        ({"decision": "edit", "arguments": {"path": "/etc/x", "content": "x"}}, "workspace"),
        ({"decision": "respond"}, "needs a message"),
        ({"decisions": {"nothing": "approve"}}, "'nothing'"),
        ({"decisions": {}}, "is missing"),
    ],
)
async def test_a_decision_that_does_not_fit(tmp_path: Path, decision: Any, part: str) -> None:
    """It is refused, and the thread is as it was: the right one still takes effect."""
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            await waiting(bench)
            before = (await bench.threads.get("one"), await bench.threads.events("one"))
            with pytest.raises(UsageError) as raised:
                await bench.resume("one", decision)
            assert part in f"{raised.value.message} {raised.value.hint}"
            assert raised.value.exit_code == 2
            assert (await bench.threads.get("one"), await bench.threads.events("one")) == before
            assert not (tmp_path / "a.txt").exists()
            result = await bench.resume("one", "approve")
    assert result.output == "Written."
    assert len(server.requests) == 2


async def test_several_calls_of_a_reply_are_asked_at_once(tmp_path: Path) -> None:
    other = ("write_file", '{"path": "b.txt", "content": "hello"}')
    with ScriptedServer(scripted.calls(WRITE, ADD, other), scripted.text("Well.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events = await collected(bench.stream("react", "Write both", thread_id="one"))
            first, second = asked_in(events)
            with pytest.raises(UsageError, match="is missing"):
                await bench.resume("one", {"decisions": {first.id: "approve"}})
            await bench.resume("one", {"decisions": {first.id: "approve", second.id: "reject"}})
    assert written_in(tmp_path) == ["a.txt"]
    one, two, three = contents(server.requests[-1], "tool")
    assert ("a.txt" in one, two) == (True, "2")
    assert "refused" in three


@pytest.mark.parametrize(
    ("rule", "call", "decision"),
    [
        ({"tool": "write_file", "decision": "allow"}, WRITE, None),
        ({"tool": "write_file", "decision": "deny"}, WRITE, "not allowed"),
        ({"tool": "calculator", "decision": "deny"}, ADD, "not allowed"),
        ({"tool": "shell", "decision": "deny"}, ("shell", '{"command": "ls"}'), "not allowed"),
    ],
)
async def test_rules(tmp_path: Path, rule: dict[str, Any], call: tuple[str, str], decision: str | None) -> None:
    """Denied calls are not asked about, and the model learns why."""
    tools = {"enabled": ["calculator", "write_file", "shell"], "permissions": [rule]}
    with ScriptedServer(scripted.calls(call), scripted.text("Well.")) as server:
        async with bench_on(tmp_path, server.config(tools=tools)) as bench:
            events = await collected(bench.stream("react", "Do it"))
    assert asked_in(events) == []
    [text] = observed(events)
    assert (decision or "a.txt") in text


async def test_a_call_of_the_shell_is_asked_about(tmp_path: Path) -> None:
    tools = {"enabled": ["shell"]}
    calls = scripted.calls(("shell", '{"command": "touch made.txt"}'))
    with ScriptedServer(calls, scripted.text("Well.")) as server:
        async with bench_on(tmp_path, server.config(tools=tools)) as bench:
            asked = await waiting(bench)
            assert (asked.subject, asked.arguments) == ("shell", {"command": "touch made.txt"})
            await bench.resume("one", {"decision": "reject", "message": "no new files"})
    assert not (tmp_path / "made.txt").exists()
    assert "no new files" in contents(server.requests[-1], "tool")[0]


async def test_an_approver_decides_while_the_run_goes_on(tmp_path: Path) -> None:
    """What it answers wrongly it is asked again; the time that it takes is not the run's."""
    seen: list[list[Approval]] = []

    async def approver(asked: list[Approval]) -> Any:
        seen.append(asked)
        return "yes, please" if len(seen) == 1 else "approve"

    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events = await collected(bench.stream("react", "Write it", approver=approver))
    assert isinstance(events[-1], Result)
    assert events[-1].output == "Written."
    assert [one.subject for asked in seen for one in asked] == ["write_file", "write_file"]
    assert [event.text for event in events if isinstance(event, Notice)] == ["the decision 'yes, please' is unknown"]


async def test_an_approver_that_never_fits(tmp_path: Path) -> None:
    count = 0

    async def approver(_: list[Approval]) -> Any:
        nonlocal count
        count += 1
        return 42

    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            with pytest.raises(UsageError, match="42 is no decision"):
                await bench.run("react", "Write it", approver=approver, thread_id="one")
            result = await bench.resume("one", "approve")
    assert count == MOST_ANSWERS
    assert result.output == "Written."


async def test_the_time_of_a_decision_is_not_the_runs(tmp_path: Path) -> None:
    """The user takes longer than the whole run may."""
    released = asyncio.Event()
    ledger = Ledger(Budget(9, 9999, 2.5))

    async def approver(_: list[Approval]) -> Any:
        asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + 2.6, released.set)
        await released.wait()
        return "approve"

    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            result = await bench.run("react", "Write it", approver=approver, ledger=ledger)
    assert (result.stop_reason, result.output) == ("completed", "Written.")


def worker(exchange: Exchange) -> None:
    """Answers planner, workers (with a call whose id is the same for all) and merger by what they are asked."""
    request = exchange.request
    asked = contents(request, "user")[0]
    if "response_format" in request:
        scripted.text(json.dumps(PLAN))(exchange)
    elif contents(request, "tool"):
        scripted.text(f"Result of {asked}: {contents(request, 'tool')[0]}")(exchange)
    elif asked in ("Write a.", "Write b."):
        path = f"{asked[6]}.txt"
        scripted.calls(("write_file", json.dumps({"path": path, "content": asked}), "call_0"))(exchange)
    else:
        scripted.text("All done.")(exchange)


def planning(server: ScriptedServer) -> dict[str, Any]:
    return server.config(roles={"general": "far", "planner": "far", "code": "far"})


@pytest.mark.usefixtures("store")
async def test_workers_that_ask_at_the_same_time(tmp_path: Path) -> None:
    """Their calls have the same id: the questions have not, and each decision reaches its own."""
    with ScriptedServer(worker) as server:
        async with bench_on(tmp_path, planning(server)) as bench:
            events = await collected(bench.stream("orchestrator-worker", "Write a and b", thread_id="one"))
            asked = asked_in(events)
            assert len({one.id for one in asked}) == 2
            wanted = {one.id: "approve" if one.arguments["path"] == "a.txt" else "reject" for one in asked}
            count = len(server.requests)
            result = await bench.resume("one", {"decisions": wanted})
            again = await bench.threads.history("one", nested=True)
    assert result.output == "All done."
    assert written_in(tmp_path) == ["a.txt"]
    # two workers and the merger; nobody was asked to plan or to think again
    assert len(server.requests) == count + 3
    assert {point.namespace.partition(":")[0] for point in again} == {"", "work"}


@pytest.mark.usefixtures("store")
async def test_a_branch_from_a_question_takes_another_decision(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Well.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            await waiting(bench)
            before = await bench.threads.history("one")
            await bench.resume("one", "reject")
            assert not (tmp_path / "a.txt").exists()
            first = await bench.threads.history("one")
            asked = before[-1].checkpoint_id
            with pytest.raises(UsageError, match="unknown"):
                await bench.resume("one", "perhaps", checkpoint=asked)
            await bench.resume("one", "approve", checkpoint=asked)
            after = await bench.threads.history("one")
    assert (tmp_path / "a.txt").exists()
    # the old branch is still there
    assert {point.checkpoint_id for point in first} <= {point.checkpoint_id for point in after}
    fork = next(point for point in after if point.source == "fork")
    assert fork.parent == asked
    assert [point.nodes for point in after[after.index(fork) :]] == [(), ("act",), ("think",)]


async def test_a_branch_with_a_new_task(tmp_path: Path) -> None:
    replies = (scripted.text("Hello Ann."), scripted.text("Bye Ann."), scripted.text("Hello again."))
    with ScriptedServer(*replies) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            await bench.run("react", "I am Ann.", thread_id="one")
            checkpoint = (await bench.threads.history("one"))[-1].checkpoint_id
            await bench.run("react", "Bye.", thread_id="one")
            await bench.run("react", "Who am I?", thread_id="one", checkpoint=checkpoint)
            texts = [str(message.text) for message in await bench.threads.messages("one")]
    assert contents(server.requests[2], "user") == ["I am Ann.", "Who am I?"]
    assert texts == ["I am Ann.", "Hello Ann.", "Who am I?", "Hello again."]


@pytest.mark.parametrize(
    ("decision", "tasks", "plans"),
    [
        ("approve", ["Write a.", "Write b."], 1),
        (
            {"decision": "edit", "arguments": {"tasks": [{"id": 7, "role": "general", "task": "Write c."}]}},
            ["Write c."],
            1,
        ),
        ({"decision": "reject", "message": "only one file"}, [], 2),
    ],
    ids=["approve", "edit", "reject"],
)
async def test_a_plan_is_approved(tmp_path: Path, decision: Any, tasks: list[str], plans: int) -> None:
    with ScriptedServer(worker) as server:
        async with bench_on(tmp_path, planning(server), tools={"enabled": ["calculator"]}) as bench:
            asked = await waiting(bench, "orchestrator-worker", approve_plan=True)
            assert (asked.kind, asked.arguments) == ("plan", PLAN)
            assert "Write a." in asked.subject
            assert len(server.requests) == 1
            result = await bench.resume("one", decision, approve_plan=True)
    planned = [request for request in server.requests if "response_format" in request]
    assert len(planned) == plans
    worked = {contents(request, "user")[0] for request in server.requests if request not in planned}
    assert set(tasks) <= worked
    if plans == 2:
        # the new plan is asked about, too
        assert result.stop_reason == "awaiting_approval"
        assert "only one file" in contents(planned[1], "user")[0]
    else:
        assert result.stop_reason == "completed"


@pytest.mark.parametrize(
    "plan",
    [
        {"tasks": []},
        {"tasks": "none"},
        {"steps": ["x"]},
        {"tasks": [{"id": 1, "role": "general", "task": "x", "depends_on": [1]}]},
    ],
)
async def test_an_edited_plan_that_is_none(tmp_path: Path, plan: dict[str, Any]) -> None:
    """LangGraph keeps an answer before the node has looked at it: it must not stay."""
    with ScriptedServer(worker) as server:
        async with bench_on(tmp_path, planning(server), tools={"enabled": ["calculator"]}) as bench:
            await waiting(bench, "orchestrator-worker", approve_plan=True)
            before = await bench.threads.get("one")
            for _ in range(2):
                with pytest.raises(UsageError, match="plan is wrong"):
                    await bench.resume("one", {"decision": "edit", "arguments": plan}, approve_plan=True)
                assert await bench.threads.get("one") == before
            result = await bench.resume("one", "approve", approve_plan=True)
    assert result.stop_reason == "completed"
    assert len([request for request in server.requests if "response_format" in request]) == 1


class Terminal:
    """A pseudo-terminal that a command runs on: typed into, and read until something shows."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        self.seen = ""
        self.place = 0

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text shows behind the one that was waited for before."""
        while (found := self.seen.find(text, self.place)) < 0:
            readable, _, _ = select.select([self.ours], [], [], 20)
            assert readable, f"{text!r} does not come: {self.seen}"
            self.seen += os.read(self.ours, 4096).decode("utf-8", "replace")
        self.place = found + len(text)


@contextmanager
def on_terminal(folder: Path, *args: str) -> Iterator[tuple[Terminal, Forked]]:
    """A run on a terminal; its answer goes to answer.txt."""
    terminal = Terminal()
    with (folder / "answer.txt").open("wb") as out:
        env = {"TERM": "xterm", "COLUMNS": "200"}
        process = Forked(["run", *args], folder, env, [terminal.theirs, out.fileno(), terminal.theirs])
    try:
        yield terminal, process
    finally:
        process.kill()
        process.wait()
        os.close(terminal.ours)
        os.close(terminal.theirs)


def to_write(folder: Path, server: ScriptedServer) -> None:
    write_config(folder, server.config(tools={"enabled": ["write_file"]}))


def states(folder: Path) -> list[str]:
    return [row["state"] for row in json.loads(benchai("threads", "list", "--json", cwd=folder).out)]


def test_the_question_on_a_terminal(tmp_path: Path) -> None:
    """A wrong key is asked again, an edit that the tool refuses, too."""
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        to_write(tmp_path, server)
        with on_terminal(tmp_path, "react", "Write it") as (terminal, process):
            terminal.wait_for("answer in its place] ")
            terminal.type("x\n")
            terminal.wait_for("please answer y, n, e or r")
            terminal.wait_for("answer in its place] ")
            terminal.type('e {"path": "b.txt"}\n')
            terminal.wait_for("'content' is missing")
            terminal.wait_for("answer in its place] ")
            terminal.type('e {"path": "b.txt", "content": "bye"}\n')
            assert process.wait() == 0
    assert "write_file(" in terminal.seen
    assert (tmp_path / "b.txt").read_text(encoding="utf-8") == "bye"
    assert (tmp_path / "answer.txt").read_text(encoding="utf-8") == "Written.\n"
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize(
    ("typed", "code", "state"),
    [("\x03", 128 + signal.SIGINT, "cancelled"), ("\x04", 1, "awaiting_approval")],
    ids=["Ctrl-C", "end"],
)
def test_no_decision_on_a_terminal(tmp_path: Path, typed: str, code: int, state: str) -> None:
    """The run can be resumed, and then the question is asked again."""
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        to_write(tmp_path, server)
        with on_terminal(tmp_path, "react", "Write it", "--thread", "one") as (terminal, process):
            terminal.wait_for("answer in its place] ")
            if typed == "\x03":
                # the terminal is not the command's own, so it sends no signals
                process.send_signal(signal.SIGINT)
            else:
                terminal.type(typed)
            assert process.wait() == code
        assert states(tmp_path) == [state]
        assert "Traceback" not in terminal.seen
        with on_terminal(tmp_path, "--resume", "one") as (terminal, process):
            terminal.wait_for("answer in its place] ")
            terminal.type("y\n")
            assert process.wait() == 0
    assert written_in(tmp_path) == ["a.txt"]
    assert len(server.requests) == 2


def test_a_kill_while_a_decision_is_awaited(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        to_write(tmp_path, server)
        with on_terminal(tmp_path, "react", "Write it", "--thread", "one") as (terminal, process):
            terminal.wait_for("answer in its place] ")
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert states(tmp_path) == ["interrupted"]
        benchai("run", "--resume", "one", cwd=tmp_path).refused("awaits a decision", "--decide")
        assert states(tmp_path) == ["interrupted"]
        done = benchai("run", "--resume", "one", "--decide", "approve", "--json", cwd=tmp_path)
    assert (done.code, done.result()["output"], done.result()["steps"]) == (0, "Written.", 2)
    assert written_in(tmp_path) == ["a.txt"]


def test_the_options_for_decisions(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        to_write(tmp_path, server)
        done = benchai("run", "react", "Write it", "--thread", "one", "--json", cwd=tmp_path)
        assert done.code == 1
        assert done.result()["stop_reason"] == "awaiting_approval"
        assert [event["type"] for event in done.events()][-2:] == ["approval_requested", "result"]
        for decision, part in (("aprove", "'approve'?"), ("{", "no JSON"), ('{"decision": "edit"}', "arguments")):
            benchai("run", "--resume", "one", "--decide", decision, cwd=tmp_path).refused(part)
        assert states(tmp_path) == ["awaiting_approval"]
        rejected = benchai("run", "--resume", "one", "--decide", "reject", "--json", cwd=tmp_path)
        assert rejected.code == 0
        assert written_in(tmp_path) == []
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        to_write(tmp_path, server)
        waits = benchai("run", "react", "Write it", "--no-input", cwd=tmp_path)
        assert (waits.code, waits.out) == (1, "")
        assert "--decide approve" in waits.err
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as server:
        to_write(tmp_path, server)
        done = benchai("run", "react", "Write it", "--yes", cwd=tmp_path)
        assert (done.code, done.out) == (0, "Written.\n")
    assert written_in(tmp_path) == ["a.txt"]


CODE_PLAN = {"goal": "Add", "steps": ["Write add."]}


def coder(exchange: Exchange) -> None:
    """Plans; all else it answers with words, which are no code."""
    scripted.text(json.dumps(CODE_PLAN) if "response_format" in exchange.request else "Hm.")(exchange)


@pytest.mark.parametrize(
    ("decision", "plans", "seen"),
    [
        ("approve", 1, "Write add."),
        ({"decision": "edit", "arguments": {"goal": "Add", "steps": ["Write sum."]}}, 1, "Write sum."),
        ({"decision": "reject", "message": "shorter"}, 2, "shorter"),
    ],
    ids=["approve", "edit", "reject"],
)
async def test_the_plan_of_a_coder_is_approved(tmp_path: Path, decision: Any, plans: int, seen: str) -> None:
    with ScriptedServer(coder) as server:
        async with bench_on(tmp_path, planning(server)) as bench:
            asked = await waiting(bench, "planner-coder-reviewer", approve_plan=True)
            assert (asked.kind, asked.arguments) == ("plan", CODE_PLAN)
            with pytest.raises(UsageError):
                await bench.resume("one", {"decision": "edit", "arguments": {"steps": []}}, approve_plan=True)
            with contextlib.suppress(BenchAIError):
                await bench.resume("one", decision, approve_plan=True)
    planned = [request for request in server.requests if "response_format" in request]
    assert len(planned) == plans
    # the next one to be asked works on what was decided
    assert seen in contents(server.requests[1], "user")[0]
