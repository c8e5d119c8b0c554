"""Traces of runs: spans from events, and how a file has them."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from benchai import events
from benchai.config import load_config
from benchai.errors import EndpointError, UsageError
from benchai.tracing import names
from benchai.tracing.file import TraceFile
from benchai.tracing.models import Models
from benchai.tracing.place import Place
from benchai.tracing.run import RunTrace
from benchai.tracing.spans import MOST_EVENTS, Kind, Span, as_json, as_request, resource
from benchai.tracing.tracer import Tracer, endpoint_of

CONFIG = """
models:
  near: {file: near.gguf}
  far: {endpoint: "https://far.example/v1", model: far-large}
roles: {general: near, code: far}
"""
SECRET = "the-secret-words"


class Traced:
    """A run's trace, and the spans that have come out of it."""

    def __init__(self, folder: Path, *, content: bool = False, workflow: str = "react") -> None:
        file = folder / "benchai.yaml"
        file.write_text(CONFIG, encoding="utf-8")
        self.spans: list[Span] = []
        self.trace = RunTrace(self.spans.append, Models(load_config(file)), task=f"task {SECRET}", content=content)
        self.take(events.RunStarted(workflow=workflow, thread_id="thread", run_id="run", time=100.0))

    def take(self, event: events.Event, *nodes: str, step: int = 0) -> None:
        self.trace.take(event, Place(nodes, step))

    def call(self, *nodes: str, time: float, **more: Any) -> None:
        given = {"step": 1, "role": "general", "model": "near", "prompt_tokens": 20, "completion_tokens": 10}
        given |= {"cached_tokens": 5, "seconds": 0.5, "finish_reason": "stop"} | more
        self.take(events.ModelCall(**given, time=time), *nodes)

    def end(self, reason: events.StopReason = "completed", error: BaseException | None = None) -> dict[str, Span]:
        self.trace.end(reason, error)
        assert len({span.name for span in self.spans}) == len(self.spans), "a test has each name once"
        assert all(span.start <= span.end for span in self.spans)
        return {span.name: span for span in self.spans}


def tool(call_id: str, time: float) -> events.ToolCall:
    return events.ToolCall(step=1, id=call_id, name=f"tool_{call_id}", arguments={"a": SECRET}, time=time)


def observed(call_id: str, time: float, ok: bool = True, error: str | None = None) -> events.Observation:
    return events.Observation(step=1, id=call_id, name=f"tool_{call_id}", ok=ok, text=SECRET, time=time, error=error)


def test_the_names_are_those_of_the_conventions() -> None:
    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    ours = {value for value in vars(names).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert len(ours) > 15
    assert ours <= known
    operations = {one.value for one in gen_ai_attributes.GenAiOperationNameValues}
    assert {"invoke_workflow", "invoke_agent", "chat", "execute_tool"} <= operations


def test_a_call_of_a_model_is_a_span_that_began_before_its_event(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.call(time=101.0, step=3)
    spans = run.end()
    chat, root = spans["chat near"], spans["invoke_workflow react"]
    assert (chat.start, chat.end) == (100_500_000_000, 101_000_000_000)
    assert (chat.parent, chat.trace, chat.kind) == (root.id, root.trace, Kind.CLIENT)
    assert (root.parent, root.kind, root.error) == (None, Kind.INTERNAL, None)
    assert chat.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llama.cpp",
        "gen_ai.conversation.id": "thread",
        "gen_ai.request.model": "near",
        "gen_ai.response.model": "near",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "benchai.role": "general",
        "benchai.model": "near",
        "benchai.step": 3,
    }
    assert root.attributes == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "react",
        "gen_ai.agent.name": "react",
        "gen_ai.conversation.id": "thread",
        "benchai.run.id": "run",
        "benchai.stop_reason": "completed",
        "benchai.steps": 1,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 10,
    }


