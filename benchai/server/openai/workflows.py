"""A workflow as a model: its steps stream as reasoning content, its answer as content, its questions as tool calls."""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from benchai.errors import UsageError
from benchai.events import (
    ApprovalRequested,
    Event,
    Notice,
    Observation,
    Repair,
    Result,
    RunStarted,
    Step,
    Thought,
    ToolCall,
)
from benchai.server.agent.thread_rows import inner_id
from benchai.server.openai.exchange import JSON, SSE, Exchange, Pulse
from benchai.server.openai.job import OURS, Job
from benchai.server.openai.names import WORKFLOW
from benchai.server.openai.questions import Answers, Ask, answers_in, as_text
from benchai.server.openai.resuming import AWAITING, alone, asked_by, going_on, resumed

if TYPE_CHECKING:
    from benchai.bench import Bench

#: How OpenAI names the end of a reply; anything else that ends a run ended it too early.
FINISHED = {"completed": "stop", AWAITING: "tool_calls"}
LONGEST = 2_000


class Runner(Protocol):
    """What runs workflows: a ``Workshop``."""

    answering: set[str]

    def bench(self) -> AbstractAsyncContextManager[Bench]:
        """The bench, open for as long as the context is."""
        ...

    def stream(
        self,
        workflow: str,
        task: str,
        *,
        images: Sequence[bytes] = ...,
        thread_id: str | None = ...,
        approve_plan: bool = ...,
        user: str | None = ...,
        said: str | None = ...,
    ) -> AsyncIterator[Event]:
        """The events of a run, the last one its result."""
        ...


async def answer_by_workflow(runner: Runner, exchange: Exchange, job: Job, pulse: Pulse | None) -> None:
    """Run the workflow that a request names, and answer in the form of a chat completion.

    Raises:
        UsageError: the conversation ends neither with a user's message nor with answers to what a run asked.
        Conflict: these answers were given before.
        UnknownItem: they answer nothing that was asked under this key.
        BenchAIError: what ended the run.
    """
    # an alias may stand for no name at all
    model = job.data.get("model") or f"{WORKFLOW}{job.target.workflow}"
    common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    reasoning: list[str] = []
    answers = answers_in([(one, _words(one.get("content"))) for one in job.messages])
    thread = uuid.uuid4() if answers is None else answers.thread
    running = _begun(runner, job, thread) if answers is None else _answered(runner, job, answers)
    result, run_id = None, ""
    async with aclosing(running) as events:
        async for event in events:
            if isinstance(event, RunStarted):
                run_id = event.run_id
            elif isinstance(event, Result):
                # the stream raises the error of a run that failed after its result: that is the answer
                result = event
            elif text := told(event):
                job.measured.piece()
                reasoning.append(text)
                if pulse is not None:
                    pulse.touch()
                    await _say(exchange, job, common, {"reasoning_content": text})
    # only now the thread is free for an answer to what was asked
    assert result is not None
    asks = await _asked(runner, job, thread, run_id) if result.stop_reason == AWAITING else []
    await _end(exchange, job, common, result, "".join(reasoning), asks)


async def _begun(runner: Runner, job: Job, thread: uuid.UUID) -> AsyncGenerator[Event, None]:
    """The events of a new run, on a thread that another key cannot name."""
    task, images = task_of(job.messages)
    # the conversation so far was kept when it was said
    running = runner.stream(
        job.target.workflow,
        task,
        images=images,
        thread_id=inner_id(job.key, str(thread)),
        approve_plan=_approves_plans(job),
        user=job.key or None,
        said=said_of(job.messages),
    )
    async with aclosing(running) as events:  # type: ignore[type-var]
        async for event in events:
            yield event


async def _answered(runner: Runner, job: Job, answers: Answers) -> AsyncGenerator[Event, None]:
    """The events of a run that goes on with what its client answers."""
    inner = inner_id(job.key, str(answers.thread))
    with alone(inner, runner.answering):
        async with runner.bench() as bench:
            going = await going_on(bench, job.target.workflow, answers, job.key)
            going.approve_plan |= _approves_plans(job)
            async with aclosing(resumed(bench, inner, going, job.key or None)) as events:
                async for event in events:
                    yield event


def _approves_plans(job: Job) -> bool:
    return bool((job.data.get(OURS) or {}).get("approve_plan"))


