"""Traces of real runs: in a file, at a collector, and what a collector that is dead costs."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchai.bench import Bench
from benchai.errors import BenchAIError, UsageError
from benchai.events import Event, Notice, Result
from benchai.graphs.guards import Budget
from tests.integration import scripted
from tests.integration.helpers import LIMIT, benchai, loaded, running, until, write_config
from tests.integration.helpers import commands as commands
from tests.integration.scripted import Exchange, Reply, ScriptedServer, contents

pytestmark = pytest.mark.anyio
SECRET = "7391 * 482"
ADD = ("calculator", json.dumps({"expression": SECRET}))
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
Span = dict[str, Any]


@pytest.fixture(autouse=True)
def no_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may send traces of their own."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def spans_in(path: Path) -> list[Span]:
    """The spans of a file, their attributes as a mapping."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        for one in json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            values = {pair["key"]: next(iter(pair["value"].values())) for pair in one["attributes"]}
            found.append(one | {"attributes": values})
    return found


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span["name"] == name]


def check_tree(spans: list[Span]) -> Span:
    """One trace with one root; each span lies within its parent. Gives the root."""
    by_id = {span["spanId"]: span for span in spans}
    assert len(by_id) == len(spans)
    assert len({span["traceId"] for span in spans}) == 1
    [root] = [span for span in spans if "parentSpanId" not in span]
    for span in spans:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        if span is not root:
            parent = by_id[span["parentSpanId"]]
            assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
            assert int(span["endTimeUnixNano"]) <= int(parent["endTimeUnixNano"])
    return root


def parent_of(span: Span, spans: list[Span]) -> str:
    return next(str(one["name"]) for one in spans if one["spanId"] == span["parentSpanId"])


@asynccontextmanager
async def traced(folder: Path, config: dict[str, Any], file: Path | None) -> AsyncIterator[Bench]:
    async with Bench.open(loaded(folder, config), workspace=folder, trace=file) as bench:
        yield bench


async def events_of(bench: Bench, task: str, workflow: str = "react", **options: Any) -> list[Event]:
    found: list[Event] = []
    try:
        async for event in bench.stream(workflow, task, **options):
            found.append(event)
    except BenchAIError:
        assert isinstance(found[-1], Result)
    return found


