"""One framework's ReAct loop in a process of its own, which measures itself on request.

    python loops.py FRAMEWORK URL

Each line of stdin is a request in JSON: ``task``, ``runs`` and ``at_once``; ``steps`` is what the answer has to show.
Each is answered by a line of JSON: seconds of wall and of CPU time and the answers, or ``error``. The first line that
comes says whether the framework is there (``ready``, or ``missing``). Any interpreter that has the framework may run
this: what is imported at the top is the standard library, and a peer's own package only where it is asked for.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

Run = Callable[[str], Awaitable[str]]
SYSTEM = "You are a careful agent."
SCHEMA = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluate an arithmetic expression exactly.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "For example 12 + 3"}},
            "required": ["expression"],
        },
    },
}
MOST_STEPS, MOST_AT_ONCE = 1000, 16
SIGNS = {"+": operator.add, "*": operator.mul}


def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression exactly.

    Args:
        expression: For example 12 + 3
    """
    sign = next(sign for sign in SIGNS if sign in expression)
    left, right = expression.split(sign)
    return str(SIGNS[sign](int(left), int(right)))


def openai_client(url: str) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=url, api_key="none")


def chat_model(url: str) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", base_url=url, api_key="none", temperature=0)


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Run]:
    """The SDK of OpenAI and a loop, nothing else."""
    client = openai_client(url)

    async def run(task: str) -> str:
        messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]
        while True:
            reply = await client.chat.completions.create(model="m", messages=messages, tools=[SCHEMA], temperature=0)
            message = reply.choices[0].message
            if not message.tool_calls:
                return str(message.content)
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                result = calculator(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    yield run


def benchai_config(url: str, folder: Path) -> Path:
    """A benchai.yaml for a server, with one tool and as many requests at a time as are measured."""
    data = {
        "models": {"m": {"endpoint": url, "model": "m", "temperature": 0}},
        "roles": {"general": "m"},
        "tools": {"enabled": ["calculator"]},
        "router": {"max_concurrent": {"general": MOST_AT_ONCE}},
    }
    file = folder / "benchai.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


@asynccontextmanager
async def benchai(url: str) -> AsyncIterator[Run]:
    """The workflow react through Bench: threads in SQLite, a checkpoint after each step, permissions, events."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from benchai.bench import Bench
    from benchai.graphs.guards import Budget

    with tempfile.TemporaryDirectory(prefix="benchai-loop-") as folder:
        os.environ["BENCHAI_HOME"] = str(Path(folder, "home"))
        async with Bench.open(benchai_config(url, Path(folder)), workspace=folder) as bench:

            async def run(task: str) -> str:
                result = await bench.run("react", task, budget=Budget(MOST_STEPS, 10**9, 3600))
                return result.output if result.stop_reason == "completed" else f"ended by {result.stop_reason}"

            yield run


def state_graph(url: str, saver: Any = None) -> Run:
    """A graph of two nodes, written by hand."""
    from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
    from langgraph.graph import START, MessagesState, StateGraph

    model = chat_model(url).bind_tools([SCHEMA])

    async def think(state: Any) -> Any:
        return {"messages": [await model.ainvoke([SystemMessage(SYSTEM), *state["messages"]])]}

    async def act(state: Any) -> Any:
        calls = state["messages"][-1].tool_calls
        return {"messages": [ToolMessage(calculator(**call["args"]), tool_call_id=call["id"]) for call in calls]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", lambda state: "act" if state["messages"][-1].tool_calls else "__end__")
    graph.add_edge("act", "think")
    compiled = graph.compile(checkpointer=saver)

    async def run(task: str) -> str:
        config: Any = {"recursion_limit": 10 * MOST_STEPS, "configurable": {"thread_id": os.urandom(8).hex()}}
        durability: Any = {"durability": "sync"} if saver else {}
        state = await compiled.ainvoke({"messages": [HumanMessage(task)]}, config, **durability)
        return str(state["messages"][-1].content)

    return run


@asynccontextmanager
async def stategraph(url: str) -> AsyncIterator[Run]:
    """ChatOpenAI in a StateGraph; a run that is interrupted is lost."""
    yield state_graph(url)


@asynccontextmanager
async def stategraph_sqlite(url: str) -> AsyncIterator[Run]:
    """The same with AsyncSqliteSaver, durability "sync"."""
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    with tempfile.TemporaryDirectory(prefix="benchai-loop-") as folder:
        async with AsyncSqliteSaver.from_conn_string(str(Path(folder, "threads.sqlite"))) as saver:
            yield state_graph(url, saver)


@asynccontextmanager
async def create_agent(url: str) -> AsyncIterator[Run]:
    """The agent of langchain."""
    from langchain.agents import create_agent as create

    agent = create(chat_model(url), [calculator], system_prompt=SYSTEM)

    async def run(task: str) -> str:
        messages = {"messages": [{"role": "user", "content": task}]}
        state = await agent.ainvoke(messages, {"recursion_limit": 10 * MOST_STEPS})
        return str(state["messages"][-1].content)

    yield run


@asynccontextmanager
async def openai_agents(url: str) -> AsyncIterator[Run]:
    """The OpenAI Agents SDK over chat completions, its tracing off."""
    import agents

    agents.set_tracing_disabled(True)
    model = agents.OpenAIChatCompletionsModel("m", openai_client(url))
    agent = agents.Agent(name="agent", instructions=SYSTEM, model=model, tools=[agents.function_tool(calculator)])

    async def run(task: str) -> str:
        return str((await agents.Runner.run(agent, task, max_turns=MOST_STEPS)).final_output)

    yield run


@asynccontextmanager
async def pydantic_ai(url: str) -> AsyncIterator[Run]:
    """The agent of pydantic-ai."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.usage import UsageLimits

    model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=openai_client(url)))
    agent = Agent(model, system_prompt=SYSTEM, tools=[calculator])

    async def run(task: str) -> str:
        return str((await agent.run(task, usage_limits=UsageLimits(request_limit=None))).output)

    yield run