@pytest.mark.parametrize(("content", "words"), [(False, "EndpointLost"), (True, SECRET)])
def test_a_call_that_failed_is_a_span_with_an_error(tmp_path: Path, content: bool, words: str) -> None:
    run = Traced(tmp_path, content=content)
    failed = {"step": 3, "role": "code", "model": "far", "seconds": 0.5, "error": "EndpointLost", "detail": SECRET}
    run.take(events.Step(node="work", time=100.2), "work:1", step=1)
    run.take(events.ModelCall(**failed, then="called_again", time=101.0), "work:1")
    run.call("work:1", time=102.0, step=3)
    spans = run.end()
    chat = spans["chat far-large"]
    assert (chat.start, chat.end, chat.kind) == (100_500_000_000, 101_000_000_000, Kind.CLIENT)
    assert chat.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": "thread",
        "gen_ai.request.model": "far-large",
        "server.address": "far.example",
        "server.port": 443,
        "error.type": "EndpointLost",
        "benchai.role": "code",
        "benchai.model": "far",
        "benchai.step": 3,
        "benchai.then": "called_again",
    }
    assert (chat.error, as_json(chat)["status"]) == (words, {"code": 2, "message": words})
    assert (chat.parent, spans["chat near"].error) == (spans["invoke_agent work"].id, None)
    # one step, of which each time is a request
    assert spans["invoke_workflow react"].attributes["benchai.steps"] == 1


@pytest.mark.parametrize(("then", "steps"), [("called_again", 1), ("repaired", 2), ("given_up", 2)])
def test_a_call_that_is_made_again_is_no_step_of_its_own(tmp_path: Path, then: Any, steps: int) -> None:
    run = Traced(tmp_path)
    run.take(events.ModelCall(step=1, role="code", model="far", seconds=0.1, error="EmptyReply", then=then))
    run.call(time=102.0, step=steps)
    assert run.end()["invoke_workflow react"].attributes["benchai.steps"] == steps


