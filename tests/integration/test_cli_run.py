"""``benchai run`` as a process: what it prints where, how it exits, and what it leaves when it is interrupted."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration import scripted
from tests.integration.helpers import (
    BENCHAI,
    LIMIT,
    TINY_MODEL,
    Forked,
    benchai,
    benchai_afresh,
    commands,
    ended,
    engine_config,
    group,
    running,
    signal_after,
    tiny_config,
    until,
    write_config,
)
from tests.integration.scripted import ScriptedServer, contents

__all__ = ["commands"]
ADD = ("calculator", '{"expression": "7391 * 482"}')

FAILING = """
from langgraph.graph import MessagesState, StateGraph

async def fail(state):
    raise ValueError("a mistake of the graph")

graph = StateGraph(MessagesState).add_node(fail).set_entry_point("fail")
"""


def test_stdout_holds_the_answer_alone(tmp_path: Path) -> None:
    done = benchai_afresh("run", "react", "What is 7391 * 482?", cwd=tmp_path)
    assert done.code == 0, done
    assert "3562462" in done.out.replace(",", "")
    assert len(done.out.splitlines()) == 1
    done.clean()
    for part in ("tiny: ready in", "calculator(", "3562462", "completed: 2 steps"):
        assert part in done.err


def test_json_is_one_event_a_line_and_the_result_is_last(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    done = benchai("run", "react", "-", "--json", "--thread", "one", cwd=tmp_path, stdin=b"What is 2 + 3?")
    assert done.code == 0, done
    done.clean()
    kinds = [event["type"] for event in done.events()]
    assert kinds[:3] == ["run", "model_loading", "model_ready"]
    assert kinds[-2:] == ["answer", "result"]
    result = done.result()
    assert result["output"]
    assert (result["stop_reason"], result["thread_id"], result["workflow"]) == ("completed", "one", "react")
    assert result["steps"] >= 1
    assert set(result["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert result["usage"]["total_tokens"] > 0
    pid = next(event["pid"] for event in done.events() if event["type"] == "model_ready")
    assert not group(pid)


def test_the_task_comes_from_stdin_and_the_thread_goes_on(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Grüße ✓")) as server:
        write_config(tmp_path, server.config())
        first = benchai_afresh("run", "react", "--thread", "t", cwd=tmp_path, stdin="Größe?\n".encode())
        second = benchai("run", "react", "-", "--thread", "t", cwd=tmp_path, stdin=b"again")
    assert (first.code, first.out) == (0, "Grüße ✓\n")
    assert (second.code, second.out) == (0, "Grüße ✓\n")
    assert contents(server.requests[1], "user") == ["Größe?\n", "again"]


def test_an_answer_that_the_encoding_of_stdout_lacks(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Grüße ✓")) as server:
        write_config(tmp_path, server.config())
        done = benchai_afresh("run", "react", "Hello", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert done.code == 0, done
    assert done.out.startswith("Gr")
    done.clean()


def test_another_model_for_a_role_and_limits(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(ADD)) as used, ScriptedServer(scripted.text("no")) as unused:
        config = {"models": {"one": unused.model(), "two": used.model()}, "roles": {"general": "one"}}
        write_config(tmp_path, config)
        common = ("run", "react", "Go on", "--role", "general=two")
        steps = benchai(*common, "--max-steps", "2", "--json", cwd=tmp_path)
        tokens = benchai(*common, "--max-tokens", "50", cwd=tmp_path)
    assert not unused.requests
    assert (steps.code, steps.result()["stop_reason"], steps.result()["steps"]) == (1, "budget_steps", 3)
    assert (tokens.code, tokens.out) == (1, "")
    assert "budget_tokens: 2 steps, 60 tokens" in tokens.err


def test_a_limit_of_time(tmp_path: Path) -> None:
    with ScriptedServer(scripted.silent()) as server:
        write_config(tmp_path, server.config())
        # long enough for the call to begin on a busy machine
        done = benchai("run", "react", "Hello", "--timeout", "2", "--json", cwd=tmp_path)
        assert server.disconnected.wait(5)
    assert (done.code, done.result()["stop_reason"], done.result()["output"]) == (1, "budget_time", "")


def test_an_engine_that_loads_for_ever_is_limited_by_time(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "loading"))
    with running("run", "react", "Hello", "--timeout", "1", "--json", cwd=tmp_path) as cli:
        assert cli.wait_for("model_loading")["engine"] == "llama-server"
        done = cli.end()
    assert (done.code, done.result()["stop_reason"]) == (1, "budget_time")


def test_a_failed_run_ends_with_a_result_too(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(ADD), scripted.error(500, message="Compute error.", type="x")) as server:
        write_config(tmp_path, server.config())
        done = benchai("run", "react", "Hello", "--json", "--thread", "one", cwd=tmp_path)
    result = done.result()
    assert (done.code, result["stop_reason"], result["output"], result["steps"]) == (1, "error", "", 2)
    assert "Compute error" in result["error"]
    assert result["usage"]["total_tokens"] == 30
    assert (result["thread_id"], result["workflow"]) == ("one", "react")
    assert "error: " in done.err
    done.clean()


def test_a_mistake_of_an_own_workflow_is_the_result(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FAILING, encoding="utf-8")
    write_config(tmp_path, tiny_config() | {"workflows": {"own": "own.py:graph"}})
    done = benchai("run", "own", "Hello", "--json", cwd=tmp_path)
    assert (done.code, done.result()["stop_reason"]) == (1, "error")
    assert "a mistake of the graph" in done.result()["error"]
    assert "a mistake of the graph" in done.err


def test_the_workspace_confines_the_tools(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "note.txt").write_text("fine", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("hidden words", encoding="utf-8")
    (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
    (inside / "up").symlink_to(tmp_path)
    paths = [
        "note.txt",
        "../secret.txt",
        str(tmp_path / "secret.txt"),
        "link.txt",
        "up/secret.txt",
        "/proc/self/environ",
    ]
    wanted = [("read_file", json.dumps({"path": path})) for path in paths]
    wanted += [("list_files", json.dumps({"path": path})) for path in ("..", "up")]
    with ScriptedServer(scripted.calls(*wanted), scripted.text("Done")) as server:
        write_config(tmp_path, server.config())
        done = benchai("run", "react", "Read", "--workspace", "inside", "--json", cwd=tmp_path)
    asked = [event["id"] for event in done.events() if event["type"] == "tool_call"]
    seen = {event["id"]: (event["ok"], event["text"]) for event in done.events() if event["type"] == "observation"}
    assert seen.pop(asked[0]) == (True, "fine")
    assert [ok for ok, _ in seen.values()] == [False] * 7
    assert "hidden words" not in json.dumps(server.requests)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["interrupt", "terminate"]
)
def test_a_signal_while_a_model_loads(tmp_path: Path, number: signal.Signals, code: int) -> None:
    write_config(tmp_path, engine_config(tmp_path, "loading"))
    with running("run", "react", "Hello", "--json", "--thread", "one", cwd=tmp_path) as cli:
        signal_after(cli, "model_loading", number)
        done = cli.end()
    assert done.code == code
    assert done.result()["stop_reason"] == "cancelled"
    assert done.result()["thread_id"] == "one"
    done.clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_a_signal_while_a_model_writes(tmp_path: Path, number: signal.Signals) -> None:
    with ScriptedServer(scripted.calls(ADD), scripted.silent()) as server:
        models = {"far": server.model(), "tiny": TINY_MODEL}
        write_config(tmp_path, {"models": models, "roles": {"general": "far"}})
        with running("run", "react", "Hello", "--json", "--thread", "one", cwd=tmp_path) as cli:
            assert server.wait_for_requests(2)
            cli.process.send_signal(number)
            # impatience changes nothing
            cli.process.send_signal(number)
            done = cli.end()
        assert server.disconnected.wait(1)
    assert done.code == 128 + number
    result = done.result()
    assert (result["stop_reason"], result["steps"], result["thread_id"]) == ("cancelled", 2, "one")
    assert result["usage"]["total_tokens"] == 30
    done.clean()


def test_ctrl_c_while_the_real_engine_is_busy(tmp_path: Path) -> None:
    config = tiny_config(extra_args=["--no-warmup", "--chat-template", "chatml"], max_tokens=2000)
    write_config(tmp_path, config)
    with running("run", "react", "Hello", "--json", cwd=tmp_path) as cli:
        pid = signal_after(cli, "model_ready", signal.SIGINT)["pid"]
        done = cli.end()
        assert ended(pid)
    assert done.code == 130
    assert done.result()["stop_reason"] == "cancelled"


def test_ctrl_c_while_the_task_is_awaited(tmp_path: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb"), os.fdopen(read, "rb") as stdin:
        with running("run", "react", cwd=tmp_path, stdin=stdin.fileno()) as cli:
            _until_it_reads(cli.process.pid)
            cli.process.send_signal(signal.SIGINT)
            done = cli.end()
    assert done.code == 130
    done.clean()


def _until_it_reads(pid: int) -> None:
    # system call 0 on x86-64 and 63 on aarch64 is read; its first argument is the descriptor
    until(lambda: re.match(r"(0|63) 0x0 ", Path(f"/proc/{pid}/syscall").read_text()))


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *BENCHAI, "run", "react", "Hello"]

    def reply(exchange: scripted.Exchange) -> None:
        process.send_signal(signal.SIGHUP)
        exchange.pause(0.3)
        scripted.text("Still here")(exchange)

    with ScriptedServer(reply) as server:
        write_config(tmp_path, server.config())
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(ignoring, cwd=tmp_path, **streams) as process:
            out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, b"Still here\n"), err


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_reader_that_left(tmp_path: Path, options: list[str]) -> None:
    with ScriptedServer(scripted.text("Hello")) as server:
        write_config(tmp_path, server.config())
        with running("run", "react", "Hello", *options, cwd=tmp_path) as cli:
            cli.stdout.close()
            code = cli.process.wait()
        said = cli.stderr.read_text()
    assert code == 1
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_a_full_disk(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Hello")) as server, (tmp_path / "err").open("w+b") as err:
        write_config(tmp_path, server.config())
        with Path(os.devnull).open("rb") as nothing, Path("/dev/full").open("wb") as full:
            command = Forked(["run", "react", "Hello"], tmp_path, None, [nothing.fileno(), full.fileno(), err.fileno()])
            assert command.wait() == 1
        err.seek(0)
        said = err.read().decode()
    assert "No space left on device" in said
    assert "Traceback" not in said


def test_text_that_is_no_unicode_does_not_break_the_output(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("half \ud83d a character")) as server:
        write_config(tmp_path, server.config())
        done = benchai("run", "react", "Hello", "--json", cwd=tmp_path)
    assert "half" in done.result()["output"]
    done.clean()


def on_terminal(folder: Path, *args: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command on a pseudo-terminal: exit code and all that the terminal received."""
    master, slave = pty.openpty()
    received = b""
    with subprocess.Popen(
        [*BENCHAI, *args],
        cwd=folder,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", **(env or {})},
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            while select.select([master], [], [], LIMIT)[0] and (piece := _read(master)):
                received += piece
        finally:
            process.kill() if process.poll() is None and not received else None
            os.close(master)
        return process.wait(LIMIT), received.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:
        # how Linux tells that nobody has the other side open
        return b""


def test_a_terminal_shows_the_steps_and_then_the_answer(tmp_path: Path) -> None:
    env: dict[str, Any] = {"NO_COLOR": ""}
    with ScriptedServer(scripted.calls(ADD, thought="I calculate."), scripted.text("It is [3562462].")) as server:
        write_config(tmp_path, server.config())
        code, seen = on_terminal(tmp_path, "run", "react", "What?", env=env)
        assert code == 0
        assert re.search(r"[⠀-⣿]", seen), "no spinner"
        assert "\x1b[1;33m" in seen
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen).replace("\r", "")
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        for part in ("I calculate.", "calculator(expression='7391 * 482')", "observed  3562462"):
            assert any(part in line for line in lines), lines
        assert lines[-1] == "It is [3562462]."
        assert "\x1b[?25h" in seen.rpartition("\x1b[?25l")[2], "the cursor stays hidden"


def test_no_color_leaves_no_colour(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 3562462.")) as server:
        write_config(tmp_path, server.config())
        code, seen = on_terminal(tmp_path, "run", "react", "What?", env={"NO_COLOR": "1"})
    assert code == 0
    assert not re.search(r"\x1b\[(3|4|9|10)[0-7](;|m)", seen)


def test_help_and_version_are_quick(tmp_path: Path) -> None:
    done = benchai_afresh("--version", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.out)
    usage = benchai("run", "--help", cwd=tmp_path)
    assert usage.code == 0
    for option in ("--thread", "--role", "--max-steps", "--max-tokens", "--timeout", "--workspace", "--json"):
        assert option in usage.out
    assert sys.executable not in usage.out