@asynccontextmanager
async def smolagents(url: str) -> AsyncIterator[Run]:
    """The tool-calling agent of smolagents, which is synchronous: a thread for each run."""
    from smolagents import LogLevel, OpenAIModel, ToolCallingAgent, tool

    wrapped = tool(calculator)
    model = OpenAIModel("m", api_base=url, api_key="none")
    loop = asyncio.get_running_loop()

    def one(task: str) -> str:
        agent = ToolCallingAgent([wrapped], model, max_steps=MOST_STEPS, verbosity_level=LogLevel.OFF)
        return str(agent.run(task))

    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        yield lambda task: loop.run_in_executor(threads, one, task)


FRAMEWORKS: dict[str, Callable[[str], AbstractAsyncContextManager[Run]]] = {
    "bare openai SDK": bare,
    "benchai react": benchai,
    "StateGraph": stategraph,
    "StateGraph + AsyncSqliteSaver": stategraph_sqlite,
    "create_agent": create_agent,
    "openai-agents": openai_agents,
    "pydantic-ai": pydantic_ai,
    "smolagents": smolagents,
}
#: Those that only another interpreter may have; the others run where BenchAI runs.
PEERS = ("create_agent", "openai-agents", "pydantic-ai", "smolagents")


async def measure(run: Run, task: str, runs: int, at_once: int, steps: int | None = None) -> dict[str, Any]:
    """Seconds of wall and CPU time for so many runs, so many of them at once."""

    async def some(count: int) -> list[str]:
        return [await run(task) for _ in range(count)]

    wall, cpu = time.perf_counter(), time.process_time()
    said = await asyncio.gather(*(some(runs // at_once) for _ in range(at_once)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    answers = {answer for one in said for answer in one}
    if steps is not None and answers != {f"done after {steps}"}:
        return {"error": f"answered {sorted(answers)!r}"}
    return {"wall": wall, "cpu": cpu, "answers": sorted(answers)}


async def main(framework: str, url: str) -> None:
    """Measure until stdin ends."""
    # what is printed on stdout by others must not stand between the lines of JSON
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        async with FRAMEWORKS[framework](url) as run:
            print(json.dumps({"ready": framework}), file=out, flush=True)
            for line in sys.stdin:
                try:
                    found = await measure(run, **json.loads(line))
                except Exception as error:
                    found = {"error": f"{type(error).__name__}: {error}"}
                print(json.dumps(found), file=out, flush=True)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=out, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
