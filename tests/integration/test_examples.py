"""The custom graphs of examples/: by benchai.yaml, as programs, on a scripted model and on the bundled one."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai.bench import Bench
from benchai.events import Result, Step
from benchai.graphs import declared
from tests.conftest import REPO
from tests.integration import scripted
from tests.integration.helpers import LIMIT, loaded, write_config
from tests.integration.scripted import Reply, ScriptedServer, contents

EXAMPLES = REPO / "examples"
NOTES = {
    "tools": {"enabled": ["list_files", "read_file", "write_file"]},
    "roles": {"general": "far", "research": "far"},
}
READ = ("read_file", '{"path": "boiler.txt"}')
LOOKING = (scripted.calls(READ), scripted.text("It is 20 years old (boiler.txt)."), scripted.text("- 20 years old"))


@asynccontextmanager
async def on(folder: Path, server: ScriptedServer, workflows: Any, **extra: Any) -> AsyncIterator[Bench]:
    config = loaded(folder, server.config(workflows=workflows, **extra))
    async with Bench.open(config, workspace=folder) as bench:
        yield bench


def opinion(request: dict[str, Any]) -> Reply:
    """One adviser looks at the risk and is against it."""
    vote = "no" if "go wrong" in contents(request, "system")[0] else "yes"
    return scripted.text(json.dumps({"vote": vote, "reason": "as I see it."}))


def test_every_example_tells_what_it_is() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("client_")}
    assert names == {"haiku", "research_notes", "panel"}
    for name in names:
        text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        assert text.startswith('"""')
        assert f"python examples/{name}.py" in text
        assert f"./examples/{name}.py" in text


@pytest.mark.anyio
@pytest.mark.parametrize("workflows", [[f"{EXAMPLES}/haiku.py"], {"haiku": f"{EXAMPLES}/haiku.py:build"}])
async def test_haiku(tmp_path: Path, workflows: Any) -> None:
    with ScriptedServer(scripted.text("Rain on a tin roof")) as server:
        async with on(tmp_path, server, workflows) as bench:
            found = bench.registry.get("haiku")
            result = await bench.run("haiku", "rain")
    assert (found.description, found.roles, found.steps) == ("Answer in seventeen syllables.", ("general",), 4)
    assert (result.output, result.stop_reason, result.steps) == ("Rain on a tin roof", "completed", 1)
    assert contents(server.requests[0], "system") == ["Answer every task with a haiku."]


def test_haiku_as_a_program_on_the_bundled_model(tmp_path: Path) -> None:
    argv = [sys.executable, str(EXAMPLES / "haiku.py"), "rain"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.anyio
@pytest.mark.parametrize("workflows", [[f"{EXAMPLES}/panel.py"], {"panel": f"{EXAMPLES}/panel.py:build"}])
async def test_panel(tmp_path: Path, workflows: Any) -> None:
    events = []
    with ScriptedServer(scripted.chosen(opinion)) as server:
        async with on(tmp_path, server, workflows) as bench:
            async for event in bench.stream("panel", "A new boiler?", thread_id="one"):
                events.append(event)
            again = await bench.run("panel", "A new roof?", thread_id="one")
    result = events[-1]
    assert isinstance(result, Result)
    lines = result.output.splitlines()
    assert lines == [
        "yes (2 of 3)",
        "- cost: yes, as I see it.",
        "- risk: no, as I see it.",
        "- people: yes, as I see it.",
    ]
    assert sorted(event.detail for event in events if isinstance(event, Step)) == [
        "cost: yes",
        "people: yes",
        "risk: no",
    ]
    assert (result.steps, again.output) == (3, result.output)
    assert [contents(request, "user") for request in server.requests] == [["A new boiler?"]] * 3 + [["A new roof?"]] * 3
    assert {request["response_format"]["type"] for request in server.requests} == {"json_schema"}


@pytest.mark.anyio
async def test_panel_asks_again_for_a_wrong_form(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> Reply:
        first = len(contents(request, "user")) == 1
        return scripted.text('{"vote": "perhaps", "reason": "?"}') if first else opinion(request)

    with ScriptedServer(scripted.chosen(answer)) as server:
        async with on(tmp_path, server, [f"{EXAMPLES}/panel.py"]) as bench:
            result = await bench.run("panel", "A new boiler?")
    assert result.output.splitlines()[0] == "yes (2 of 3)"
    assert len(server.requests) == 6


def papers(folder: Path) -> None:
    (folder / "boiler.txt").write_text("The boiler is 20 years old.", encoding="utf-8")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("workflows", "decision", "saved"),
    [
        ([f"{EXAMPLES}/research_notes.py"], "approve", "- 20 years old"),
        ({"research-notes": f"{EXAMPLES}/research_notes.py:build"}, "reject", None),
        (
            [f"{EXAMPLES}/research_notes.py"],
            {"decision": "edit", "arguments": {"path": "b.md", "content": "mine"}},
            "mine",
        ),
    ],
    ids=["approve", "reject", "edit"],
)
async def test_research_notes(tmp_path: Path, workflows: Any, decision: Any, saved: str | None) -> None:
    papers(tmp_path)
    with ScriptedServer(*LOOKING) as server:
        async with on(tmp_path, server, workflows, **NOTES) as bench:
            asked = await bench.run("research-notes", "How old?", thread_id="one", inputs={"file": "b.md"})
            assert (asked.stop_reason, (tmp_path / "b.md").exists()) == ("awaiting_approval", False)
        async with on(tmp_path, server, workflows, **NOTES) as bench:
            result = await bench.resume("one", decision)
    assert "The boiler is 20 years old." in contents(server.requests[1], "tool")[0]
    assert contents(server.requests[2], "user") == ["It is 20 years old (boiler.txt)."]
    assert len(server.requests) == 3
    assert result.output.startswith("- 20 years old\n\n")
    assert ("Saved as b.md." in result.output) == (saved is not None)
    assert (saved is None) == (not (tmp_path / "b.md").exists())
    if saved is not None:
        assert (tmp_path / "b.md").read_text().strip() == saved


def test_research_notes_as_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    papers(tmp_path)
    monkeypatch.setattr(declared, "_of_the_program", {})
    monkeypatch.setattr(sys, "argv", ["research_notes.py", "How", "old?"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    monkeypatch.chdir(tmp_path)
    with ScriptedServer(*LOOKING) as server:
        write_config(tmp_path, server.config(**NOTES))
        runpy.run_path(str(EXAMPLES / "research_notes.py"), run_name="__main__")
    said = capsys.readouterr()
    assert "write_file(" in said.err
    assert "Saved as notes.md." in said.out
    assert (tmp_path / "notes.md").read_text(encoding="utf-8").strip() == "- 20 years old"


@pytest.mark.anyio
async def test_research_notes_that_never_end_looking(tmp_path: Path) -> None:
    def look(request: dict[str, Any]) -> Reply:
        path = json.dumps({"path": f"{len(contents(request, 'tool'))}.txt"})
        may_look = request.get("tools") and request.get("tool_choice") != "none"
        return scripted.calls(("read_file", path)) if may_look else scripted.text("Nothing.")

    with ScriptedServer(scripted.chosen(look)) as server:
        async with on(tmp_path, server, [f"{EXAMPLES}/research_notes.py"], **NOTES) as bench:
            events = [event async for event in bench.stream("research-notes", "How old?")]
    assert events[-1].as_json()["stop_reason"] == "awaiting_approval", events[-1]
    assert server.requests[8]["tool_choice"] == "none"
