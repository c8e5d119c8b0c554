"""What stands before every request, on real sockets: keys, limits, hosts, origins, caps, time-outs, and bad HTTP."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.integration.edge_helpers import KEY, Answer, Client, Server, a_key, edge_server
from tests.integration.helpers import until

Start = Callable[..., Server]
#: A time-out under test.
SHORT = 0.3
POST = "POST /echo HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts servers on either event loop; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(edge_server(request.param, **settings))


@pytest.fixture
def serve() -> Iterator[Start]:
    """Starts servers where the event loop makes no difference."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(edge_server("asyncio", **settings))


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    assert (answer.status, answer.error["code"]) == (status, code), answer
    return answer.error


# ---- ids, hosts, origins


def test_an_id_is_taken_over_or_made(serve: Start) -> None:
    client = serve().connect()
    answer = client.ask(x_request_id="mine-1:2/3")
    assert (answer.headers["x-request-id"], answer.json["id"]) == ("mine-1:2/3", "mine-1:2/3")
    made = {client.ask(x_request_id=bad).headers["x-request-id"] for bad in ("", "a b", "x" * 129, "\xe4", "a,b")}
    assert len(made) == 5
    assert all(one.startswith("req_") for one in made)


def test_other_names_are_refused(serve: Start) -> None:
    server = serve(hosts=["box.lan"])
    client = server.connect()
    for host in ("evil.example", "localhost.evil.example:8085", "192.168.1.2"):
        refused(client.ask(host=host), 403, "host_not_allowed")
    assert not server.app.happened
    for host in ("localhost:9", "127.0.0.1", "[::1]:8085", "BOX.lan:1"):
        assert client.ask(host=host).status == 200
    # no browser speaks it
    assert server.connect().send("GET /echo HTTP/1.0\r\n\r\n").answer().status == 200
    two = server.connect().send("GET /echo HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n").answer()
    refused(two, 403, "host_not_allowed")


def test_web_pages_are_refused_by_default(serve: Start) -> None:
    server = serve()
    client = server.connect()
    for origin in ("https://evil.example", "null", "http://localhost:3000"):
        refused(
            client.ask(method="POST", origin=origin, content_type="text/plain", body=b"{}"), 403, "origin_not_allowed"
        )
        client = server.connect()
    preflight = client.ask(method="OPTIONS", origin="https://a.example", access_control_request_method="POST")
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert not server.app.happened
    assert client.ask(origin="http://localhost").status == 200
    assert client.ask(origin="vscode-webview://1").status == 200


def test_a_page_that_may_ask(serve: Start) -> None:
    client = serve(cors={"origins": ["https://a.example"]}, keys=[a_key()]).connect()
    asks = {"origin": "https://a.example", "access_control_request_method": "POST"}
    preflight = client.ask("/v1/x", method="OPTIONS", access_control_request_headers="authorization", **asks)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    assert "content-length" not in preflight.headers
    # the page comes to see why it was refused, too
    for answer in (client.ask(origin="https://a.example"), client.ask(origin="https://a.example", api_key=KEY)):
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in client.ask(api_key=KEY).headers


# ---- keys and limits


def test_a_key_opens(serve: Start) -> None:
    server = serve(keys=[a_key("ann"), a_key("bob", "another")])
    client = server.connect()
    assert "www-authenticate" in client.ask().headers
    refused(client.ask(), 401, "missing_api_key")
    refused(client.ask(authorization="Bearer no"), 401, "invalid_api_key")
    refused(client.ask(authorization="Bearer \xff\xfe"), 401, "invalid_api_key")
    assert not server.app.happened
    assert client.ask(authorization=f"Bearer {KEY}").json["key"] == "ann"
    assert client.ask(x_api_key="another").json["key"] == "bob"
    for path in ("/health", "/ready", "/fleet", "/fleet/events?last=1"):
        assert client.ask(path).json["key"] == ""


def test_a_refusal_comes_before_a_body_is_read(start: Start) -> None:
    server = start(keys=[a_key()])
    client = server.connect()
    refused(client.ask(method="POST", body=b"x" * 8_000_000), 401, "missing_api_key")
    assert client.ended()
    assert not server.app.happened


