"""web_fetch on real servers on loopback, each permitted for its own test alone."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import anyio
import pytest

from benchai.tools.net import Access
from benchai.tools.tool import ToolContext, ToolResult
from benchai.tools.web import WEB_FETCH, web_fetch

pytestmark = pytest.mark.anyio

HOST = "page.test"
Answer = Callable[["Site", asyncio.StreamWriter], Awaitable[None]]


def only_loopback(address: IPv4Address | IPv6Address) -> bool:
    return str(address) == "127.0.0.1"


class Names:
    """A resolver that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@dataclass
class Site:
    """A server with an answer for each path."""

    answers: dict[str, Answer]
    port: int = 0
    scheme: str = "http"
    names: Names = field(default_factory=lambda: Names(["127.0.0.1"]))
    tls: ssl.SSLContext | None = None
    ends: bool = True
    seen: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/", host: str = HOST) -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.set()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            self.seen.append(request.split()[1].decode())
            await self.answers[self.seen[-1]](self, writer)
            await writer.drain()
            if self.ends:
                writer.write_eof() if writer.can_write_eof() else writer.close()
            await reader.read()
        self.closed.set()
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    def access(self, **settings: object) -> Access:
        own = {"allowed": only_loopback, "ports": self.port.__eq__, "resolve": self.names}
        if self.tls:
            own["tls"] = lambda: self.tls
        return Access(**(own | settings))  # type: ignore[arg-type]

    async def fetch(self, path: str = "/", host: str = HOST, **settings: object) -> ToolResult:
        tool = web_fetch(self.access(**settings))
        return await tool.invoke({"url": self.url(path, host)}, ToolContext(workspace=Path()))

    async def refuses(self, path: str, *words: str, **settings: object) -> None:
        result = await self.fetch(path, **settings)
        assert not result.ok
        assert [word for word in words if word not in result.text] == [], result.text


