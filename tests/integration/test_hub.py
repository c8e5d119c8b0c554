"""Models of the hub: a small HTTP server stands for it, huggingface_hub's own client and cache are real."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hub_server import COMMIT, Asked, Local, serving

PARTS = [f"big-Q5_K_M-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
FILES = {
    "README.md": b"# model",
    "m-BF16.gguf": b"GGUF bf16",
    "m-F16.gguf": b"GGUF f16",
    "m-Q4_K_M.gguf": b"GGUF q4",
    "mmproj-m-Q4_K_M.gguf": b"GGUF projector",
    **{name: f"GGUF {name}".encode() for name in PARTS},
}
# the client's pauses between its retries, 23 s in all, are skipped
DRIVER = """
import json, sys, time
time.sleep = lambda seconds: None
from benchai.config import hub
from benchai.errors import BenchAIError
try:
    found = getattr(hub, sys.argv[1])(sys.argv[2])
    print(json.dumps({"path": found and str(found)}))
except BenchAIError as error:
    print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
"""


class Hub(Local):
    """The hub's listing of one repository, ``owner/name``, and its files; ``fault`` makes it misbehave."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.fault = ""


class Handler(Asked):
    server: Hub

    def answer(self) -> None:
        path = self.asked()
        if self.server.fault == "500":
            self.reply(500, b"broken")
        elif self.server.fault == "401":
            self.reply(401, b"who are you", {"X-Error-Message": "Invalid username or password."})
        elif path == "/api/models/owner/name/tree/main":
            files = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in FILES.items()]
            self.reply(200, json.dumps(files).encode())
        elif path.startswith("/owner/name/resolve/"):
            self.file(path.rpartition("/")[2])
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def file(self, name: str) -> None:
        data = FILES[name]
        if self.server.fault == "gone":
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        self.reply(200, data, headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.head(status, headers, len(body))
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Hub]:
    running = Hub()
    with serving(running):
        yield running


class Client:
    """Calls the hub's functions in a process of their own, with a cache of its own."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.home, self.endpoint = folder / "hf", endpoint

    def __call__(self, function: str, reference: str, **env: str) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, function, reference],
            env={name: value for name, value in kept.items() if not name.startswith(("HF_", "HUGGING"))}
            | {"HF_HOME": str(self.home), "HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1"}
            | {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": "1", **env},
            capture_output=True,
            text=True,
            timeout=28,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture
def client(tmp_path: Path, server: Hub) -> Client:
    return Client(tmp_path, server.url)


def test_a_file_is_fetched_once_and_found_again_without_the_network(client: Client, server: Hub) -> None:
    assert client("cached_file", "owner/name") == {"path": None}
    assert server.requests == []
    path = Path(client("download", "owner/name")["path"])
    assert path.name == "m-Q4_K_M.gguf"
    assert path.read_bytes() == FILES["m-Q4_K_M.gguf"]
    assert path.is_relative_to(client.home)
    fetched = [name for name in FILES if any(request == f"GET {p(name)}" for request in server.requests)]
    assert fetched == ["m-Q4_K_M.gguf"]
    server.requests.clear()
    assert client("cached_file", "owner/name", HF_HUB_OFFLINE="1") == {"path": str(path)}
    assert client("download", "owner/name:m-Q4_K_M.gguf") == {"path": str(path)}
    assert client("download", "owner/name", HF_HUB_OFFLINE="1") == {"path": str(path)}
    assert server.requests == []


def p(name: str) -> str:
    """The path from which a file of the repository is fetched."""
    return f"/owner/name/resolve/main/{name}"


def test_a_model_in_parts_is_fetched_whole(client: Client) -> None:
    path = Path(client("download", "owner/name:Q5_K_M")["path"])
    assert path.name == PARTS[0]
    assert sorted(file.name for file in path.parent.iterdir()) == PARTS
    assert client("cached_file", "owner/name:Q5_K_M") == {"path": str(path)}
    (path.parent / PARTS[1]).unlink()
    assert client("cached_file", "owner/name:Q5_K_M") == {"path": None}
    assert client("download", "owner/name:Q5_K_M") == {"path": str(path)}
    assert (path.parent / PARTS[1]).is_file()


def test_a_projector_is_fetched_by_its_name(client: Client) -> None:
    path = client("download", "owner/name:mmproj-m-Q4_K_M.gguf")["path"]
    assert Path(path).read_bytes() == FILES["mmproj-m-Q4_K_M.gguf"]
    assert client("cached_file", "owner/name:Q4_K_M") == {"path": None}


def test_another_quantisation_in_the_cache_is_not_taken(client: Client) -> None:
    client("download", "owner/name:m-BF16.gguf")
    assert client("cached_file", "owner/name:F16") == {"path": None}


def test_no_such_repository(client: Client) -> None:
    answer = client("download", "owner/other")
    assert answer["error"] == "ModelFileError"
    assert "there is no repository 'owner/other'" in answer["message"]
    assert answer["hint"]


def test_no_such_file(client: Client) -> None:
    answer = client("download", "owner/name:Q2_K")
    assert answer["error"] == "ModelFileError"
    assert "no GGUF of owner/name matches 'Q2_K'" in answer["message"]
    assert "m-Q4_K_M.gguf" in answer["hint"]
    assert "README.md" not in answer["hint"]


@pytest.mark.parametrize("fault", ["401", "gone", "500"])
def test_a_hub_that_refuses_or_fails(client: Client, server: Hub, fault: str) -> None:
    server.fault = fault
    answer = client("download", "owner/name")
    assert answer["error"] == "ModelFileError"
    assert answer["hint"]


def test_offline(client: Client, server: Hub) -> None:
    answer = client("download", "owner/name", HF_HUB_OFFLINE="1")
    assert answer["error"] == "ModelFileError"
    assert "'owner/name' cannot be fetched" in answer["message"]
    assert server.requests == []


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        # bound and not listening: a connection is refused
        answer = Client(tmp_path, f"http://127.0.0.1:{free.getsockname()[1]}")("download", "owner/name")
    assert answer["error"] == "ModelFileError"
    assert "check the network" in answer["hint"]


@pytest.mark.parametrize("reference", ["owner/name.git", "owner/na--me", "../..", "nonsense"])
def test_a_name_that_the_hub_never_gives(client: Client, server: Hub, reference: str) -> None:
    assert client("download", reference)["error"] in ("ConfigError", "ModelFileError")
    assert server.requests == []