async def _asked(runner: Runner, job: Job, thread: uuid.UUID, run_id: str) -> list[Ask]:
    async with runner.bench() as bench:
        return await asked_by(bench, job.target.workflow, thread, job.key, run_id)


async def _say(exchange: Exchange, job: Job, common: dict[str, Any], delta: Mapping[str, Any]) -> None:
    if not exchange.started:
        await exchange.start(200, [*SSE, *job.headers()])
    await exchange.write(_chunk(common, [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}]))


async def _end(
    exchange: Exchange, job: Job, common: dict[str, Any], result: Result, reasoning: str, asks: Sequence[Ask]
) -> None:
    usage = {
        "prompt_tokens": result.usage.prompt_tokens,
        "completion_tokens": result.usage.completion_tokens,
        "total_tokens": result.usage.total_tokens,
    }
    job.measured.count({"usage": usage})
    reason = FINISHED.get(result.stop_reason, "length")
    calls = [ask.as_call() for ask in asks]
    about = job.about() | {"thread": result.thread_id, "stop_reason": result.stop_reason}
    about |= {"asks": [ask.about() for ask in asks]} if asks else {}
    if not job.stream:
        message: dict[str, Any] = {"role": "assistant", "content": result.output, "reasoning_content": reasoning}
        message |= {"content": result.output or None, "tool_calls": calls} if calls else {}
        choices = [{"index": 0, "message": message, "finish_reason": reason}]
        whole = common | {"object": "chat.completion", "choices": choices, "usage": usage, "benchai": about}
        await exchange.reply(200, [JSON, *job.headers()], orjson.dumps(whole))
        return
    if result.output or not calls:
        await _say(exchange, job, common, {"content": result.output})
    if calls:
        await _say(exchange, job, common, {"tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]})
    last = [{"index": 0, "delta": {}, "finish_reason": reason}]
    await exchange.write(_chunk(common | {"benchai": about}, last))
    if (job.data.get("stream_options") or {}).get("include_usage"):
        await exchange.write(_chunk(common | {"usage": usage}, []))
    await exchange.end(b"data: [DONE]\n\n")


def _chunk(common: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", **common, "choices": choices}) + b"\n\n"


def told(event: Event) -> str | None:
    """What a client reads of an event while it waits; None for those that say nothing to a person."""
    if isinstance(event, Step):
        return f"{event.node}: {event.detail}\n" if event.detail else f"{event.node}\n"
    if isinstance(event, Thought | Notice):
        return f"{event.text}\n"
    if isinstance(event, ToolCall):
        return f"{event.name} {_short(event.arguments)}\n"
    if isinstance(event, Observation):
        return f"-> {_short(event.text)}\n"
    if isinstance(event, ApprovalRequested):
        return f"asks: {_short(event.subject)} {_short(event.arguments)} ({_short(event.reason)})\n"
    return f"({event.detail})\n" if isinstance(event, Repair) else None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else as_text(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def task_of(messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[bytes]]:
    """The task, which is the last user message with what was said before, and its images.

    Raises:
        UsageError: the last message is not a user's, or holds what is neither text nor a picture in the request.
    """
    if not messages or messages[-1].get("role") != "user":
        needs = "the last one of 'messages' must be of the role 'user', or answer its calls as 'tool'"
        raise UsageError(f"a workflow answers a user's message: {needs}")
    text, images = _read(messages[-1].get("content"))
    before = [(one.get("role"), _read(one.get("content"))[0]) for one in messages[:-1]]
    said = "\n".join(f"{role}: {words}" for role, words in before if words and role in ("system", "user", "assistant"))
    return (f"The conversation so far:\n{said}\n\nNow: {text}" if said else text), images


def said_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The words of the last message."""
    return _words(messages[-1].get("content"))


def _words(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(str(part.get("text", "")) for part in content if part.get("type") == "text")


def _read(content: Any) -> tuple[str, list[bytes]]:
    if isinstance(content, str) or content is None:
        return content or "", []
    urls = [part.get("image_url") for part in content if part.get("type") == "image_url"]
    return _words(content), [_image(url.get("url") if isinstance(url, dict) else url) for url in urls]


def _image(url: Any) -> bytes:
    head, _, data = str(url).partition(",")
    try:
        if head.startswith("data:") and head.endswith(";base64"):
            return base64.b64decode(data, validate=True)
    except binascii.Error:
        pass
    raise UsageError(f"the image {str(url)[:60]!r} is no data URL with base64")