def test_requests_a_minute(serve: Start) -> None:
    client = serve(keys=[a_key(requests_per_minute=2)]).connect()
    first, second, third = (client.ask(api_key=KEY) for _ in range(3))
    assert [first.status, second.status, third.status] == [200, 200, 429]
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, third)]
    assert left == ["1", "0", "0"]
    assert refused(third, 429, "rate_limit_exceeded")["type"] == "requests"
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert client.ask("/health").status == 200


def test_requests_at_a_time(start: Start) -> None:
    server = start(keys=[a_key(concurrent=1), a_key("bob", "another")])
    first, second = server.connect(), server.connect()
    asked = f"GET /stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\r\n"
    first.send(asked).until(b"begun")
    refused(second.ask(api_key=KEY), 429, "concurrency_limit_exceeded")
    assert second.ask(api_key="another").status == 200
    # the client is gone
    first.close()
    server.app.until("gone")
    until(lambda: second.ask(api_key=KEY).status == 200)
    # the response has ended
    assert [second.ask(api_key=KEY).status for _ in range(3)] == [200] * 3


def test_a_place_comes_back_when_the_application_fails(serve: Start) -> None:
    server = serve(keys=[a_key(concurrent=1)])
    for path, status in (("/boom", 500), ("/wrong", 400)) * 2:
        assert server.connect().ask(path, api_key=KEY).status == status
    assert server.connect().ask(api_key=KEY).status == 200


def test_what_fails_is_told_without_a_trace(serve: Start) -> None:
    server = serve()
    assert refused(server.connect().ask("/boom"), 500, "internal_error")["type"] == "server_error"
    assert server.connect().ask("/wrong").error["message"] == "it is 'wrong'; mend it"


# ---- bodies


def test_a_body_over_the_cap(start: Start) -> None:
    server = start(max_body=1000)
    client = server.connect()
    assert client.ask(method="POST", body=b"x" * 1000).json["length"] == 1000
    refused(client.ask(method="POST", body=b"x" * 4_000_000), 413, "body_too_large")
    assert client.ended()
    assert server.app.happened["came"] == 1
    for length in ("1001", "9" * 18, "10" + "0" * 15):
        refused(server.connect().send(f"{POST}content-length: {length}\r\n\r\n").answer(), 413, "body_too_large")


def test_a_client_that_asks_first_is_refused_before_it_sends(serve: Start) -> None:
    client = serve(max_body=1000).connect()
    client.send(f"{POST}content-length: 1001\r\nexpect: 100-continue\r\n\r\n")
    refused(client.answer(), 413, "body_too_large")
    client.close()
    client = serve(max_body=1000, body_timeout=SHORT).connect()
    client.send(f"{POST}content-length: 3\r\nexpect: 100-continue\r\n\r\n").until(b"100 Continue\r\n\r\n")
    assert client.send("abc").answer().json["length"] == 3


def test_a_body_in_chunks_is_counted_as_it_comes(start: Start) -> None:
    server = start(max_body=100_000)
    client = server.connect().send(f"{POST}transfer-encoding: chunked\r\n\r\n")
    client.send("C350\r\n" + "x" * 50_000 + "\r\n").send("C351\r\n" + "x" * 50_001 + "\r\n")
    refused(client.answer(), 413, "body_too_large")
    assert client.ended()
    server.app.until("gone")
    client = server.connect().send(f"{POST}transfer-encoding: chunked\r\n\r\n")
    assert client.send("C350\r\n" + "x" * 50_000 + "\r\n0\r\n\r\n").answer().json["length"] == 50_000


