"""A server that speaks the hub's wire: listings with sizes and hashes, and files that can be asked for in parts.

It has the repositories of the catalogue, with small files under the names that their publishers use. ``cut`` ends each
reply after so many bytes of a file, at most ``cuts`` times; with ``dies`` no file is sent after that any more. ``lie``
tells another hash, and without ``ranges`` the whole file is sent always. ``elsewhere`` is the address that files are
said to have. ``page`` comes in place of every file: its status, its text and the hub's code for an error;
``pages`` counts them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchai.runtime.advise.catalogue import catalogue

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODELS = Path(__file__).parent.parent.parent / "benchai" / "models"
QUANTISATIONS = ("Q3_K_M", "Q4_K_M", "Q5_K_M", "Q8_0")


def repositories() -> dict[str, dict[str, bytes]]:
    """Small files for every entry of the catalogue."""
    tiny, projector = (MODELS / name for name in ("tiny.gguf", "tiny-vision-mmproj.gguf"))
    weights, tower = tiny.read_bytes(), projector.read_bytes()
    found: dict[str, dict[str, bytes]] = {}
    for entry in catalogue():
        stem = entry.repo.partition("/")[2].removesuffix("-GGUF")
        found[entry.repo] = {"README.md": b"# a model"} | {f"{stem}-{kind}.gguf": weights for kind in QUANTISATIONS}
        if entry.projector is not None:
            found[entry.repo][f"mmproj-{stem}-f16.gguf"] = tower
    return found


class Local(ThreadingHTTPServer):
    """A server on a free port of this machine that notes what it is asked."""

    def __init__(self, handler: type[Asked]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Asked(BaseHTTPRequestHandler):
    """One request; ``answer`` replies to it."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError

    def asked(self) -> str:
        """The path that is asked for, noted."""
        path = self.path.partition("?")[0]
        assert isinstance(self.server, Local)
        self.server.requests.append(f"{self.command} {path}")
        return path

    def head(self, status: int, headers: dict[str, str] | None, size: int) -> None:
        """All of a reply but its body."""
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(server: Local) -> Iterator[None]:
    """A server while it runs."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Hub(Local):
    """The server; ``sent`` counts the bytes of files by name."""

    def __init__(self, files: dict[str, dict[str, bytes]]) -> None:
        super().__init__(Handler)
        self.files = files
        self.ranges, self.lie, self.dead = True, False, False
        self.cut: int | None = None
        self.cuts, self.dies = sys.maxsize, False
        self.sent: dict[str, int] = {}
        self.elsewhere: str | None = None
        self.page: tuple[int, bytes, str] | None = None
        self.pages = 0
        self.tokens: list[str | None] = []

    def hash_of(self, data: bytes) -> str:
        return hashlib.sha256(b"other" if self.lie else data).hexdigest()


class Handler(Asked):
    """One request."""

    server: Hub

    def answer(self) -> None:
        path = self.asked()
        owner, _, rest = path.removeprefix("/api/models/").removeprefix("/").partition("/")
        name, _, rest = rest.partition("/")
        files = self.server.files.get(f"{owner}/{name}")
        if files is None:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif path.startswith("/api/"):
            self.reply(200, json.dumps([self.row(name, data) for name, data in files.items()]).encode())
        else:
            self.file(rest.removeprefix("resolve/main/"), files)

    def row(self, name: str, data: bytes) -> dict[str, Any]:
        row = {"type": "file", "path": name, "size": len(data), "oid": "0"}
        lfs = {"oid": self.server.hash_of(data), "size": len(data), "pointerSize": 134}
        return row | ({"lfs": lfs} if name.endswith(".gguf") else {})

    def file(self, name: str, files: dict[str, bytes]) -> None:
        if self.server.dead and self.command == "GET":
            self.close_connection = True
            return
        if self.server.page is not None and self.command == "GET":
            status, page, code = self.server.page
            self.server.pages += 1
            self.reply(status, page, {"X-Error-Code": code} if code else {})
            return
        data = files[name]
        # a file of the large store tells its hash in place of the tag
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.server.hash_of(data)}"', "Accept-Ranges": "bytes"}
        if self.server.elsewhere is not None and self.command == "HEAD":
            linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
            self.reply(302, b"", headers | linked | {"Location": self.server.elsewhere + self.path})
            return
        self.server.tokens.append(self.headers.get("Authorization"))
        start, wanted = 0, self.headers.get("Range", "")
        if wanted.startswith("bytes=") and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.reply(206 if "Content-Range" in headers else 200, data[start:], headers, name)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, name: str = "") -> None:
        self.head(status, headers, len(body))
        if self.command != "GET":
            return
        if name and self.server.cut is not None and self.server.cuts > 0 and len(body) > self.server.cut:
            self.server.cuts -= 1
            self.server.dead = self.server.dies and not self.server.cuts
            body = body[: self.server.cut]
            self.close_connection = True
        self.wfile.write(body)
        if name:
            self.server.sent[name] = self.server.sent.get(name, 0) + len(body)


@contextmanager
def hub(files: dict[str, dict[str, bytes]] | None = None) -> Iterator[Hub]:
    """A running server."""
    running = Hub(repositories() if files is None else files)
    with serving(running):
        yield running
