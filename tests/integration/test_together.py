"""Models that fit into memory at the same time: whether fleet and server know it, and how workers run then."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchai.bench import Bench
from benchai.config import LoadedConfig
from benchai.events import Event, ModelCall, ModelStopped, Step
from benchai.runtime.attached import AttachedFleet
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.serving import running_server
from benchai.testing import ScriptedServer, text
from tests.integration.fleet_helpers import MODEL, FakeEngine, Record, fake_fleet, gpu_config, served
from tests.integration.serve_helpers import serving
from tests.integration.test_leases import changed

pytestmark = pytest.mark.anyio
THREE = ("general", "code", "research")


@pytest.mark.parametrize("fit", [1, 2, 3])
async def test_the_fleet_knows_what_fits(tmp_path: Path, fit: int) -> None:
    fleet, engine = fake_fleet(tmp_path, THREE, Record(), fit=fit)
    async with fleet:
        assert [await fleet.fit_together(THREE[:count]) for count in (0, 1, 2, 3)] == [
            True,
            True,
            fit >= 2,
            fit >= 3,
        ]
        assert not any(engine.noted(name, "starts") for name in THREE), "nothing is started for it"
        await served(fleet, "general")
        # one that runs holds its place, and what is not asked about may leave
        assert await fleet.fit_together(["code", "general"]) is (fit >= 2)
        assert await fleet.fit_together(["code", "research"]) is (fit >= 2)
        assert len(engine.noted("general", "starts")) == 1


@pytest.mark.parametrize(
    ("models", "fit"),
    [
        # of a model whose file is not there nothing is known
        ({"research": {"file": "none.gguf"}}, False),
        # a model that was never fetched is not fetched for that
        ({"research": {"file": None, "hf": "owner/name:Q4_0"}}, False),
        # another takes no memory here
        ({"research": {"endpoint": "http://127.0.0.1:9/v1", "model": "big"}}, True),
    ],
)
async def test_what_is_not_known_does_not_fit(tmp_path: Path, models: Mapping[str, Any], fit: bool) -> None:
    settings = gpu_config(tmp_path, ["code"], fit=3, engine=FakeEngine(tmp_path).section())
    wanted = {name: (MODEL if "endpoint" not in more else {}) | more for name, more in models.items()}
    told = Record()
    async with Fleet(changed(settings, models={name: _plain(one) for name, one in wanted.items()}), told) as fleet:
        assert await fleet.fit_together(["code", "research"]) is fit
        assert await fleet.models_fit(["code", "no such model"]) is False
    assert told.events == []


def _plain(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if value is not None}


async def test_a_model_that_never_leaves_holds_its_place(tmp_path: Path) -> None:
    names: dict[str, dict[str, Any]] = {"general": {"keep": True}, "code": {}, "research": {}}
    fleet, _ = fake_fleet(tmp_path, names, Record(), fit=2)
    async with fleet:
        assert await fleet.fit_together(["code", "research"])
        await served(fleet, "general")
        assert not await fleet.fit_together(["code", "research"])


async def test_models_that_a_role_shares_fit(tmp_path: Path) -> None:
    settings = gpu_config(tmp_path, ["code"], fit=1, engine=FakeEngine(tmp_path).section())
    async with Fleet(changed(settings, roles={"general": "code", "planner": "code"}), Record()) as fleet:
        assert await fleet.fit_together(["general", "code", "planner"])


@pytest.mark.parametrize("fit", [1, 2])
async def test_a_server_is_asked_what_fits(tmp_path: Path, fit: int) -> None:
    engine = FakeEngine(tmp_path)
    settings = gpu_config(tmp_path, ["general", "code"], fit=fit, engine=engine.section(), fleet={"core": []})
    with serving(tmp_path) as server:
        record = running_server()
        assert record is not None
        attached = AttachedFleet(record, settings, Record())
        assert await attached.fit_together(["general", "code"]) is (fit == 2)
        assert await attached.fit_together(["general"]) is True
        with server.client() as client:
            asked = client.post("/fleet/fit", json={"models": ["general", "no such model"]})
            assert (asked.status_code, asked.json()) == (200, {"fit": False})
            assert client.post("/fleet/fit", json={"models": []}).status_code == 422
        stranger = AttachedFleet(dataclasses.replace(record, token="wrong"), settings, Record())
        assert await stranger.fit_together(["general", "code"]) is False
        assert server.end().code == 0
    assert await attached.fit_together(["general", "code"]) is False, "nobody is there to know it"


PLAN = {
    "tasks": [
        {"id": 1, "role": "code", "task": "One."},
        {"id": 2, "role": "research", "task": "Two."},
        {"id": 3, "role": "code", "task": "Three."},
        {"id": 4, "role": "research", "task": "Four.", "depends_on": [2]},
    ]
}


async def ran(settings: LoadedConfig, folder: Path) -> list[Event]:
    async with Bench.open(settings, workspace=folder) as bench:
        return [event async for event in bench.stream("orchestrator-worker", "Do all.")]


def course(events: Sequence[Event]) -> list[str]:
    """When sub-tasks began, and which model answered when."""
    calls = [event for event in events if isinstance(event, ModelCall) or (isinstance(event, Step) and event.detail)]
    return [one.model if isinstance(one, ModelCall) else one.detail.partition(".")[0] for one in calls]


@pytest.mark.parametrize("fit", [1, 2])
async def test_workers_are_grouped_by_model_only_where_their_models_do_not_fit(tmp_path: Path, fit: int) -> None:
    engine = FakeEngine(tmp_path)
    near = gpu_config(tmp_path, ["code", "research"], fit=fit, engine=engine.section())
    with ScriptedServer(text(json.dumps(PLAN)), text("Merged")) as server:
        settings = changed(near, models={"far": server.model()}, roles={"general": "far", "planner": "far"})
        events = await ran(settings, tmp_path)
    swaps = [event.model for event in events if isinstance(event, ModelStopped)]
    asked = [*engine.noted("code", "requests"), *engine.noted("research", "requests")]
    assert {"One.", "Two.", "Three.", "Four."} <= set(asked)
    found = course(events)
    if fit == 1:
        code, research = ["1", "3", "code", "code"], ["2", "research", "4", "research"]
        assert found == ["far", *code, *research, "far"]
        assert swaps == ["code"]
    else:
        # all that is ready begins before anything is answered
        assert found[:4] == ["far", "1", "2", "3"]
        assert sorted(found[4:7]) == ["code", "code", "research"]
        assert found[7:] == ["4", "research", "far"]
        assert swaps == []
