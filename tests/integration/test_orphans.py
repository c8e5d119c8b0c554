"""A supervisor that is killed leaves no engine behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration import scripted
from tests.integration.helpers import (
    below,
    benchai,
    commands,
    ended,
    engine_config,
    running,
    tiny_config,
    until,
    write_config,
)
from tests.integration.scripted import ScriptedServer, contents

__all__ = ["commands"]
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs the pidfd of Linux")


@pytest.mark.parametrize("behaviour", ["native", "streams", "deaf", "loading"])
def test_a_killed_command_takes_its_engine_along(tmp_path: Path, behaviour: str) -> None:
    native = tiny_config(max_tokens=2000, extra_args=["--no-warmup", "--chat-template", "chatml"])
    write_config(tmp_path, native if behaviour == "native" else engine_config(tmp_path, behaviour))
    with running("run", "react", "Hello", "--json", cwd=tmp_path) as cli:
        if behaviour in ("native", "streams"):
            pid = cli.wait_for("model_ready")["pid"]
        else:
            cli.wait_for("model_loading")
            until(lambda: below(cli.process.pid))
            [pid] = below(cli.process.pid)
        assert pid in below(cli.process.pid)
        cli.process.send_signal(signal.SIGKILL)
        assert ended(pid, 5), "the engine outlived its supervisor"
        assert cli.end().code == -signal.SIGKILL


def test_a_thread_goes_on_after_its_run_was_killed(tmp_path: Path) -> None:
    add = ("calculator", '{"expression": "1 + 1"}')
    with ScriptedServer(scripted.calls(add), scripted.silent(), scripted.text("Going on.")) as server:
        write_config(tmp_path, server.config())
        with running("run", "react", "Add", "--thread", "one", "--json", cwd=tmp_path) as cli:
            assert server.wait_for_requests(2)
            cli.process.kill()
            cli.end()
        listed = benchai("threads", "list", cwd=tmp_path)
        done = benchai("run", "react", "And now?", "--thread", "one", cwd=tmp_path)
    assert (done.code, done.out) == (0, "Going on.\n")
    assert contents(server.requests[2], "tool") == ["2"]
    assert contents(server.requests[2], "user") == ["Add", "And now?"]
    # nobody runs it any more, and the list does not say so
    assert "running" not in listed.out
