"""The memory with the fleet's own models: who embeds, who owns it, and a server that is gone."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchai.testing import ScriptedServer, chosen
from tests.integration.helpers import TINY_MODEL, Done, benchai, commands, write_config
from tests.integration.serve_helpers import serving
from tests.integration.test_rag import ASKED, LOOK, RIGHT, Model
from tests.integration.wire_helpers import asked

__all__ = ["commands"]
VECTORS = TINY_MODEL | {"embedding": True, "pooling": "mean"}


class Here:
    """Commands in a folder of their own, and the memory in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"BENCHAI_HOME": str(folder / "benchai-home")}

    def __call__(self, *args: str) -> Done:
        done = benchai(*args, cwd=self.folder, env=self.env)
        done.clean()
        return done

    def configure(self, models: Mapping[str, Any], roles: Mapping[str, str]) -> None:
        config = {"models": dict(models), "roles": dict(roles), "fleet": {"core": []}}
        write_config(self.folder, config | {"tools": {"enabled": ["search_memory"]}})


@pytest.fixture
def here(tmp_path: Path) -> Here:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "pump.md").write_text("The pump moves 40 litres a minute.\n", encoding="utf-8")
    return Here(tmp_path)


def explained(here: Here) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(here("memory", "search", "pump litres", "--explain", "--json").out)
    return found


@pytest.mark.timeout(120)
def test_a_model_of_the_fleet_embeds_for_commands_and_for_a_server(here: Here) -> None:
    here.configure({"tiny": TINY_MODEL, "vectors": VECTORS}, {"general": "tiny", "embed": "vectors"})
    assert "1 added" in here("memory", "add", "notes").err
    stats = json.loads(here("memory", "stats", "--json").out)
    assert (stats["pending"], stats["embedder"] is None) == (0, False)
    found = explained(here)
    assert (found["off"], set(found["passages"][0]["legs"])) == ({}, {"lexical", "dense"})
    with serving(here.folder):
        (here.folder / "notes" / "two.md").write_text("Valves open at noon.\n", encoding="utf-8")
        assert "1 added" in here("memory", "add", "notes").err
        found = explained(here)
        assert (found["off"], set(found["passages"][0]["legs"])) == ({}, {"lexical", "dense"})
        served = json.loads(here("memory", "stats", "--json").out)
        assert (served["pending"], served["embedder"]) == (0, stats["embedder"])
        assert json.loads(here("memory", "verify", "--json").out)["problems"] == []


@pytest.mark.timeout(60)
def test_the_server_owns_the_memory_for_its_workflows_and_for_runs(here: Here) -> None:
    model = Model(rag_plan=[LOOK], rag_answer=[RIGHT])
    with ScriptedServer(chosen(model.reply)) as far:
        here.configure({"m": far.model()}, {"general": "m", "research": "m"})
        with serving(here.folder) as server:
            here("memory", "add", "notes")
            body = asked(ASKED, model="workflow:rag")
            reply = httpx.post(f"{server.record['url']}/v1/chat/completions", json=body, timeout=25, trust_env=False)
            assert reply.json()["choices"][0]["message"]["content"].startswith("It moves 40 litres a minute [1].")
            owner = json.loads((here.folder / "benchai-home" / "data" / "memory" / "owner.json").read_text())
            assert owner["pid"] == server.process.pid
            # a run of another process goes through it
            done = here("run", "rag", ASKED)
            assert (done.code, "in use" in done.err) == (0, False), done
            assert done.out.startswith("It moves 40 litres a minute [1].")
            threads = json.loads(here("memory", "show", "--json").out)
            assert len(threads) == 2


@pytest.mark.timeout(60)
def test_a_server_that_is_killed_ends_no_run(here: Here) -> None:
    model = Model(react=["Noted.", "Hm."])
    with ScriptedServer(chosen(model.reply)) as far:
        here.configure({"m": far.model()}, {"general": "m", "research": "m"})
        with serving(here.folder) as server:
            here("run", "react", "My dog is called Rex")
            server.end(signal.SIGKILL)
            done = here("run", "react", "How is my dog called?")
            assert (done.code, done.out) == (0, "Hm.\n")
            # its state file tells of a process that is gone: the memory is taken as if there were none
            assert len(json.loads(here("memory", "show", "--json").out)) == 2