@pytest.mark.parametrize("filler", ["1;" + "x" * 50_000 + "\r\nx\r\n", "1\r\nx\r\n" * 10_000])
def test_what_is_no_body_counts_too(start: Start, filler: str) -> None:
    server = start(max_body=100_000)
    client = server.connect().send(f"{POST}transfer-encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):
        for _ in range(100):
            client.send(filler)
    refused(client.answer(), 413, "body_too_large")
    server.app.until("gone")


def test_headers_after_a_body_are_left_out(serve: Start) -> None:
    server = serve()
    client = server.connect().send(f"{POST}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nauthorization: x\r\n\r\n")
    assert client.answer().json["headers"] == ["host", "transfer-encoding"]
    assert client.ask().status == 200


def test_an_answer_before_the_body(start: Start) -> None:
    server = start()
    client = server.connect()
    assert client.ask("/unread", method="POST", body=b"x" * 4_000_000).body == b"ok"
    # the connection goes on behind it
    assert client.ask().status == 200


def test_a_rest_that_nobody_reads_is_not_waited_for(start: Start) -> None:
    server = start(body_timeout=SHORT)
    client = server.connect().send("POST /unread HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc")
    assert client.answer().body == b"ok"
    # an answer now would be taken for the next one
    assert client.ended()


# ---- slow clients


@pytest.mark.parametrize("begun", ["G", "GET /echo HTTP/1.1\r\nhost: localhost\r\nx: "])
def test_headers_that_never_end(start: Start, begun: str) -> None:
    server = start(header_timeout=SHORT)
    client = server.connect().send(begun)
    refused(client.answer(), 408, "request_timeout")
    assert client.ended()
    assert not server.app.happened


def test_headers_that_drip(start: Start) -> None:
    client = start(header_timeout=SHORT).connect().send("GET /echo HTTP/1.1\r\nhost: localhost\r\nx: ")
    client.socket.settimeout(SHORT / 10)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            client.send("y")
            with contextlib.suppress(TimeoutError):
                if client.more():
                    break
    client.socket.settimeout(10)
    refused(client.answer(), 408, "request_timeout")


def test_a_connection_without_a_request(start: Start) -> None:
    server = start(header_timeout=SHORT, keep_alive=SHORT)
    assert server.connect().ended()
    client = server.connect()
    assert client.ask().status == 200
    assert client.ended()
    # what begins no request is none
    client = server.connect()
    assert client.ask().status == 200
    assert client.send("\r\n").ended()


def test_headers_of_a_later_request(start: Start) -> None:
    client = start(header_timeout=SHORT).connect()
    assert client.ask().status == 200
    refused(client.send("GET /echo HT").answer(), 408, "request_timeout")


@pytest.mark.parametrize("framing", ["content-length: 9\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n5\r\nabc"])
def test_a_body_that_never_ends(start: Start, framing: str) -> None:
    server = start(body_timeout=SHORT)
    client = server.connect().send(POST + framing)
    refused(client.answer(), 408, "request_timeout")
    assert client.ended()
    server.app.until("gone")


def test_a_response_takes_as_long_as_it_takes(start: Start) -> None:
    server = start(header_timeout=SHORT, body_timeout=SHORT, keep_alive=SHORT)
    client = server.connect().send("GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n\r\n")
    client.until(b"begun\r\n")
    client.socket.settimeout(2 * SHORT)
    with pytest.raises(TimeoutError):
        client.more()
    assert not server.app.happened["gone"]


def test_a_client_that_reads_nothing(start: Start) -> None:
    server = start(send_timeout=SHORT)
    client = server.connect().send("GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
    server.app.until("begun")
    until(lambda: server.connections() == 0)
    client.close()
    server.app.until("ended")


def test_so_many_connections(start: Start) -> None:
    server = start(max_connections=2)
    clients = [server.connect() for _ in range(2)]
    assert [client.ask().status for client in clients] == [200, 200]
    more = server.connect()
    refused(more.answer(), 503, "too_many_connections")
    assert more.ended()
    clients[0].close()
    until(lambda: server.connections() == 1)
    assert server.connect().ask().status == 200


# ---- floods and what is no HTTP


@pytest.mark.parametrize(
    "flood", ["x: y\r\n" * 100_000, "x: " + "y" * 300_000, "x" * 300_000], ids=["many", "long value", "long name"]
)
def test_a_flood_of_headers(start: Start, flood: str) -> None:
    server = start()
    client = server.connect()
    with contextlib.suppress(OSError):
        client.send(f"GET /echo HTTP/1.1\r\nhost: localhost\r\n{flood}")
    refused(client.answer(), 431, "headers_too_large")
    assert client.ended()
    assert not server.app.happened


def test_headers_that_all_come_at_once(serve: Start) -> None:
    server = serve(max_headers=10, max_header_bytes=1000)
    client = server.connect()
    refused(client.ask(**{f"x{number}": "y" for number in range(10)}), 431, "headers_too_large")
    refused(client.ask(x="y" * 1000), 431, "headers_too_large")
    assert client.ask(**{f"x{number}": "y" for number in range(9)}).status == 200


def test_a_target_of_any_length(start: Start) -> None:
    refused(start().connect().send("GET /" + "x" * 100_000).answer(), 431, "headers_too_large")


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET /echo HTTP/9.9\r\n\r\n",
        b"G\xc3\x84T / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost localhost\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: localhost\r\nx\x00y: z\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: localhost\r\nx: y\x00z\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: localhost\r\nx : y\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http(start: Start, sent: bytes) -> None:
    server = start()
    client = server.connect().send(sent)
    refused(client.answer(), 400, "invalid_http")
    assert client.ended()
    assert server.connect().ask().status == 200


def test_values_that_are_no_utf8(serve: Start) -> None:
    client = serve().connect()
    assert client.ask(x="\xff\xfe\x80", cookie="\xc3\x28", user_agent="\xe4").status == 200
    assert client.ask("/%ff%fe?\x7e=%00%ff").json["path"] == "/\ufffd\ufffd"
    refused(client.ask(host="\xff"), 403, "host_not_allowed")


def test_an_upgrade_is_not_made(start: Start) -> None:
    client = start().connect()
    offer = {"connection": "Upgrade, HTTP2-Settings", "http2-settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"}
    for body, wanted in ((b"", "h2c"), (b"abc", "h2c"), (b"x" * 1_000_000, "h2c"), (b"", "websocket"), (b"x", "a")):
        answer = client.ask(method="POST", body=body, upgrade=wanted, **offer)
        assert (answer.status, answer.json["length"]) == (200, len(body))
    client.send(f"{POST}transfer-encoding: chunked\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n1\r\n")
    assert client.send("x\r\n2\r\nyz\r\n0\r\n\r\n").answer().json["length"] == 3
    offered = client.ask(upgrade="h2c", connection="upgrade").json
    assert offered["headers"] == ["host", "upgrade", "connection"]


def test_requests_ahead_of_their_answers(start: Start) -> None:
    server = start()
    client = server.connect()
    client.send("".join(f"GET /{number} HTTP/1.1\r\nhost: localhost\r\n\r\n" for number in range(50)))
    assert [client.answer().json["path"] for _ in range(50)] == [f"/{number}" for number in range(50)]


def test_too_many_requests_ahead_of_their_answers(start: Start) -> None:
    server = start()
    for number, more in enumerate(("", "connection: upgrade\r\nupgrade: h2c\r\n"), 1):
        client = server.connect().send("GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        client.until(b"begun\r\n")
        with contextlib.suppress(ConnectionError):
            assert client.send(f"GET /echo HTTP/1.1\r\nhost: localhost\r\n{more}\r\n" * 3000).ended()
        server.app.until("gone", number)
    assert server.app.happened["came"] == 2


def test_a_client_that_goes_away_with_requests_ahead(start: Start) -> None:
    server = start()
    client = server.connect().send("GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
    client.until(b"begun")
    client.send("GET /echo HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3)
    client.close()
    server.app.until("gone")
    server.app.until("ended")
    assert server.app.happened["came"] == 1


def test_nonsense_behind_a_request_under_way(start: Start) -> None:
    server = start()
    client = server.connect().send("GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
    client.until(b"begun\r\n")
    # no second answer comes into the middle of the first one
    assert client.send("nonsense\r\n\r\n").ended()
    server.app.until("gone")


# ---- half-closed and broken connections


@pytest.mark.parametrize(
    "sent", ["", "GET /echo HT", f"{POST}content-length: 9\r\n\r\nabc", "GET /stream HTTP/1.1\r\n"]
)
def test_a_half_closed_connection(start: Start, sent: str) -> None:
    server = start()
    client = server.connect().send(sent)
    client.socket.shutdown(socket.SHUT_WR)
    assert client.ended()
    until(lambda: server.connections() == 0)
    # a request whose body was on its way
    came = int("abc" in sent)
    server.app.until("gone", came)
    assert server.app.happened["came"] == came


def test_a_half_closed_connection_during_a_response(start: Start) -> None:
    server = start(keys=[a_key(concurrent=1)])
    client = server.connect()
    client.send(f"GET /stream HTTP/1.1\r\nhost: localhost\r\napi-key: {KEY}\r\n\r\n").until(b"begun\r\n")
    client.socket.shutdown(socket.SHUT_WR)
    server.app.until("gone")
    assert client.ended()
    until(lambda: server.connect().ask(api_key=KEY).status == 200)


def test_a_connection_that_is_reset(start: Start) -> None:
    server = start()
    for sent in ("", "GET /echo HT", f"{POST}content-length: 9\r\n\r\nabc"):
        client = server.connect().send(sent)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    until(lambda: server.connections() == 0)
    assert server.connect().ask().status == 200


def test_a_refused_client_that_keeps_sending_is_left(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchai.server.parting.LINGER_SECONDS", SHORT)
    server = start(max_body=10)
    client = server.connect().send(f"{POST}content-length: 100000000\r\n\r\n")
    refused(client.answer(), 413, "body_too_large")
    assert client.ended(), "its side is closed at once"
    sending = threading.Thread(target=_send_until_it_breaks, args=(client,))
    sending.start()
    until(lambda: server.connections() == 0)
    sending.join()


def _send_until_it_breaks(client: Client) -> None:
    with contextlib.suppress(OSError):
        while True:
            client.send(b"x" * 1000)


def test_the_end_of_a_server_waits_for_no_slow_client(start: Start) -> None:
    server = start()
    for sent in ("", "GET /echo HT", "GET /echo HTTP/1.1\r\nhost: localhost\r\n\r\n"):
        server.connect().send(sent)
    until(lambda: server.connections() == 3)
    server.app.until("ended")
    server.uvicorn.should_exit = True
    until(lambda: server.connections() == 0, 10)


# ---- libraries


def test_the_openai_library_understands_what_it_is_refused(serve: Start) -> None:
    server = serve(keys=[a_key(requests_per_minute=1)], max_body=100_000)
    base = f"http://127.0.0.1:{server.port}/v1"

    def ask(key: str, text: str = "Hi", **options: Any) -> openai.APIStatusError:
        with (
            openai.OpenAI(base_url=base, api_key=key, max_retries=0, **options) as client,
            pytest.raises(openai.APIStatusError) as caught,
        ):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        return caught.value

    wrong = ask("wrong")
    assert isinstance(wrong, openai.AuthenticationError)
    assert (wrong.code, wrong.type) == ("invalid_api_key", "authentication_error")
    assert isinstance(ask(KEY, default_headers={"Host": "evil.example"}), openai.PermissionDeniedError)
    # it comes to read the answer although it is still sending
    large = ask(KEY, "x" * 5_000_000)
    assert (large.status_code, large.code) == (413, "body_too_large")
    assert server.connect().ask(api_key=KEY).status == 200
    limited = ask(KEY)
    assert isinstance(limited, openai.RateLimitError)
    assert limited.request_id


# ---- the access log


def test_a_line_for_each_request(serve: Start) -> None:
    server = serve(keys=[a_key()])
    client = server.connect()
    client.ask("/v1/chat%0aforged?api_key=secret", method="POST", body=b"contents", api_key=KEY, x_request_id="id-1")
    client.ask("/" + "x" * 1000)
    server.connect().ask("/boom", api_key=KEY)
    until(lambda: len(server.lines) == 3)
    first, second, third = server.lines
    assert first.startswith("POST /v1/chat%0aforged 200 ")
    assert first.endswith(" ms key=ann id=id-1")
    assert second.startswith("GET /xxx")
    assert " 401 " in second
    assert len(second) < 300
    assert third.startswith("GET /boom 500 ")
    for part in ("secret", "contents", KEY, "\n"):
        assert part not in "".join(server.lines)


def test_a_line_for_a_client_that_left(serve: Start) -> None:
    server = serve()
    server.connect().send(f"{POST}content-length: 9\r\n\r\nabc").close()
    until(lambda: server.lines)
    assert server.lines[0].startswith("POST /echo gone ")