def test_a_fallback_answers_for_the_model_that_was_asked(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.call(time=101.0, role="code", model="near")
    chat = run.end()["chat far-large"]
    assert (chat.attributes["gen_ai.request.model"], chat.attributes["gen_ai.response.model"]) == ("far-large", "near")


def test_a_remote_model_has_its_address_and_the_name_on_its_wire(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.call(time=101.0, role="unknown", model="far")
    attributes = run.end()["chat far-large"].attributes
    assert (attributes["gen_ai.provider.name"], attributes["gen_ai.response.model"]) == ("openai", "far-large")
    assert (attributes["server.address"], attributes["server.port"]) == ("far.example", 443)


def test_a_call_does_not_begin_before_what_it_is_in(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.call(time=100.1, seconds=5.0)
    spans = run.end()
    assert spans["chat near"].start == spans["invoke_workflow react"].start == 100_000_000_000


def test_tools_at_the_same_time_are_kept_apart(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.take(tool("a", 101.0))
    run.take(tool("b", 101.5))
    run.take(observed("b", 102.0, ok=False, error="TimeoutError"))
    run.take(observed("a", 103.0))
    spans = run.end()
    first, second = spans["execute_tool tool_a"], spans["execute_tool tool_b"]
    assert (first.start, first.end, first.error) == (101_000_000_000, 103_000_000_000, None)
    assert (second.start, second.end) == (101_500_000_000, 102_000_000_000)
    assert second.attributes["error.type"] == "TimeoutError"
    assert second.error == "the tool failed"
    assert (first.attributes["gen_ai.tool.name"], first.attributes["gen_ai.tool.call.id"]) == ("tool_a", "a")


def test_the_same_call_id_of_two_workers_makes_two_spans(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    for worker, began in (("work:1", 101.0), ("work:2", 102.0)):
        run.take(tool("a", began), worker, "act:1")
    for worker, ended in (("work:1", 105.0), ("work:2", 104.0)):
        run.take(observed("a", ended), worker, "act:1")
    run.trace.end("completed")
    times = [(span.start // 10**9, span.end // 10**9) for span in run.spans if span.name == "execute_tool tool_a"]
    assert sorted(times) == [(101, 105), (102, 104)]


def test_workers_at_the_same_time_have_their_own_calls(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.take(events.Step(node="split", time=100.5), "split:1", step=1)
    run.call("split:1", time=101.5, role="code")
    run.take(events.Step(node="one", time=102.0), "work:1", step=3)
    run.take(events.Step(node="two", time=102.1), "work:2", step=3)
    run.call("work:2", "think:9", time=103.0, step=3)
    run.take(tool("a", 103.5), "work:1", "act:8")
    run.take(observed("a", 104.5), "work:1", "act:8")
    run.take(events.Step(node="merge", time=105.0), "merge:1", step=5)
    assert [span.name for span in run.spans][-2:] == ["invoke_agent one", "invoke_agent two"], "a step ends the last"
    spans = run.end()
    root = spans["invoke_workflow react"]
    agents = [spans[f"invoke_agent {name}"] for name in ("split", "one", "two")]
    assert [agent.parent for agent in agents] == [root.id] * 3
    assert spans["chat far-large"].parent == spans["invoke_agent split"].id
    assert spans["chat near"].parent == spans["invoke_agent two"].id
    assert spans["execute_tool tool_a"].parent == spans["invoke_agent one"].id
    assert [agent.end for agent in agents] == [101_500_000_000, 104_500_000_000, 103_000_000_000]
    assert spans["merge"].attributes == {"benchai.node": "merge", "gen_ai.conversation.id": "thread"}


def test_a_node_of_a_nested_graph_is_within_the_node_that_runs_it(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.take(events.Step(node="outer", time=101.0), "outer:1", step=2)
    run.take(events.Step(node="draft", time=102.0), "outer:1", "draft:1", step=1)
    run.call("outer:1", "draft:1", time=103.0)
    # the inner graph counts its own steps: a second node ends the first, not the outer one
    run.take(events.Step(node="critique", time=104.0), "outer:1", "critique:1", step=2)
    spans = run.end()
    outer = spans["invoke_agent outer"]
    assert spans["invoke_agent draft"].parent == spans["critique"].parent == outer.id
    assert spans["chat near"].parent == spans["invoke_agent draft"].id
    assert outer.end == 104_000_000_000


def test_a_node_that_goes_on_after_a_question_is_one_span(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.take(events.Step(node="work", time=101.0), "work:1", step=3)
    run.take(events.ApprovalRequested(id="a", kind="tool", subject="shell", arguments={"c": SECRET}, reason=SECRET))
    run.take(events.Step(node="work", time=103.0), "work:1", step=3)
    run.take(events.ApprovalGiven(id="a", decision="approve", time=103.1), "work:1", step=3)
    run.call("work:1", time=104.0)
    spans = run.end()
    assert sorted(spans) == ["chat near", "invoke_agent work", "invoke_workflow react"]
    [asked] = spans["invoke_workflow react"].moments
    assert asked.name == "benchai.approval_requested"
    assert asked.attributes == {
        "gen_ai.tool.name": "shell",
        "benchai.approval.id": "a",
        "benchai.approval.kind": "tool",
    }
    [given] = spans["invoke_agent work"].moments
    assert given.attributes == {"benchai.approval.id": "a", "benchai.approval.decision": "approve"}


def test_what_happens_is_an_event_of_the_span_around_it(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.take(events.Step(node="work", time=101.0), "work:1", step=1)
    run.take(events.Repair(rung="json", detail=SECRET, time=102.0), "work:1", "think:1")
    run.take(events.Compacted(done=SECRET, before=900, after=300, time=103.0))
    run.take(events.BudgetLow(reason="budget_steps", detail=SECRET))
    run.take(events.ModelStopped(model="near", exit_code=-9))
    run.take(events.Notice(text=SECRET))
    spans = run.end()
    [repair] = spans["work"].moments
    assert (repair.name, repair.time, repair.attributes) == ("benchai.repair", 102 * 10**9, {"benchai.rung": "json"})
    assert [(one.name, one.attributes) for one in spans["invoke_workflow react"].moments] == [
        ("benchai.compacted", {"benchai.tokens.before": 900, "benchai.tokens.after": 300}),
        ("benchai.budget", {"benchai.stop_reason": "budget_steps"}),
        ("benchai.model_stopped", {"benchai.model": "near", "process.exit.code": -9}),
    ]


def test_a_models_start_is_a_span_of_the_run(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.take(events.Step(node="work", time=100.5), "work:1", step=1)
    run.take(events.ModelReady(model="near", pid=1, n_ctx=4096, seconds=2.0, time=103.0), "work:1")
    spans = run.end()
    start = spans["load_model near"]
    assert (start.parent, start.start, start.end) == (spans["invoke_workflow react"].id, 101 * 10**9, 103 * 10**9)


@pytest.mark.parametrize("reason", ["budget_steps", "budget_tokens", "budget_time", "loop", "cancelled"])
def test_a_run_that_was_cut_short_failed_with_the_reason(tmp_path: Path, reason: events.StopReason) -> None:
    root = Traced(tmp_path).end(reason)["invoke_workflow react"]
    assert (root.error, root.attributes["error.type"], root.attributes["benchai.stop_reason"]) == (reason,) * 3


def test_an_error_is_named_by_its_class_without_its_words(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.take(tool("a", 101.0))
    spans = run.end("error", EndpointError(SECRET))
    root = spans["invoke_workflow react"]
    assert (root.error, root.attributes["error.type"]) == ("error", "EndpointError")
    assert spans["execute_tool tool_a"].attributes["error.type"] == "cancelled"
    assert SECRET not in str([as_request(span, {}) for span in run.spans])


def test_a_run_that_waits_for_a_decision_has_not_failed(tmp_path: Path) -> None:
    root = Traced(tmp_path).end("awaiting_approval")["invoke_workflow react"]
    assert root.error is None
    assert "error.type" not in root.attributes


def busy(run: Traced) -> None:
    """One of each event that carries what somebody wrote."""
    run.take(events.Step(node="work", detail=SECRET), "work:1", step=1)
    run.take(events.Delta(role="general", text=SECRET), "work:1")
    run.take(events.Thought(step=1, text=SECRET), "work:1")
    run.take(tool("a", 101.0), "work:1")
    run.take(observed("a", 102.0, ok=False), "work:1")
    run.take(events.Repair(rung="json", detail=SECRET), "work:1")
    run.take(events.Compacted(done=SECRET, before=2, after=1))
    run.take(events.ApprovalRequested(id="plan", kind="plan", subject=SECRET, arguments={"t": SECRET}, reason="x"))
    run.take(events.ApprovalGiven(id="plan", decision="reject", message=SECRET))
    run.take(events.Notice(text=SECRET))
    run.take(events.Answer(text=SECRET))


def test_nothing_that_was_written_is_told_by_default(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    busy(run)
    run.end("error", EndpointError(SECRET))
    assert len(run.spans) == 3
    assert SECRET not in json.dumps([as_request(span, {}) for span in run.spans])


def test_what_was_written_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    run = Traced(tmp_path, content=True)
    busy(run)
    spans = run.end()
    root, called = spans["invoke_workflow react"], spans["execute_tool tool_a"]
    assert json.loads(str(root.attributes["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": f"task {SECRET}"}]}
    ]
    assert json.loads(str(root.attributes["gen_ai.output.messages"]))[0]["parts"][0]["content"] == SECRET
    assert json.loads(str(called.attributes["gen_ai.tool.call.arguments"])) == {"a": SECRET}
    assert called.attributes["gen_ai.tool.call.result"] == called.error == SECRET
    assert spans["invoke_agent work"].attributes["benchai.detail"] == SECRET


def test_a_span_keeps_a_limited_number_of_events(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    for _ in range(MOST_EVENTS + 7):
        run.take(events.Repair(rung="json", detail=""))
    root = run.end()["invoke_workflow react"]
    assert (len(root.moments), root.dropped) == (MOST_EVENTS, 7)
    assert spans_of([as_request(root, {})])[0]["droppedEventsCount"] == 7


def spans_of(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for one in requests]


def decoded(request: dict[str, Any]) -> ExportTraceServiceRequest:
    """OTLP's JSON as protobuf, whose own JSON has ids in base64."""
    [span] = spans_of([request])
    for key in {"traceId", "spanId", "parentSpanId"} & span.keys():
        span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    # it refuses names that OTLP does not have
    return json_format.ParseDict(request, ExportTraceServiceRequest())


def test_the_json_is_that_of_otlp(tmp_path: Path) -> None:
    run = Traced(tmp_path)
    run.call(time=101.0)
    run.take(events.Repair(rung="json", detail="", time=101.2))
    run.end("loop")
    chat, root = (decoded(as_request(span, {"service.name": "x"})).resource_spans[0] for span in run.spans)
    [one], [other] = chat.scope_spans[0].spans, root.scope_spans[0].spans
    assert (chat.resource.attributes[0].value.string_value, chat.scope_spans[0].scope.name) == ("x", "benchai")
    assert (len(one.trace_id), len(one.span_id), one.trace_id) == (16, 8, other.trace_id)
    assert (one.parent_span_id, other.parent_span_id) == (other.span_id, b"")
    assert (one.start_time_unix_nano, one.end_time_unix_nano) == (100_500_000_000, 101_000_000_000)
    assert (one.kind, other.kind) == (one.SPAN_KIND_CLIENT, one.SPAN_KIND_INTERNAL)
    values = {pair.key: pair.value for pair in one.attributes}
    assert values["gen_ai.usage.input_tokens"].int_value == 20
    assert values["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "stop"
    assert (one.status.code, other.status.code, other.status.message) == (0, other.status.STATUS_CODE_ERROR, "loop")
    assert (other.events[0].name, other.events[0].time_unix_nano) == ("benchai.repair", 101_200_000_000)


def test_values_of_every_kind_are_written() -> None:
    values: dict[str, Any] = {"a": True, "b": 2**53 + 1, "c": 0.5, "d": "half \ud83d", "e": ["x", "\udcff"]}
    span = Span("s", 1, 5, end=6, attributes=values)
    found = {
        pair.key: pair.value
        for pair in decoded(as_request(span, {})).resource_spans[0].scope_spans[0].spans[0].attributes
    }
    assert (found["a"].bool_value, found["b"].int_value, found["c"].double_value) == (True, 2**53 + 1, 0.5)
    assert (found["d"].string_value, found["e"].array_value.values[1].string_value) == ("half ?", "?")


def test_the_resource_is_named_by_the_environment() -> None:
    assert resource({})["service.name"] == "benchai"
    found = resource({"OTEL_RESOURCE_ATTRIBUTES": "team=a%20b,service.name=x,nonsense", "OTEL_SERVICE_NAME": "mine"})
    assert (found["team"], found["service.name"]) == ("a b", "mine")
    assert "nonsense" not in found


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, "http://a"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"}, "http://b"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_the_environment_names_the_endpoint(environment: Mapping[str, str], endpoint: str | None) -> None:
    assert endpoint_of(environment) == endpoint


def told() -> list[str]:
    return []


def test_a_file_is_private_and_gets_a_line_a_span(tmp_path: Path) -> None:
    path, problems = tmp_path / "trace.jsonl", told()
    path.write_bytes(b'{"resourceSpans": []}\n{"cut off')
    path.chmod(0o644)
    for name in ("one", "two"):
        file = TraceFile(path, {}, problems.append)
        file.write(Span(name, 1, 2, end=3))
        file.close()
    lines = path.read_text().splitlines()
    assert lines[:2] == ['{"resourceSpans": []}', '{"cut off']
    assert [span["name"] for span in spans_of([json.loads(line) for line in lines[2:]])] == ["one", "two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert problems == []


def test_a_new_file_is_private_from_the_start(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        TraceFile(tmp_path / "trace.jsonl", {}, told().append).close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "trace.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["missing/trace.jsonl", ".", "pipe", "nul\0", "a" * 300])
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"the trace file .*(cannot be written|is no regular file)") as error:
        TraceFile(tmp_path / name, {}, told().append)
    assert error.value.hint is not None
    assert "--trace" in error.value.hint


def test_a_file_that_fails_later_is_told_once(tmp_path: Path) -> None:
    problems = told()
    full = Path("/dev/full")
    file = TraceFile(tmp_path / "trace.jsonl", {}, problems.append)
    assert file._file is not None
    # the disk is full from now on
    other = os.open(full, os.O_WRONLY)
    os.dup2(other, file._file)
    os.close(other)
    file.write(Span("one", 1, 2, end=3))
    file.write(Span("two", 1, 2, end=3))
    assert len(problems) == 1
    assert "No space left" in problems[0]
    file.close()


class Broken:
    """A sink that fails as none should."""

    def write(self, span: Span) -> None:
        raise RuntimeError("the sink is broken")

    def close(self) -> None:
        pass


def test_a_trace_that_fails_ends_and_the_run_does_not(tmp_path: Path) -> None:
    (tmp_path / "benchai.yaml").write_text(CONFIG, encoding="utf-8")
    tracer = Tracer()
    tracer.sinks.append(Broken())
    tracer.begin("run", "task", load_config(tmp_path / "benchai.yaml"))
    heard: list[events.Event] = []
    emit = tracer.follow("run", heard.append)
    emit(events.RunStarted(workflow="react", thread_id="thread", run_id="run"))
    for _ in range(3):
        emit(events.ModelReady(model="near", pid=1, n_ctx=1, seconds=1.0))
    tracer.end("run", "completed")
    assert len(heard) == 4
    assert tracer.problems() == ["the trace of this run ends early: RuntimeError: the sink is broken"]
    assert tracer.problems() == []


def test_a_tracer_without_sinks_leaves_the_events_alone(tmp_path: Path) -> None:
    (tmp_path / "benchai.yaml").write_text(CONFIG, encoding="utf-8")
    tracer, heard = Tracer(), list[events.Event]()
    emit = heard.append
    tracer.begin("run", "task", load_config(tmp_path / "benchai.yaml"))
    assert tracer.follow("run", emit) is emit
    tracer.end("run", "completed")
