"""Programs in a sandbox: what they must not reach, what they may use, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import psutil
import pytest

from benchai.errors import ToolError
from benchai.tools.run_code import PYTHON, SHELL
from benchai.tools.sandbox import Limits, Ran, Sandbox, bwrap, landlock
from benchai.tools.tool import ToolContext

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")]

# Each line prints {name: "what came of it"}; an error is told by its name
TRY = """
import ctypes, json, os, signal, socket
def attempt(name, do):
    try: found = repr(do())
    except BaseException as error: found = type(error).__name__
    print(json.dumps({name: found}), flush=True)
libc = ctypes.CDLL(None, use_errno=True)
"""


@pytest.fixture(params=["landlock", "bwrap"])
def box(request: pytest.FixtureRequest) -> Sandbox:
    reason = {"landlock": landlock, "bwrap": bwrap}[request.param].why_not()
    if reason is not None:
        pytest.skip(reason)
    if request.param == "landlock":
        return landlock.LandlockSandbox()
    return bwrap.BwrapSandbox(shutil.which("bwrap") or "")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    folder.mkdir()
    return folder


@pytest.fixture
def victim() -> Iterator[psutil.Process]:
    """A process of the same user that has a secret."""
    with subprocess.Popen(["sleep", "60"], env={"API_KEY": "secret-in-environ"}) as process:
        yield psutil.Process(process.pid)
        process.kill()


async def shell(box: Sandbox, workspace: Path, command: str, **limits: Any) -> Ran:
    return await box.run(["/bin/sh", "-c", command], workspace=workspace, limits=Limits(**limits))


async def python(box: Sandbox, workspace: Path, code: str, **limits: Any) -> Ran:
    argv = [sys.executable, "-I", "-c", textwrap.dedent(code)]
    return await box.run(argv, workspace=workspace, limits=Limits(**limits))


async def attempts(box: Sandbox, workspace: Path, lines: str) -> dict[str, str]:
    ran = await python(box, workspace, TRY + textwrap.dedent(lines))
    assert (ran.exit_code, ran.stderr) == (0, "")
    return {name: told for line in ran.stdout.splitlines() for name, told in json.loads(line).items()}


def files_in(folder: Path) -> dict[str, str | None]:
    """What stands in a folder: names and, of files, their text."""
    return {path.name: path.read_text() if path.is_file() else None for path in folder.iterdir()}


def seconds() -> str:
    """A number of seconds that only one program sleeps, so that it can be found."""
    return f"98.{uuid.uuid4().int}"


def with_argument(mark: str) -> list[psutil.Process]:
    """The processes that have this word among their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def test_a_program_works_in_its_workspace(box: Sandbox, workspace: Path) -> None:
    command = "cat; pwd; echo new > made; chmod 700 made; cp -p made copy; echo temp > $TMPDIR/t; cat $TMPDIR/t; exit 3"
    ran = await box.run(["sh", "-c", command], workspace=workspace, stdin="given\n", env={"MORE": "x"})
    assert (ran.exit_code, ran.ended_by, ran.stderr) == (3, "exit", "")
    assert ran.stdout == f"given\n{workspace}\ntemp\n"
    assert (workspace / "copy").read_text() == "new\n"
    assert (workspace / "copy").stat().st_mode & 0o777 == 0o700