def notices(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


MARKUP = f'<tool_call>{{"name": "calculator", "arguments": {ADD[1]}}}</tool_call>'


async def test_a_run_with_a_tool_and_a_repair(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    began = time.time_ns()
    with ScriptedServer(scripted.text(MARKUP), scripted.text("It is 3562462.")) as server:
        async with traced(tmp_path, server.config(), file) as bench:
            result = await bench.run("react", f"What is {SECRET}?", thread_id="ann")
    assert result.output == "It is 3562462."
    spans = spans_in(file)
    root = check_tree(spans)
    assert sorted(span["name"] for span in spans) == [
        "chat scripted",
        "chat scripted",
        "execute_tool calculator",
        "invoke_workflow react",
    ]
    assert root["name"] == "invoke_workflow react"
    assert began <= int(root["startTimeUnixNano"])
    assert int(root["endTimeUnixNano"]) <= time.time_ns()
    assert root["attributes"]["gen_ai.conversation.id"] == "ann"
    assert (root["attributes"]["gen_ai.usage.input_tokens"], root["status"]) == ("40", {})
    [repair] = [one for one in root["events"] if one["name"] == "benchai.repair"]
    assert repair["attributes"] == [{"key": "benchai.rung", "value": {"stringValue": "markup"}}]
    [called] = named(spans, "execute_tool calculator")
    assert called["attributes"]["gen_ai.tool.call.id"]
    first, second = sorted(named(spans, "chat scripted"), key=lambda span: int(span["startTimeUnixNano"]))
    assert int(first["endTimeUnixNano"]) <= int(called["startTimeUnixNano"])
    assert int(called["endTimeUnixNano"]) <= int(second["startTimeUnixNano"])
    assert first["attributes"]["gen_ai.provider.name"] == "openai"
    assert first["attributes"]["server.address"] == "127.0.0.1"
    assert SECRET not in file.read_text()
    assert "3562462" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_calls_and_tools_that_fail_are_spans_with_their_error(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    lost = scripted.begun("We", lambda exchange: exchange.reset())
    replies = (lost, scripted.calls(("calculator", '{"expression": "1 / 0"}')), scripted.text(""), scripted.text("No."))
    with ScriptedServer(*replies) as server:
        async with traced(tmp_path, server.config(), file) as bench:
            result = await bench.run("react", f"What is {SECRET}?")
    spans = spans_in(file)
    root = check_tree(spans)
    chats = sorted(named(spans, "chat scripted"), key=lambda span: int(span["endTimeUnixNano"]))
    assert [(one["status"].get("code"), one["attributes"].get("error.type")) for one in chats] == [
        (2, "ReplyBroken"),
        (None, None),
        (2, "EmptyReply"),
        (None, None),
    ]
    assert [one["attributes"].get("benchai.then") for one in chats] == ["called_again", None, "repaired", None]
    assert all(one["attributes"]["gen_ai.request.model"] == "scripted" for one in chats)
    assert "gen_ai.response.model" not in chats[0]["attributes"]
    [called] = named(spans, "execute_tool calculator")
    assert (called["attributes"]["error.type"], called["status"]["code"]) == ("ToolError", 2)
    assert root["attributes"]["benchai.steps"] == str(result.steps) == "3"
    assert "broke off" not in file.read_text(), "an error's words may quote what somebody wrote"


async def test_content_is_there_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 3562462.")) as server:
        async with traced(tmp_path, server.config(), file) as bench:
            await bench.run("react", f"What is {SECRET}?")
    spans = spans_in(file)
    root = check_tree(spans)
    assert SECRET in root["attributes"]["gen_ai.input.messages"]
    assert "3562462" in root["attributes"]["gen_ai.output.messages"]
    [called] = named(spans, "execute_tool calculator")
    assert json.loads(called["attributes"]["gen_ai.tool.call.arguments"]) == {"expression": SECRET}
    assert called["attributes"]["gen_ai.tool.call.result"] == "3562462"


PLAN = {
    "tasks": [
        {"id": 1, "role": "general", "task": "find the slow answer"},
        {"id": 2, "role": "general", "task": "find the fast answer"},
        {"id": 3, "role": "general", "task": "say what both have", "depends_on": [1, 2]},
    ]
}


def by_task() -> Reply:
    """Plans, then works; the first worker's call is answered last, though it was asked for first."""
    slow_there, fast_done = threading.Event(), threading.Event()

    def reply(exchange: Exchange) -> None:
        request = exchange.request
        [asked] = contents(request, "user")[:1]
        if "response_format" in request:
            return scripted.text(json.dumps(PLAN))(exchange)
        if "both have" in asked and "slow" in asked and "Results:" not in asked:
            return scripted.text("both")(exchange)
        if "slow answer" in asked and "Results:" not in asked:
            if not contents(request, "tool"):
                slow_there.set()
                fast_done.wait(10)
                return scripted.calls(ADD)(exchange)
            return scripted.text("slow")(exchange)
        if "fast answer" in asked and "Results:" not in asked:
            # whichever of them comes first
            slow_there.wait(10)
            scripted.text("fast")(exchange)
            return fast_done.set()
        return scripted.text("slow and fast")(exchange)

    return reply


async def test_workers_at_the_same_time_have_their_own_calls(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(by_task()) as server:
        config = server.config(roles={"general": "far", "planner": "far"})
        async with traced(tmp_path, config, file) as bench:
            result = await bench.run("orchestrator-worker", "Find both answers")
        assert server.most_at_once == 2
    assert result.stop_reason == "completed"
    spans = spans_in(file)
    root = check_tree(spans)
    assert root["name"] == "invoke_workflow orchestrator-worker"
    parents = {span["spanId"]: [] for span in spans}
    for span in spans:
        if span is not root:
            parents[span["parentSpanId"]].append(span["name"])
    agents = [span for span in spans if span["name"].startswith("invoke_agent")]
    assert {parent_of(agent, spans) for agent in agents} == {root["name"]}
    assert sorted(parents[root["spanId"]]) == sorted(
        ["invoke_agent split", *["invoke_agent work"] * 3, "invoke_agent merge"]
    )
    workers = sorted(named(spans, "invoke_agent work"), key=lambda span: int(span["startTimeUnixNano"]))
    slow = ["chat scripted", "execute_tool calculator", "chat scripted"]
    assert [sorted(parents[worker["spanId"]]) for worker in workers] == [
        sorted(slow),
        ["chat scripted"],
        ["chat scripted"],
    ]
    first, second, third = workers
    assert int(second["startTimeUnixNano"]) < int(first["endTimeUnixNano"]), "they work at the same time"
    assert int(second["endTimeUnixNano"]) < int(first["endTimeUnixNano"])
    assert int(first["endTimeUnixNano"]) <= int(third["startTimeUnixNano"])
    assert "answer" not in file.read_text()


async def test_nodes_of_a_routed_workflow(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 3562462.")) as server:
        async with traced(tmp_path, server.config(), file) as bench:
            await bench.run("router", f"What is {SECRET}?")
    spans = spans_in(file)
    root = check_tree(spans)
    [choose] = named(spans, "choose")
    assert "gen_ai.operation.name" not in choose["attributes"], "it has called nothing"
    assert {parent_of(span, spans) for span in spans if span is not root} == {"invoke_workflow router"}


async def test_a_run_that_is_cut_short_has_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.calls(ADD), scripted.text("I have no time.")) as server:
        async with traced(tmp_path, server.config(), file) as bench:
            await bench.run("react", "Go on", budget=Budget(1, 10_000, 60))
    root = check_tree(spans_in(file))
    assert root["status"] == {"code": 2, "message": "budget_steps"}
    assert root["attributes"]["error.type"] == "budget_steps"
    assert "benchai.budget" in [one["name"] for one in root["events"]]


async def test_a_run_that_fails_has_its_errors_class(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.error(400, message=f"no {SECRET}")) as server:
        async with traced(tmp_path, server.config(), file) as bench:
            await events_of(bench, "Go on")
    root = check_tree(spans_in(file))
    assert (root["status"], root["attributes"]["error.type"]) == ({"code": 2, "message": "error"}, "EndpointError")
    assert SECRET not in file.read_text()


async def test_a_stream_that_is_left_early_has_a_whole_trace(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.calls(ADD), scripted.silent()) as server:
        async with traced(tmp_path, server.config(), file) as bench:
            stream = bench.stream("react", "Go on")
            async for event in stream:
                if event.type == "observation":
                    break
            await stream.aclose()
    spans = spans_in(file)
    root = check_tree(spans)
    assert root["status"]["message"] == "cancelled"
    assert named(spans, "execute_tool calculator")


async def test_runs_at_the_same_time_are_traces_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.calls(ADD), scripted.text("one"), scripted.text("two")) as server:
        async with traced(tmp_path, server.config(), file) as one, traced(tmp_path, server.config(), file) as two:
            await one.run("react", "One")
            await two.run("react", "Two")
    traces: dict[str, list[Span]] = {}
    for span in spans_in(file):
        traces.setdefault(span["traceId"], []).append(span)
    assert sorted(len(spans) for spans in traces.values()) == [2, 4]
    for spans in traces.values():
        check_tree(spans)


def test_the_command_line_takes_a_file_and_a_kill_leaves_what_was_finished(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.calls(ADD), scripted.silent()) as server:
        write_config(tmp_path, server.config())
        with running("run", "react", "Go on", "--trace", str(file), "--json", cwd=tmp_path) as cli:
            cli.wait_for("observation")
            assert server.wait_for_requests(2)
            cli.process.send_signal(signal.SIGKILL)
            assert cli.process.wait() == -signal.SIGKILL
    assert [span["name"] for span in spans_in(file)] == ["chat scripted", "execute_tool calculator"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_command_line_refuses_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Hello")) as server:
        write_config(tmp_path, server.config())
        done = benchai("run", "react", "Hello", "--trace", str(tmp_path / "no" / "trace"), cwd=tmp_path)
        done.refused("the trace file", "cannot be written", "--trace")
        assert server.requests == []


async def test_a_bench_refuses_a_folder_as_its_trace(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Hello")) as server, pytest.raises(UsageError, match="cannot be written"):
        async with traced(tmp_path, server.config(), tmp_path):
            pass


class Collector:
    """An OTLP endpoint that decodes what it is sent."""

    def __init__(self, status: int = 200, hang: bool = False) -> None:
        self.spans: list[Any] = []
        self.paths: list[str] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[str | None] = []
        self.over = threading.Event()
        self.hang = hang
        self.status = status


@contextmanager
def collecting(collector: Collector) -> Iterator[str]:
    """Serves a collector; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            collector.paths.append(self.path)
            collector.headers.append(self.headers["X-Test"])
            for one in request.resource_spans:
                values = {pair.key: pair.value.string_value for pair in one.resource.attributes}
                collector.resources.append(values)
                collector.spans += [span for scope in one.scope_spans for span in scope.spans]
            if collector.hang:
                collector.over.wait(LIMIT)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that left is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        collector.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


async def test_spans_go_to_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, collector = tmp_path / "trace.jsonl", Collector()
    with ScriptedServer(scripted.text(MARKUP), scripted.text("It is 3562462.")) as server, collecting(collector) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "X-Test=key")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
        async with traced(tmp_path, server.config(), file) as bench:
            events = await events_of(bench, f"What is {SECRET}?")
    assert notices(events) == []
    assert set(collector.paths) == {"/v1/traces"}
    assert set(collector.headers) == {"key"}
    assert {one["service.name"] for one in collector.resources} == {"mine"}
    written = {span["spanId"]: span for span in spans_in(file)}
    assert {span.span_id.hex() for span in collector.spans} == written.keys()
    for span in collector.spans:
        other = written[span.span_id.hex()]
        assert span.name == other["name"]
        assert span.kind == other["kind"]
        assert span.trace_id.hex() == other["traceId"]
        assert span.parent_span_id.hex() == other.get("parentSpanId", "")
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
            int(other["startTimeUnixNano"]),
            int(other["endTimeUnixNano"]),
        )
        assert {pair.key for pair in span.attributes} == other["attributes"].keys()
        assert [one.name for one in span.events] == [one["name"] for one in other["events"]]
    assert SECRET not in str(collector.spans)


@contextmanager
def refusing() -> Iterator[str]:
    """A port that nobody listens on, though nobody else gets it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("fault", ["refused", "silent", "broken"])
async def test_a_dead_collector_costs_a_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    dead = refusing() if fault == "refused" else collecting(Collector(500, hang=fault == "silent"))
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 3562462.")) as server, dead as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{url}/v1/traces")
        async with traced(tmp_path, server.config(), file) as bench:
            events = await events_of(bench, "What is it?")
            assert isinstance(events[-1], Result)
            assert events[-1].stop_reason == "completed"
            assert {thread.name for thread in threading.enumerate()} >= {"trace"}
            closing = time.monotonic()
        assert time.monotonic() - closing < 5
        told = [*notices(events), *(record.getMessage() for record in caplog.records if "trace" in record.name)]
        assert len([text for text in told if "does not reach 127.0.0.1" in text]) == 1, told
        check_tree(spans_in(file))
    # a collector that is silent to the end keeps the thread, which keeps nobody
    for thread in threading.enumerate():
        if thread.name == "trace":
            thread.join(LIMIT)
            assert not thread.is_alive()


async def test_a_long_run_is_told_once_that_its_collector_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(scripted.text("Hello")) as server, refusing() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        async with traced(tmp_path, server.config(), None) as bench:
            first = await events_of(bench, "Hello")
            until(lambda: bench._parts.tracer._problems)
            second = await events_of(bench, "Hello")
            third = await events_of(bench, "Hello")
    assert notices(first) == notices(third) == []
    [text] = notices(second)
    assert "the trace does not reach 127.0.0.1" in text


def test_the_command_line_keeps_its_streams_clean_when_the_collector_is_dead(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Hello")) as server, refusing() as url:
        write_config(tmp_path, server.config())
        done = benchai("run", "react", "Hi", "--json", cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert done.code == 0
    assert done.result()["output"] == "Hello"
    done.clean()
    assert "Transient error" not in done.err.replace("the trace does not reach 127.0.0.1: Transient error", "")


async def test_a_protocol_that_is_not_spoken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with ScriptedServer(scripted.text("Hello")) as server:
        async with traced(tmp_path, server.config(), None) as bench:
            events = await events_of(bench, "Hello")
            again = await events_of(bench, "Hello")
    assert notices(events) == [
        "no trace is sent: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', only 'http/protobuf' is spoken here"
    ]
    assert notices(again) == []


# a process of its own, in which OpenTelemetry is not there: what asks for it is noted
_CHILD = """
import asyncio, importlib.abc, json, os, sys

class Missing(importlib.abc.MetaPathFinder):
    asked = []

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            self.asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
# LangSmith, which comes with LangChain, takes what of it is there
import langsmith.client, benchai.bench
Missing.asked.clear()

async def run(trace=None):
    async with benchai.bench.Bench.open(sys.argv[1], trace=trace) as bench:
        events = [[event.as_json() async for event in bench.stream("react", "Hello")] for _ in range(2)]
    return {
        "asked": list(Missing.asked),
        "modules": sorted(name for name in sys.modules if name.startswith("benchai.tracing")),
        "notices": [[event["text"] for event in one if event["type"] == "notice"] for one in events],
        "outputs": [one[-1]["output"] for one in events],
    }

off = asyncio.run(run())
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
print(json.dumps([off, asyncio.run(run(sys.argv[2]))]))
"""


def test_a_file_needs_nothing_of_opentelemetry_and_no_trace_loads_nothing(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with ScriptedServer(scripted.text("Hello")) as server:
        config = write_config(tmp_path, server.config())
        argv = [sys.executable, "-c", _CHILD, str(config), str(file)]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    off, on = json.loads(done.stdout)
    assert off["outputs"] == on["outputs"] == ["Hello", "Hello"]
    assert off["asked"] == []
    assert off["modules"] == ["benchai.tracing", "benchai.tracing.tracer"]
    assert off["notices"] == [[], []]
    # an endpoint tells once that it needs more; the file does not
    assert on["asked"] == ["opentelemetry"]
    first, second = on["notices"]
    assert len(first) == 1
    assert "pip install 'benchai[otel]'" in first[0]
    assert second == []
    assert [span["name"] for span in spans_in(file)] == ["chat scripted", "invoke_workflow react"] * 2
