"""Names of the server (DNS rebinding), and web pages that may ask it (CORS)."""

from __future__ import annotations

import pytest

from benchai.config.server import CorsConfig
from benchai.server.origins import Cors, HostCheck, wrong_host, wrong_origin


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8085", "[::1]", "[::1]:65535", "box.lan", "Box.LAN:8085"],
)
def test_names_of_a_server_on_loopback(host: str) -> None:
    assert HostCheck("127.0.0.1", ["box.lan"], True).knows(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8085",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost:",
        "localhost:x",
        "localhost,localhost",
        "localhost.",
        "192.168.1.2",
        "0.0.0.0",
        "::1",
        "[::2]",
        "",
        " localhost",
        "loc\xe4lhost",
        "x" * 100_000,
    ],
)
def test_other_names_are_not_known_on_loopback(host: str) -> None:
    assert not HostCheck("127.0.0.1", ["box.lan"], True).knows(host.encode("latin-1"))


def test_the_bound_address_is_a_name() -> None:
    assert HostCheck("127.0.0.5", [], True).knows(b"127.0.0.5:8085")
    assert HostCheck("::1", [], True).knows(b"[::1]:8085")


def test_a_server_that_others_reach_goes_by_any_address() -> None:
    check = HostCheck("0.0.0.0", ["box.lan"], False)
    assert [check.knows(host) for host in (b"192.168.1.2:8085", b"[fe80::1]:1", b"box.lan", b"localhost")] == [True] * 4
    # an address is nobody's domain
    assert not check.knows(b"evil.example")
    assert not check.knows(b"[evil]")


def test_names_that_are_free() -> None:
    assert HostCheck("0.0.0.0", [], False).knows(b"any.example:8085")
    assert HostCheck("127.0.0.1", ["*"], True).knows(b"any.example:8085")
    assert not HostCheck("127.0.0.1", ["*"], True).knows(b"any example")


def test_what_is_refused_is_shown_as_ascii() -> None:
    for _, _, body in (wrong_host(b"\xff" * 1000), wrong_origin(b"\xff\x1b[2J" * 1000)):
        assert body.isascii()
        assert len(body) < 1000


# ---- pages


@pytest.mark.parametrize(
    ("origin", "refused"),
    [
        (b"https://evil.example", True),
        (b"http://localhost:3000", True),
        (b"http://localhost:8085", False),
        (b"https://localhost:8085", False),
        (b"http://localhost:8085.evil.example", True),
        (b"https://chat.example", False),
        (b"https://chat.example:444", True),
        (b"http://chat.example", True),
        (b"null", True),
        (b"", True),
        (b"localhost", True),
        (b"https://chat.example,https://chat.example", True),
        (b"vscode-webview://0abc", False),
        (b"app://obsidian.md", False),
    ],
)
def test_which_pages_may_ask(origin: bytes, refused: bool) -> None:
    cors = Cors(CorsConfig(origins=["https://chat.example"]))
    assert cors.refuses(origin, b"localhost:8085") is refused


def test_nobody_is_allowed_to_read_by_default() -> None:
    cors = Cors(CorsConfig())
    assert not any(cors.allows(origin) for origin in (b"null", b"*", b"", b"http://localhost:8085", b"app://x"))


def test_what_a_page_is_told() -> None:
    named = dict(Cors(CorsConfig(origins=["https://a.example"])).headers(b"https://a.example"))
    assert named[b"access-control-allow-origin"] == b"https://a.example"
    assert named[b"vary"] == b"Origin"
    assert b"access-control-allow-credentials" not in named
    assert b"x-request-id" in named[b"access-control-expose-headers"]
    trusted = dict(Cors(CorsConfig(origins=["https://a.example"], credentials=True)).headers(b"https://a.example"))
    assert trusted[b"access-control-allow-credentials"] == b"true"
    everybody = dict(Cors(CorsConfig(origins=["*"])).headers(b"https://b.example"))
    assert everybody[b"access-control-allow-origin"] == b"*"


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [(b"authorization, content-type", True), (b"", False), (b"x\r\ny: z", False), (b"\xff", False)],
)
def test_the_answer_to_a_browser_that_asks(wanted: bytes, allowed: bool) -> None:
    cors = Cors(CorsConfig(origins=["*"], max_age=7))
    status, headers, body = cors.preflight({b"access-control-request-headers": wanted})
    given = dict(headers)
    assert (status, body, given[b"access-control-max-age"]) == (204, b"", b"7")
    assert b"POST" in given[b"access-control-allow-methods"]
    assert given.get(b"access-control-allow-headers") == (wanted if allowed else None)