async def test_the_environment_holds_no_secret(box: Sandbox, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret-in-environ")
    ran = await shell(box, workspace, "env; cat /proc/*/environ 2>/dev/null")
    assert "PATH=" in ran.stdout
    assert "secret" not in ran.stdout


async def test_stdin_is_empty_by_default(box: Sandbox, workspace: Path) -> None:
    ran = await shell(box, workspace, "cat; echo end")
    assert ran.stdout == "end\n"


async def test_nothing_outside_can_be_written(box: Sandbox, workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    outside.chmod(0o600)
    (workspace / "link").symlink_to(outside)
    (workspace / "out").symlink_to(tmp_path)
    before = outside.stat()
    told = await attempts(
        box,
        workspace,
        f"""
        outside, home = {str(outside)!r}, {str(Path.home())!r}
        attempt("etc", lambda: open("/etc/made-by-a-test", "w"))
        attempt("home", lambda: open(home + "/made-by-a-test", "w"))
        attempt("append", lambda: open(outside, "a"))
        attempt("link", lambda: open("link", "w"))
        attempt("link to a folder", lambda: open("out/made", "w"))
        attempt("truncate", lambda: os.truncate(outside, 0))
        attempt("unlink", lambda: os.unlink(outside))
        attempt("rename", lambda: os.rename(outside, "taken"))
        attempt("hard link", lambda: os.link(outside, "taken"))
        attempt("chmod", lambda: os.chmod(outside, 0o777))
        attempt("chmod by link", lambda: os.chmod("link", 0o777))
        attempt("fchmod", lambda: os.fchmod(os.open("/etc/passwd", os.O_RDONLY), 0o644))
        attempt("utime", lambda: os.utime(outside, (1, 1)))
        attempt("chown", lambda: os.chown(outside, os.getuid(), os.getgid()))
        attempt("mkdir", lambda: os.mkdir("../made"))
        attempt("inside", lambda: os.mkdir("made"))
        """,
    )
    assert told.pop("inside") == "None"
    assert set(told.values()) <= {"PermissionError", "FileNotFoundError", "OSError"}, told
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert files_in(tmp_path) == {"outside": "as it was", "ws": None}
    assert not any(map(Path.exists, (Path("/etc/made-by-a-test"), Path.home() / "made-by-a-test")))


async def test_a_workspace_for_reading_is_not_written(box: Sandbox, workspace: Path) -> None:
    (workspace / "there").write_text("as it was")
    command = "cat there; echo x > there; echo x > made; chmod 777 there; touch there; echo x > $TMPDIR/t && echo temp"
    ran = await box.run(["/bin/sh", "-c", command], workspace=workspace, writable=False)
    assert ran.stdout == "as it wastemp\n"
    assert files_in(workspace) == {"there": "as it was"}


async def test_secrets_can_not_be_read(box: Sandbox, tmp_path: Path, own_home: Path) -> None:
    home = Path.home()
    workspace = home / "project"
    for folder in (home / ".ssh", home / ".aws", own_home, workspace):
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text("the secret")
    (workspace / "link").symlink_to(home / ".ssh" / "file")
    (workspace / "to-proc").symlink_to(f"/proc/{os.getpid()}/environ")
    told = await attempts(
        box,
        workspace,
        f"""
        home = {str(home)!r}
        attempt("ssh", lambda: open(home + "/.ssh/file").read())
        attempt("aws", lambda: open(home + "/.aws/file").read())
        attempt("benchai", lambda: open({str(own_home / "file")!r}).read())
        attempt("home", lambda: os.listdir(home))
        attempt("up", lambda: open("../.ssh/file").read())
        attempt("link", lambda: open("link").read())
        attempt("to-proc", lambda: open("to-proc").read())
        attempt("shadow", lambda: open("/etc/shadow").read())
        attempt("root", lambda: open("/proc/self/root" + home + "/.ssh/file").read())
        attempt("own", lambda: open(home + "/project/file").read())
        """,
    )
    assert told.pop("own") == "'the secret'"
    assert set(told.values()) <= {"PermissionError", "FileNotFoundError"}, told


async def test_a_workspace_that_holds_home_is_refused(box: Sandbox) -> None:
    with pytest.raises(ToolError, match="home folder"):
        await shell(box, Path.home(), "true")


async def test_there_is_no_network(box: Sandbox, workspace: Path, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as service,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        udp.bind(("127.0.0.1", 0))
        service.bind(str(tmp_path / "service"))
        name = f"\0{uuid.uuid4().hex}"
        abstract.bind(name)
        for server in (tcp, service, abstract):
            server.listen()
        (workspace / "service").symlink_to(tmp_path / "service")
        told = await attempts(
            box,
            workspace,
            f"""
            tcp, udp = ("127.0.0.1", {tcp.getsockname()[1]}), ("127.0.0.1", {udp.getsockname()[1]})
            attempt("tcp", lambda: socket.create_connection(tcp, 2))
            attempt("mptcp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(tcp))
            attempt("fast open", lambda: socket.socket().sendto(b"x", 0x20000000, tcp))
            attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", udp))
            attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect({str(tmp_path / "service")!r}))
            attempt("unix by link", lambda: socket.socket(socket.AF_UNIX).connect("service"))
            attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect({name!r}))
            attempt("pair", lambda: len(socket.socketpair()))
            """,
        )
        assert told.pop("pair") == "2"
        assert set(told.values()) <= {"PermissionError", "ConnectionRefusedError", "FileNotFoundError", "OSError"}, told
        for server in (tcp, udp, service, abstract):
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.recv(1) if server is udp else server.accept()


async def test_other_processes_are_out_of_reach(box: Sandbox, workspace: Path, victim: psutil.Process) -> None:
    limit, nice = victim.rlimit(psutil.RLIMIT_NOFILE), victim.nice()
    told = await attempts(
        box,
        workspace,
        f"""
        import resource
        victim = {victim.pid}
        def ptrace():
            assert libc.ptrace(16, victim, 0, 0) == 0
        attempt("kill", lambda: os.kill(victim, 9))
        attempt("group", lambda: os.killpg(os.getpgid(victim), 0))
        attempt("pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(victim), 9))
        attempt("ptrace", ptrace)
        attempt("limits", lambda: resource.prlimit(victim, resource.RLIMIT_NOFILE, (9, 9)))
        attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, victim, 19))
        attempt("cores", lambda: os.sched_setaffinity(victim, {{0}}))
        attempt("environ", lambda: open(f"/proc/{{victim}}/environ").read())
        attempt("memory", lambda: open(f"/proc/{{victim}}/mem", "rb"))
        attempt("parent", lambda: os.kill(os.getppid(), 0) if os.getppid() > 1 else os.kill(victim, 9))
        attempt("own limits", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        """,
    )
    assert told.pop("own limits").isdigit()
    assert set(told.values()) <= {"PermissionError", "ProcessLookupError", "FileNotFoundError", "AssertionError"}, told
    assert victim.status() == psutil.STATUS_SLEEPING
    assert (victim.rlimit(psutil.RLIMIT_NOFILE), victim.nice()) == (limit, nice)


async def test_limits_can_not_be_raised(box: Sandbox, workspace: Path) -> None:
    told = await attempts(
        box,
        workspace,
        """
        import resource
        for name in ("RLIMIT_FSIZE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NOFILE"):
            what = getattr(resource, name)
            attempt(name, lambda: resource.setrlimit(what, (resource.getrlimit(what)[1] + 1,) * 2))
        """,
    )
    assert set(told.values()) <= {"ValueError", "PermissionError"}, told


async def test_a_loop_without_end_is_ended_by_the_clock(box: Sandbox, workspace: Path) -> None:
    ran = await shell(box, workspace, "trap '' TERM INT HUP; echo part; while :; do sleep 1; done", wall_seconds=0.5)
    assert (ran.exit_code, ran.ended_by, ran.stdout) == (None, "wall", "part\n")


async def test_computing_without_end_is_ended(box: Sandbox, workspace: Path) -> None:
    code = "import os\nos.fork()\nwhile True: pass"
    ran = await python(box, workspace, code, cpu_seconds=0.5, wall_seconds=20)
    assert (ran.exit_code, ran.ended_by) == (None, "cpu")


async def test_one_process_is_refused_more_memory(box: Sandbox, workspace: Path) -> None:
    code = "try: bytearray(10**9)\nexcept MemoryError: print('refused')"
    ran = await python(box, workspace, code, memory_mib=256)
    assert (ran.stdout, ran.ended_by) == ("refused\n", "exit")


async def test_memory_of_several_processes_counts_together(box: Sandbox, workspace: Path) -> None:
    code = "import os, time\nos.fork(); os.fork()\nkept = bytearray(os.urandom(1) * 60_000_000)\ntime.sleep(60)"
    ran = await python(box, workspace, code, memory_mib=160, wall_seconds=20)
    assert (ran.exit_code, ran.ended_by) == (None, "memory")


async def test_a_fork_bomb_is_held(box: Sandbox, workspace: Path) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    code = f"# {mark}\nimport os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    ran = await python(box, workspace, code, processes=8, cpu_seconds=1, wall_seconds=3)
    assert ran.ended_by in {"processes", "cpu", "wall"}
    assert not with_argument(mark)


async def test_a_large_file_is_refused(box: Sandbox, workspace: Path) -> None:
    code = "try: open('big', 'wb').write(bytes(100_000_000))\nexcept OSError as error: print(error.strerror)"
    ran = await python(box, workspace, code, file_mib=1)
    assert ran.stdout == "File too large\n"
    assert (workspace / "big").stat().st_size <= 1024**2


async def test_a_program_that_ignores_the_refusal_ends(box: Sandbox, workspace: Path) -> None:
    ran = await shell(box, workspace, "exec head -c 100000000 /dev/zero > big", file_mib=1)
    assert (ran.exit_code, ran.ended_by) == (None, "files")


async def test_a_flood_of_output_is_cut(box: Sandbox, workspace: Path) -> None:
    ran = await shell(box, workspace, "echo first; exec yes", output_bytes=1000)
    assert (ran.exit_code, ran.ended_by, ran.truncated) == (None, "output", True)
    assert ran.stdout.startswith("first\ny\n")
    assert len(ran.stdout) < 1100


async def test_output_that_is_no_text_is_told(box: Sandbox, workspace: Path) -> None:
    ran = await shell(box, workspace, r"printf 'a\377\000b'; printf '\376' >&2")
    assert (ran.stdout, ran.stderr) == ("a\ufffd\0b", "\ufffd")


async def test_a_program_that_is_not_there_is_told(box: Sandbox, workspace: Path) -> None:
    ran = await box.run(["no-such-program"], workspace=workspace)
    assert ran.exit_code
    assert "no-such-program" in ran.stderr


async def test_a_signal_is_told(box: Sandbox, workspace: Path) -> None:
    ran = await shell(box, workspace, "echo part; kill -9 $$")
    assert ran.stdout == "part\n"
    assert ran.ended_by == "signal" or ran.exit_code == 137


async def test_a_daemon_ends_with_the_program(box: Sandbox, workspace: Path) -> None:
    mark = seconds()
    daemon = f"setsid sh -c 'trap \"\" TERM HUP; echo > started; exec sleep {mark}' > /dev/null 2>&1 &"
    ran = await shell(box, workspace, f"mkfifo started; ({daemon}) & read x < started; echo done")
    assert (ran.exit_code, ran.stdout) == (0, "done\n")
    assert not with_argument(mark)


async def test_a_cancelled_run_leaves_nothing(box: Sandbox, workspace: Path) -> None:
    mark = seconds()
    os.mkfifo(workspace / "started")
    command = f"setsid sh -c 'echo x > started; exec sleep {mark}' > /dev/null 2>&1 & wait"
    task = asyncio.ensure_future(shell(box, workspace, command))
    assert await anyio.to_thread.run_sync((workspace / "started").read_text) == "x\n"
    assert with_argument(mark)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not with_argument(mark)


async def test_a_killed_guard_leaves_nothing(box: Sandbox, workspace: Path) -> None:
    mark = seconds()
    os.mkfifo(workspace / "started")
    command = f"setsid sh -c 'echo x > started; exec sleep {mark}' > /dev/null 2>&1 & wait"
    task = asyncio.ensure_future(shell(box, workspace, command))
    assert await anyio.to_thread.run_sync((workspace / "started").read_text) == "x\n"
    (guard,) = [child for child in psutil.Process().children() if "guard.py" in child.cmdline()[-1]]
    guard.kill()
    with pytest.raises(ToolError, match="guard was killed"):
        await task
    assert not with_argument(mark)


async def test_two_runs_go_on_at_once(box: Sandbox, workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    reader, writer = await asyncio.gather(
        shell(box, workspace, "read x < pipe; echo got $x", wall_seconds=10),
        shell(box, workspace, "echo it > pipe", wall_seconds=10),
    )
    assert (reader.stdout, writer.exit_code) == ("got it\n", 0)


async def test_it_works_without_terminal_and_folder_and_is_loaded_late(workspace: Path, box: Sandbox) -> None:
    code = f"""
    import asyncio, os, pathlib, sys
    import benchai.tools.run_code
    assert "sandlock" not in sys.modules
    os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
    run = benchai.tools.run_code.find_sandbox().run(["echo", "worked"], workspace=pathlib.Path({str(workspace)!r}))
    print(asyncio.run(run).stdout)
    """
    ran = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=workspace,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )
    )
    assert (ran.stdout, ran.stderr) == ("worked\n\n", "")


async def test_a_model_runs_commands_and_code(box: Sandbox, workspace: Path) -> None:
    context = ToolContext(workspace)
    (workspace / "mine.py").write_text("answer = 42")
    assert (await SHELL.invoke({"command": "ls; echo oops >&2; exit 2"}, context)).text == "mine.py\noops\nexit code 2"
    assert (await PYTHON.invoke({"code": "import mine; print(mine.answer)"}, context)).text == "42"
    late = "import time; print('part', flush=True); time.sleep(60)"
    assert (await PYTHON.invoke({"code": late, "timeout": 1}, context)).text == "part\nended after 1 s (limit)"


async def test_the_packages_of_our_interpreter_can_be_used(box: Sandbox, workspace: Path) -> None:
    ran = await python(box, workspace, "import pydantic, pytest; print(pytest.__name__)")
    assert (ran.stdout, ran.stderr) == ("pytest\n", "")