@asynccontextmanager
async def serving(site: Site, tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    server = await asyncio.start_server(site.handle, "127.0.0.1", 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        async with server:
            yield site
    finally:
        # the end of the connection is the server's to see
        if site.connected.is_set():
            await asyncio.wait_for(site.closed.wait(), 10)


def page(body: bytes, *headers: str, status: str = "200 OK", media_type: str = "text/html") -> Answer:
    async def answer(site: Site, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"Content-Type: {media_type}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + body)

    return answer


def redirect(location: str, status: str = "302 Found") -> Answer:
    async def answer(site: Site, writer: asyncio.StreamWriter) -> None:
        await page(b"moved", f"Location: {location.format(port=site.port)}", status=status)(site, writer)

    return answer


def raw(*pieces: bytes, endless: bytes = b"") -> Answer:
    async def answer(site: Site, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        while endless:
            writer.write(endless)
            await writer.drain()

    return answer


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


# ---- pages


async def test_a_page_and_what_is_asked_for() -> None:
    site = Site({"/a?b": page(b"<title>Hello</title><p>Words and a <a href=c>link</a>.")})
    async with serving(site):
        result = await site.fetch("/a?b#part")
        base = site.url()
    assert result == ToolResult(True, f"Title: Hello\nURL: {base}a?b\n\nWords and a [link]({base}c).")
    head = site.requests[0].decode().lower()
    assert f"\r\nhost: {HOST}:{site.port}\r\n" in head
    assert "accept-encoding: gzip, deflate\r\n" in head
    assert "cookie" not in head
    assert site.names.asked == [HOST]


async def test_neither_proxies_nor_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    site = Site({"/": redirect("/b"), "/b": page(b"text", media_type="text/plain")})
    site.answers["/"] = page(b"", "Location: /b", "Set-Cookie: a=b", status="302 Found")
    async with serving(site):
        assert (await site.fetch()).text.endswith("\n\ntext")
    assert len(site.requests) == 2
    assert not [request for request in site.requests if b"cookie" in request.lower()]


async def test_an_international_name() -> None:
    site = Site({"/": page(b"x")})
    async with serving(site):
        assert (await site.fetch(host="müller.test")).ok
    assert site.names.asked == ["xn--mller-kva.test"]


async def test_paging() -> None:
    site = Site({"/": page(b"".join(b"line %d\n" % number for number in range(5000)), media_type="text/plain")})
    async with serving(site):
        first = (await site.fetch()).text
        assert "line 0\nline 1\n" in first
        number = int(first.rpartition("offset=")[2].rstrip("]"))
        tool = web_fetch(site.access())
        second = await tool.invoke({"url": site.url(), "offset": number}, ToolContext(workspace=Path()))
        beyond = await tool.invoke({"url": site.url(), "offset": 5001}, ToolContext(workspace=Path()))
    assert f"\n\nline {number - 1}\nline {number}\n" in second.text
    assert "offset=5001 is not valid" in beyond.text
    assert "has 5000 lines" in beyond.text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page(b"gone", status="404 Not Found"), "answered 404 Not Found"),
        (page(b"no", status="599 Whatever"), "answered 599"),
        (page(b"", status="304 Not Modified"), "answered 304"),
        (page(b"", status="302 Found"), "answered 302"),
        (page(b"%PDF", media_type="application/pdf"), "'application/pdf'; web_fetch reads only text"),
        (page(b"\x89PNG\0", media_type="text/plain"), "binary data"),
        (page(b"x", "Content-Encoding: br"), "encoding 'br'"),
        (page(b"words", "Content-Encoding: gzip"), "damaged compressed data"),
        (page(gzip.compress(b"words" * 99)[:-9], "Content-Encoding: gzip"), "broke off"),
        (raw(), "without sending a response"),
        (raw(b"SSH-2.0-OpenSSH\r\n"), "cannot be fetched"),
        (raw(HEAD + b"Content-Length: 100\r\n\r\nshort"), "cannot be fetched"),
        (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nwords\r\n"), "cannot be fetched"),
        (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), "cannot be fetched"),
        (raw(HEAD + b"X: " + b"x" * 300_000 + b"\r\n\r\n"), "cannot be fetched"),
        (raw(HEAD, endless=b"X-Header: y\r\n" * 100), "cannot be fetched"),
        (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", endless=b"X: y\r\n" * 100), "cannot be fetched"),
    ],
)
async def test_answers_that_are_no_page(answer: Answer, words: str) -> None:
    async with serving(Site({"/": answer})) as site:
        await site.refuses("/", words)


# ---- addresses


@pytest.mark.parametrize(
    "url", ["http://localhost:{}/", "http://127.0.0.1:{}/", "http://[::ffff:127.0.0.1]:{}/", "http://2130706433:{}/"]
)
async def test_the_tool_that_is_exported_reaches_no_loopback(url: str) -> None:
    server = None
    for port in range(8000, 9000):
        with suppress(OSError):
            server = await asyncio.start_server(Site({}).handle, "127.0.0.1", port)
            break
    assert server
    async with server:
        result = await WEB_FETCH.invoke({"url": url.format(port)}, ToolContext(workspace=Path()))
    assert not result.ok
    assert "public internet" in result.text or "decimal parts" in result.text


@pytest.mark.parametrize(
    "answers",
    [
        ["10.0.0.1"],
        ["127.0.0.1", "10.0.0.1"],
        ["127.0.0.1", "::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        [],
        ["nonsense"],
    ],
)
async def test_one_address_that_is_not_allowed_refuses_the_name(answers: list[str]) -> None:
    async with serving(Site({"/": page(b"x")}, names=Names(answers))) as site:
        await site.refuses("/", HOST)
    assert not site.connected.is_set()


async def test_a_name_is_looked_up_once_and_its_answer_is_kept() -> None:
    async with serving(Site({"/": page(b"x")}, names=Names(["127.0.0.1"], ["127.0.0.2"]))) as site:
        assert (await site.fetch()).ok
        assert site.names.asked == [HOST]


async def test_a_name_that_changes_between_redirects() -> None:
    site = Site({"/": redirect("/b"), "/b": page(b"secret")}, names=Names(["127.0.0.1"], ["127.0.0.2"]))
    async with serving(site):
        await site.refuses("/", "leads to 127.0.0.2")
    assert site.seen == ["/"]


async def test_another_address_is_tried() -> None:
    def both(address: IPv4Address | IPv6Address) -> bool:
        return address.is_loopback

    async with serving(Site({"/": page(b"x")}, names=Names(["127.0.0.2", "127.0.0.1"]))) as site:
        assert (await site.fetch(allowed=both)).ok
        site.names = Names(["127.0.0.2", "127.0.0.3"])
        await site.refuses("/", "cannot be fetched", allowed=both)


async def test_a_resolver_that_fails_or_hangs() -> None:
    class Failing:
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            raise OSError("no such name")

    class Hanging:
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

    async with serving(Site({})) as site:
        await site.refuses("/", "has no address", resolve=Failing())
        await site.refuses("/", "does not answer", resolve=Hanging(), connect=0.05)


# ---- redirects


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://169.254.169.254/latest/meta-data/", "leads to 169.254.169.254"),
        ("http://[fd00:ec2::254]:{port}/", "leads to fd00:ec2::254"),
        ("http://2130706433:{port}/", "decimal parts"),
        ("http://user:pass@page.test:{port}/", "user name"),
        ("http://page.test:22/", "port 22"),
        ("file:///etc/passwd", "neither http"),
        ("//[", "no valid name"),
    ],
)
async def test_redirects_that_are_refused(location: str, words: str) -> None:
    def ports(port: int) -> bool:
        return port != 22

    async with serving(Site({"/": redirect(location)})) as site:
        await site.refuses("/", words, ports=ports)
    assert site.seen == ["/"]


async def test_redirects_end() -> None:
    async with serving(Site({"/": redirect("/")})) as site:
        await site.refuses("/", "redirects more than 5 times")
    assert len(site.seen) == 6


async def test_five_redirects() -> None:
    answers = {
        f"/{number}": redirect(f"/{number + 1}", f"{status} x")
        for number, status in enumerate([301, 302, 303, 307, 308])
    }
    async with serving(Site(answers | {"/5": page(b"there")})) as site:
        assert (await site.fetch("/0")).text == f"URL: {site.url('/5')}\n\nthere"


# ---- sizes and times


async def test_a_bomb_stops_at_the_limit() -> None:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    first, again = (packer.compress(b"a" * 1024**2) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    bomb = first + again * 1023
    assert 0.9 * 1024**2 < len(bomb) < 1.2 * 1024**2
    async with serving(Site({"/": page(bomb, "Content-Encoding: gzip", media_type="text/plain")})) as site:
        result = await site.fetch()
    assert "of 1049 or more; go on with offset=" in result.text


@pytest.mark.parametrize("head", [b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_without_end_is_cut(head: bytes) -> None:
    block = b"x" * 1023 + b"\n"
    endless = block if head == b"\r\n" else b"400\r\n" + block + b"\r\n"
    async with serving(Site({"/": raw(HEAD + head, endless=endless)})) as site:
        result = await site.fetch(size=10_000)
    assert result.text.endswith("\n[the page goes on, but web_fetch reads no further]")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-", HEAD + b"Content-Length: 9\r\n\r\nwor"])
async def test_a_server_that_falls_silent(sent: bytes) -> None:
    async with serving(Site({"/": silent(sent)})) as site:
        await site.refuses("/", "does not answer", idle=0.1)


def silent(sent: bytes) -> Answer:
    async def answer(site: Site, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        site.ends = False

    return answer


async def test_a_body_that_drips_meets_the_total() -> None:
    async def drip(site: Site, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n")
        while not writer.transport.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(Site({"/": drip})) as site:
        await site.refuses("/", "took longer than 0.3 s", total=0.3)


async def test_cancellation_closes_the_connection() -> None:
    async with serving(Site({"/": silent(HEAD + b"\r\nwords")})) as site:
        async with anyio.create_task_group() as group:
            group.start_soon(site.fetch)
            await site.connected.wait()
            group.cancel_scope.cancel()
        await asyncio.wait_for(site.closed.wait(), 10)


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for page.test, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = (folder / "cert.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-days", "2"]
    try:
        subprocess.run([*command, "-out", str(made[0]), "-keyout", str(made[1])], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl")
    return made


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_tls_names_the_host(certificate: tuple[Path, Path], server_tls: ssl.SSLContext) -> None:
    named: list[str | None] = []
    server_tls.sni_callback = lambda connection, name, context: named.append(name)
    site = Site({"/": page(b"x")}, scheme="https", tls=ssl.create_default_context(cafile=str(certificate[0])))
    async with serving(site, server_tls):
        result = await site.fetch()
    assert result == ToolResult(True, f"URL: {site.url()}\n\nx")
    assert named == [HOST]


async def test_tls_refuses_another_name_and_an_unknown_authority(
    certificate: tuple[Path, Path], server_tls: ssl.SSLContext
) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    server = await asyncio.start_server(Site({}).handle, "127.0.0.1", 0, ssl=server_tls)
    async with server:
        site = Site({}, server.sockets[0].getsockname()[1], "https", tls=trusted)
        other = await site.fetch(host="other.test")
        site.tls = None
        unknown = await site.fetch()
    assert "Hostname mismatch" in other.text
    assert "self-signed certificate" in unknown.text or "self signed certificate" in unknown.text


async def test_https_never_leads_to_http(certificate: tuple[Path, Path], server_tls: ssl.SSLContext) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    site = Site({"/": redirect("http://page.test:{port}/")}, scheme="https", tls=trusted)
    async with serving(site, server_tls):
        await site.refuses("/", "not encrypted")


async def test_cancellation_during_the_handshake(certificate: tuple[Path, Path]) -> None:
    """A server that accepts and says nothing; httpcore forgets the connection then."""
    ended = asyncio.Event()
    greeted = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        greeted.set()
        with suppress(ConnectionError):
            await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        site = Site({}, server.sockets[0].getsockname()[1], "https")
        async with anyio.create_task_group() as group:
            group.start_soon(site.fetch)
            await greeted.wait()
            group.cancel_scope.cancel()
        await asyncio.wait_for(ended.wait(), 10)
