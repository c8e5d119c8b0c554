"""The table of faults: what other frameworks do, and what the workflow react does when each is replayed."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from benchai.bench import Bench
from benchai.errors import BenchAIError
from benchai.events import BudgetLow, Compacted, Event, Notice, Repair
from benchai.testing import ScriptedServer
from benchmarks.workflow_parts.fault_cases import (
    FAULTS,
    GAVE_UP,
    LINES,
    LONG,
    PAGES,
    TASK,
    WORDS,
    Case,
    Played,
    ids_fit,
)
from benchmarks.workflow_parts.loop_process import LoopProcess
from benchmarks.workflow_parts.loops import PEERS
from benchmarks.workflow_parts.report import Part, note

#: A peer that says nothing for so many seconds hangs.
MOST_SECONDS = 60.0


def config(server: ScriptedServer, folder: Path) -> Path:
    """A benchai.yaml for the scripted server, with a context that is soon full."""
    data = server.config(tools={"enabled": ["calculator", "read_file"]})
    data["models"]["far"]["context"] = 4_096
    file = folder / "benchai.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


async def play(case: Case, folder: Path) -> Played:
    """Replay a case through a scripted server."""
    events: list[Event] = []
    raised: BenchAIError | None = None
    began = time.perf_counter()
    with ScriptedServer(*case.replies) as server:
        async with Bench.open(config(server, folder), workspace=folder / "workspace") as bench:
            try:
                async with aclosing(bench.stream("react", TASK)) as stream:
                    async for event in stream:
                        events.append(event)
            except BenchAIError as failed:
                raised = failed
    return Played(events, raised, server.requests, time.perf_counter() - began)


def told(events: Sequence[Event]) -> str:
    """What the run told of its repairs: rungs of the ladder, compactions, calls that were made again."""
    words = [event.rung for event in events if isinstance(event, Repair)]
    words += [event.done for event in events if isinstance(event, Compacted)]
    words += [f"wrap-up ({event.reason})" for event in events if isinstance(event, BudgetLow)]
    words += ["call again" for event in events if isinstance(event, Notice) and "calling again" in event.text]
    return ", ".join(dict.fromkeys(words))


def lay_out(workspace: Path) -> None:
    """The files that are read: pages that together fill a context, and one that is too long for it."""
    workspace.mkdir()
    (workspace / LONG).write_text("\n".join(f"line {n} " * 20 for n in range(LINES)), encoding="utf-8")
    for number in PAGES:
        (workspace / f"page{number}.txt").write_text(f"{number} " * 1_000, encoding="utf-8")


# ---- peers


def on_peer(framework: str, peers_python: Path | None) -> dict[str, str]:
    """What a framework makes of each case, by the case's name; nothing where it is not there."""
    with ScriptedServer(*FAULTS[0].cases[0].replies) as server:
        loop: LoopProcess | None = None
        found: dict[str, str] = {}
        for case in (case for fault in FAULTS for case in fault.cases):
            # one that hung was ended
            loop = loop or LoopProcess(framework, server.url, peers_python)
            if loop.missing:
                loop.close()
                return {}
            found[case.name] = replayed(loop, server, case)
            if found[case.name] == "hangs":
                loop.close()
                loop = None
        if loop:
            loop.close()
    return found


def replayed(loop: LoopProcess, server: ScriptedServer, case: Case) -> str:
    """One case on a peer, in a word."""
    replies = case.replies if case.elsewhere is None else case.elsewhere
    if not replies:
        return ""
    server.replies = replies
    server.requests.clear()
    said = loop.ask(MOST_SECONDS, task=TASK, runs=1, at_once=1)
    return outcome(said, server.requests)


def outcome(said: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> str:
    """What a peer did, by its answer or its error and by its requests."""
    if "answers" not in said:
        error = str(said.get("error", "hangs"))
        return error if error == "hangs" else f"raises {error.partition(':')[0]}"
    [answer] = said["answers"]
    if answer == GAVE_UP:
        return f"goes on, {len(requests)} requests"
    if answer != WORDS:
        return f"answers {answer[:30]!r}"
    return "recovered" if ids_fit(requests) else "confuses ids"


# ---- the table


async def ours(folder: Path) -> list[dict[str, Any]]:
    """A row for each case, one after the other."""
    rows: list[dict[str, Any]] = []
    for fault in FAULTS:
        for case in fault.cases:
            played = await play(case, folder)
            row = {"fault": fault.name, "case": case.name, "peers": fault.peers, "benchai": case.verdict(played)}
            rows.append(row | {"repairs": told(played.events), "seconds": played.seconds})
    return rows


def measure(peers_python: Path | None) -> Part:
    """All cases, on BenchAI and on the peers that are there."""
    note("faults")
    with tempfile.TemporaryDirectory(prefix="benchai-faults-") as temp:
        lay_out(Path(temp, "workspace"))
        rows = asyncio.run(ours(Path(temp)))
    for peer in PEERS:
        note(f"faults: {peer}")
        found = on_peer(peer, peers_python)
        for row in rows if found else []:
            row[peer] = found[row["case"]]
    return Part("faults", rows, table(rows), list(summary(rows)))


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """A line for each case."""
    peers = [peer for peer in PEERS if peer in rows[0]]
    lines: list[list[Any]] = [["fault", "replayed", "what peers do", *peers, "benchai react", "how", "s"]]
    for row in rows:
        keys = ("fault", "case", "peers", *peers, "benchai", "repairs")
        lines.append([*(row[key] for key in keys), f"{row['seconds']:.1f}"])
    return lines


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How many cases went as they should."""
    failed = sum(row["benchai"].startswith("FAILED") for row in rows)
    yield f"{len(rows) - failed} of {len(rows)} cases recovered, or ended with the reason that they must end with"
    yield "what peers do: the known faults of six frameworks; the columns of single peers: measured in this run"
