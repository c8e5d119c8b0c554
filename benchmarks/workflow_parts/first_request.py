"""The way to the first request of a run: how long it takes from a shell, and how many tokens it has."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchai.testing import Reply, ScriptedServer, calls, chosen, text
from benchmarks.workflow_parts.loop_process import LoopProcess
from benchmarks.workflow_parts.loops import FRAMEWORKS
from benchmarks.workflow_parts.report import Part, note
from scripts.tiny_model.serve import served

TASK = "What is 6 * 7?"
MOST_SECONDS, MOST_TOKENS = 1.3, 60
IMPORTS = "from langgraph.graph import StateGraph; from langchain_openai import ChatOpenAI"
CHARS_PER_TOKEN = 4


# ---- cold start


def arrival(folder: Path) -> float:
    """Seconds from the start of the command to the first model request."""
    came: list[float] = []

    def note_time(_: dict[str, Any]) -> Reply:
        came.append(time.perf_counter())
        return text("42")

    with ScriptedServer(chosen(note_time)) as server:
        file = folder / "benchai.yaml"
        file.write_text(json.dumps(server.config()), encoding="utf-8")
        began = time.perf_counter()
        command("-m", "benchai", "run", "react", TASK, "--config", str(file), folder=folder)
    return came[0] - began


def command(*words: str, folder: Path) -> float:
    """Seconds that an interpreter of its own takes for something."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BENCHAI_")}
    environment["BENCHAI_HOME"] = str(folder / "home")
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def cold(rounds: int) -> Part:
    """A fresh process each time, by turns; the first round, which warms the page cache, does not count."""
    note("cold")
    with tempfile.TemporaryDirectory(prefix="benchai-cold-") as temp:
        folder = Path(temp)
        ways: dict[str, Callable[[], float]] = {
            "benchai run react, to the first model request": lambda: arrival(folder),
            f'python -c "{IMPORTS}", to its end': lambda: command("-c", IMPORTS, folder=folder),
            "python -c pass, to its end": lambda: command("-c", "pass", folder=folder),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                took = way()
                if number:
                    found[name].append(took)
    rows = [
        {"what": name, "median": statistics.median(values), "least": min(values), "most": max(values), "n": rounds}
        for name, values in found.items()
    ]
    lines: list[list[Any]] = [["seconds", "median", "least", "most", "n", f"goal {MOST_SECONDS} s"]]
    for place, row in enumerate(rows):
        met = "" if place else "met" if row["median"] <= MOST_SECONDS else "NOT met"
        figures = [f"{row[key]:.3f}" for key in ("median", "least", "most")]
        lines.append([row["what"], *figures, rounds, met])
    return Part("cold", rows, lines)


# ---- tokens of the first request


def first_request(framework: str, peers_python: Path | None) -> dict[str, Any] | str:
    """The body of a framework's first request, or why there is none."""

    def reply(request: dict[str, Any]) -> Reply:
        # the one that ends its runs by a tool would otherwise go on
        ends = any(tool["function"]["name"] == "final_answer" for tool in request.get("tools", []))
        return calls(("final_answer", '{"answer": "42"}')) if ends else text("42")

    with ScriptedServer(chosen(reply)) as server, LoopProcess(framework, server.url, peers_python) as loop:
        if loop.missing:
            return loop.missing
        found = loop.ask(task=TASK, runs=1, at_once=1)
        return server.requests[0] if server.requests else str(found)


def characters(request: Mapping[str, Any]) -> int:
    """Characters of a request's messages and of its tool schemas as compact JSON."""
    tools = "".join(json.dumps(tool, separators=(",", ":")) for tool in request.get("tools", []))
    return len(tools) + sum(len(words_of(message.get("content"))) for message in request["messages"])


def words_of(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(part.get("text", "")) for part in content)


def tokens_of_tiny(client: httpx.Client, request: Mapping[str, Any]) -> int:
    """Tokens of the whole prompt, as the bundled model's server makes and counts it."""
    body = {
        "messages": [{**one, "content": words_of(one.get("content"))} for one in request["messages"]],
        "tools": request.get("tools", []),
    }
    prompt = client.post("/apply-template", json=body).raise_for_status().json()["prompt"]
    content = {"content": prompt, "add_special": True, "parse_special": True}
    return len(client.post("/tokenize", json=content).raise_for_status().json()["tokens"])


def second_count(request: Mapping[str, Any]) -> tuple[int, str]:
    """A count that knows nothing of our prompts: of tiktoken where its data lies on this machine, else characters."""
    words = "\n".join(words_of(one.get("content")) for one in request["messages"])
    tools = "".join(json.dumps(tool, separators=(",", ":")) for tool in request.get("tools", []))
    # without that folder tiktoken would fetch its data
    if os.environ.get("TIKTOKEN_CACHE_DIR"):
        try:
            import tiktoken

            return len(tiktoken.get_encoding("o200k_base").encode(words + tools)), "tiktoken o200k_base"
        except Exception as error:
            note(f"tiktoken: {error}")
    return -(-characters(request) // CHARS_PER_TOKEN), f"characters / {CHARS_PER_TOKEN}"


def prompt(model: Path, peers_python: Path | None) -> Part:
    """Tokens of the first request with one tool, of all frameworks that are there."""
    note("prompt")
    rows, missing = [], []
    with served(model) as client:
        for framework in FRAMEWORKS:
            request = first_request(framework, peers_python)
            if isinstance(request, str):
                missing.append(f"{framework}: {request}")
                continue
            count, by = second_count(request)
            tiny = tokens_of_tiny(client, request)
            rows.append({"framework": framework, "tiny": tiny, "second": count, "by": by, "request": request})
    return Part("prompt", rows, prompt_table(rows), missing)


def prompt_table(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Frameworks down, the two counts across."""
    lines: list[list[Any]] = [
        ["tokens of the first request", "bundled model's tokenizer", rows[0]["by"], f"goal {MOST_TOKENS}"]
    ]
    for row in rows:
        met = "met" if max(row["tiny"], row["second"]) <= MOST_TOKENS else "met by the first count only"
        met = "NOT met" if row["tiny"] > MOST_TOKENS else met
        lines.append([row["framework"], row["tiny"], row["second"], met if "benchai" in row["framework"] else ""])
    return lines
