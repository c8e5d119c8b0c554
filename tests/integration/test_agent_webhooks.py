"""Webhooks on a real receiver on loopback, which the configuration allows, or does not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchai.config.agent import AgentConfig
from benchai.server.agent.webhooks import Terms, Webhooks
from benchai.tools.net import Access

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
KEY = bytes(range(40, 72))
SECRET = base64.b64encode(KEY).decode()
QUICK = (0.01, 0.01, 0.01)


@dataclass
class Got:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers with one status after the other, the last one for ever; 0 cuts the connection, 1 stays silent."""

    answers: list[str | int]
    port: int = 0
    got: list[Got] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=hidden"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) if ":" in line else ("", "") for line in lines[1:-2])
            # the case of a value counts
            headers = {name: line.split(": ", 1)[1] for name, line in zip(headers, lines[1:-2], strict=True)}
            self.got.append(Got(lines[0].split()[1], headers, await reader.readexactly(int(headers["content-length"]))))
            answer = self.answers[min(len(self.got), len(self.answers)) - 1]
            if answer == 1:
                await reader.read()
            elif answer != 0:
                status, _, more = str(answer).partition("\r\n")
                more = f"{more}\r\n" if more else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{more}Content-Length: 2\r\n\r\nok".encode())
                await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(*answers: str | int) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(answers))
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


@dataclass
class Told:
    """What became of the deliveries."""

    ends: asyncio.Queue[tuple[str, bool, str]] = field(default_factory=asyncio.Queue)

    def __call__(self, run_id: str, ok: bool, why: str) -> None:
        self.ends.put_nowait((run_id, ok, why))

    async def next(self) -> tuple[str, bool, str]:
        return await asyncio.wait_for(self.ends.get(), 15)


async def outcome(url: str, hosts: list[str], payload: Any = None, **terms: Any) -> tuple[str, bool, str]:
    """Of one delivery."""
    told = Told()
    config = AgentConfig(webhook_hosts=hosts, webhook_secret_env="WEBHOOK_SECRET_OF_A_TEST")
    async with Webhooks(config, told, Terms(**{"pauses": QUICK, **terms})) as webhooks:
        webhooks.submit("run-1", url, payload or {"run_id": "run-1", "status": "success"})
        found = await told.next()
    assert SECRET not in f"{found} {webhooks}"
    return found


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET_OF_A_TEST", f"whsec_{SECRET}")


def hmac_by_hand(key: bytes, content: bytes) -> str:
    """RFC 2104 with hashlib alone."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + content).digest()
    return base64.b64encode(hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()).decode()


async def test_a_delivery_is_signed() -> None:
    payload = {"run_id": "run-1", "values": {"text": "Grüße", 3: [None, 1.5]}}
    async with receiving("204") as receiver:
        assert await outcome(receiver.url, ["127.0.0.1"], payload) == ("run-1", True, "")
    [got] = receiver.got
    assert json.loads(got.body) == {"run_id": "run-1", "values": {"text": "Grüße", "3": [None, 1.5]}}
    assert (got.path, got.headers["content-type"]) == ("/hook?token=hidden", "application/json")
    when = got.headers["webhook-timestamp"]
    assert abs(time.time() - int(when)) < 60
    content = f"{got.headers['webhook-id']}.{when}.".encode() + got.body
    assert got.headers["webhook-signature"] == f"v1,{hmac_by_hand(KEY, content)}"
    assert SECRET not in str(got)


async def test_without_a_secret_nothing_is_signed() -> None:
    told = Told()
    async with receiving("200") as receiver:
        async with Webhooks(AgentConfig(webhook_hosts=[f"127.0.0.1:{receiver.port}"]), told) as webhooks:
            webhooks.submit("run-2", receiver.url, {})
            assert await told.next() == ("run-2", True, "")
    assert "webhook-signature" not in receiver.got[0].headers


async def test_what_helps_is_tried_again_under_the_same_id() -> None:
    async with receiving("503", 0, "429\r\nRetry-After: 0", "200") as receiver:
        assert await outcome(receiver.url, ["127.0.0.1"]) == ("run-1", True, "")
    assert [got.headers["webhook-id"] for got in receiver.got] == ["msg_run-1"] * 4


@pytest.mark.parametrize(("answer", "tries"), [("500", 4), ("400", 1), ("410", 1), (1, 4)])
async def test_a_receiver_that_never_takes_it(answer: str | int, tries: int) -> None:
    async with receiving(answer) as receiver:
        run_id, ok, why = await outcome(receiver.url, ["127.0.0.1"], total=0.3 if answer == 1 else 15)
    assert (run_id, ok, len(receiver.got)) == ("run-1", False, tries)
    assert ("did not answer in time" if answer == 1 else f"answered {answer}") in why
    assert "hidden" not in why


async def test_nobody_listens() -> None:
    async with receiving("200") as receiver:
        pass
    _, ok, why = await outcome(receiver.url, ["127.0.0.1"])
    assert not ok
    assert "cannot be reached" in why
    assert "(4 tries)" in why


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_not_reached(host: str) -> None:
    """By number, and by a name that leads to it."""
    async with receiving("200") as receiver:
        access = Access(ports=receiver.port.__eq__, who="a webhook")
        _, ok, why = await outcome(f"http://{host}:{receiver.port}/", ["127.0.0.2", "*.lan"], access=access)
        assert (ok, receiver.got) == (False, [])
        assert "a webhook reaches only the public internet" in why
        assert "tries" not in why
        # the same receiver where the configuration has it
        assert (await outcome(f"http://{host}:{receiver.port}/", [host], access=access))[1]


@pytest.mark.parametrize("status", ["301", "302", "307", "308"])
async def test_a_redirect_to_a_private_address_is_not_followed(status: str) -> None:
    async with receiving("200") as inner:
        async with receiving(f"{status}\r\nLocation: http://localhost:{inner.port}/") as receiver:
            _, ok, why = await outcome(receiver.url, [f"127.0.0.1:{receiver.port}"])
    assert (ok, len(receiver.got), inner.got) == (False, 1, [])
    assert "redirects are not followed" in why


async def test_deliveries_are_bounded() -> None:
    told = Told()
    async with receiving(1) as receiver:
        config = AgentConfig(webhook_hosts=["127.0.0.1"])
        async with Webhooks(config, told, Terms(size=100, most=2, at_once=1)) as webhooks:
            webhooks.submit("large", receiver.url, {"text": "x" * 200})
            assert await told.next() == ("large", False, "the payload has 211 bytes, at most 100 are sent")
            for name in ("one", "two", "three"):
                webhooks.submit(name, receiver.url, {})
            run_id, ok, why = await told.next()
            assert (run_id, ok) == ("three", False)
            assert "2 webhooks" in why
        # what was under way is given up without a word
        assert told.ends.empty()
    assert len(receiver.got) <= 1
