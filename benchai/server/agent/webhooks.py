"""Webhooks: a POST that tells somebody else's server that a run has ended.

A client chooses the URL, so it is checked as ``tools.net`` checks those of a model: public addresses alone, looked up
once, plus the hosts that ``agent.webhook_hosts`` allows. Redirects are not followed: the payload and its signature are
for the server that was named. Deliveries are signed as Standard Webhooks has it (standardwebhooks.com, 1.0.0), and
tried again with growing pauses where that may help; ``webhook-id`` stays the same, so that a receiver can tell.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import anyio.to_thread
import httpcore
import httpx
import orjson

from benchai.config.agent import AgentConfig
from benchai.errors import ConfigError, ToolError
from benchai.server.agent.service import Unprocessable
from benchai.tools.net import Access, CheckedBackend, parse_url

#: Told of each delivery once: the run's id, whether the receiver took it, and else why not.
Done = Callable[[str, bool, str], None]
SECRET_PREFIX = "whsec_"  # noqa: S105
#: Bytes of a secret: Standard Webhooks, "Signature scheme".
SHORTEST_SECRET, LONGEST_SECRET = 24, 64
#: Answers that may be another one the next time; 5xx beside them.
COME_AGAIN = (408, 425, 429)
USER_AGENT = b"BenchAI (webhooks)"


@dataclass(frozen=True)
class Terms:
    """What deliveries may cost. Times are in seconds.

    Attributes:
        access: What may be reached beside the hosts that the configuration allows.
        pauses: Before the second try, the third, and so on; each up to a quarter longer, by chance.
        total: One try, from looking up the name to the status of the answer.
        at_once: Tries at a time.
        most: Deliveries that wait or are under way.
        size: Bytes of a payload.
        together: Bytes of all payloads that are held.
    """

    access: Access = field(default_factory=lambda: Access(who="a webhook"))
    pauses: Sequence[float] = (2.0, 15.0, 60.0, 300.0, 1800.0)
    total: float = 15.0
    at_once: int = 8
    most: int = 1000
    size: int = 16 * 2**20
    together: int = 64 * 2**20


class _Failed(Exception):
    """A try did not do; ``pause`` in seconds where another one may, and the receiver says when."""

    def __init__(self, why: str, *, again: bool, pause: float = 0.0) -> None:
        super().__init__(why)
        self.again = again
        self.pause = pause


class Webhooks:
    """Delivers while it is open: ``async with Webhooks(config, done) as webhooks``.

    What is under way when it closes is given up without a word to ``done``: it can be submitted again.

    Args:
        config: The section ``agent:``.
        done: Called on the event loop at the end of each delivery.
        terms: Only tests pass others.

    Raises:
        ConfigError: the secret is not there, or is none.
    """

    def __init__(self, config: AgentConfig, done: Done, terms: Terms | None = None) -> None:
        self._done = done
        self._terms = terms or Terms()
        self._under_way: set[asyncio.Task[None]] = set()
        self._held = 0
        self._places = asyncio.Semaphore(self._terms.at_once)
        self.apply(config)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def apply(self, config: AgentConfig) -> None:
        """Take another configuration; deliveries under way see it at their next try.

        Raises:
            ConfigError: see the class; nothing has changed.
        """
        self._key = signing_key(config.webhook_secret_env)
        self._hosts = [_pattern(glob) for glob in config.webhook_hosts]

    def check(self, url: str) -> None:
        """Refuse a URL that no delivery could reach, as far as that can be told without looking it up.

        Raises:
            Unprocessable: it is none, or its scheme, port or address is not allowed.
        """
        try:
            self._allowed(url)
        except ToolError as error:
            hint = error.hint or "agent.webhook_hosts in benchai.yaml allows hosts that are not public"
            raise Unprocessable(f"the webhook cannot be sent: {error.message}", hint=hint) from error

    def submit(self, run_id: str, url: str, payload: Mapping[str, Any]) -> None:
        """Begin to deliver; ``done`` tells what became of it.

        Args:
            run_id: The run that has ended; also makes the delivery's id.
            url: Where to.
            payload: What is sent, as JSON; what JSON does not know as text.
        """
        refused, body = None, b""
        try:
            body = orjson.dumps(payload, default=str, option=orjson.OPT_NON_STR_KEYS)
            refused = self._too_much(len(body))
        except (TypeError, ValueError) as error:
            refused = f"the payload is no JSON: {error}"
        if refused is not None:
            asyncio.get_running_loop().call_soon(self._done, run_id, False, refused)
            return
        self._held += len(body)
        task = asyncio.create_task(self._deliver(run_id, url, body))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _too_much(self, size: int) -> str | None:
        terms = self._terms
        if size > terms.size:
            return f"the payload has {size:,} bytes, at most {terms.size:,} are sent"
        if len(self._under_way) >= terms.most or self._held + size > terms.together:
            return f"{len(self._under_way):,} webhooks with {self._held:,} bytes wait already"
        return None

    async def _deliver(self, run_id: str, url: str, body: bytes) -> None:
        try:
            why = await self._persist(f"msg_{run_id}", url, body)
        finally:
            self._held -= len(body)
        self._done(run_id, why is None, why or "")

    async def _persist(self, message: str, url: str, body: bytes) -> str | None:
        """Try until the receiver takes it or nothing helps any more; why not, or None."""
        pauses = self._terms.pauses
        for number in range(len(pauses) + 1):
            try:
                async with self._places:
                    await self._try(message, url, body)
                return None
            except _Failed as failed:
                if not failed.again or number == len(pauses):
                    return f"{failed} ({number + 1} tries)" if number else str(failed)
                pause = max(pauses[number], min(failed.pause, pauses[-1]))
            # many runs may end, and fail to be told, at the same moment
            await asyncio.sleep(pause * random.uniform(1, 1.25))  # noqa: S311
        raise AssertionError("unreachable")

    async def _try(self, message: str, url: str, body: bytes) -> None:
        try:
            target, access = self._allowed(url)
            async with asyncio.timeout(self._terms.total):
                status, wait = await _post(target, access, self._headers(target, message, body), body)
        except ToolError as error:
            # a name that cannot be looked up now; an address that is not allowed stays so
            raise _Failed(error.message, again=isinstance(error.__cause__, OSError)) from error
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise _Failed(f"{_place(target)} did not answer in time", again=True) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise _Failed(f"{_place(target)} cannot be reached: {error}"[:300], again=True) from error
        if not 200 <= status < 300:
            raise _failure(target, status, wait)

    def _allowed(self, text: str) -> tuple[httpx.URL, Access]:
        """The URL, and what may be reached for it.

        Raises:
            ToolError: it is none, or may not be reached.
        """
        access = self._terms.access
        anywhere = replace(access, allowed=lambda _: True, ports=lambda _: True)
        url = parse_url(text, anywhere)
        host = url.raw_host.decode("ascii").lower()
        name = f"[{host}]" if ":" in host else host
        port = url.port or (443 if url.scheme == "https" else 80)
        if any(pattern.fullmatch(one) for pattern in self._hosts for one in (name, f"{name}:{port}")):
            return url, anywhere
        return parse_url(text, access), access

    def _headers(self, url: httpx.URL, message: str, body: bytes) -> list[tuple[bytes, bytes]]:
        when = str(int(time.time()))
        signed = [(b"webhook-signature", signature(self._key, message, when, body).encode())] if self._key else []
        return [
            (b"Host", url.netloc),
            (b"User-Agent", USER_AGENT),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
            (b"webhook-id", message.encode()),
            (b"webhook-timestamp", when.encode()),
            *signed,
        ]


def signature(key: bytes, message: str, when: str, body: bytes) -> str:
    """The value of ``webhook-signature``: version 1 of Standard Webhooks, HMAC-SHA256.

    Args:
        key: The secret's bytes.
        message: The delivery's id.
        when: Seconds since the epoch.
        body: What is sent.
    """
    content = f"{message}.{when}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}"


def signing_key(variable: str | None) -> bytes | None:
    """The secret that an environment variable holds; None where none is named.

    Raises:
        ConfigError: it is not set, no base64, or not of 24 to 64 bytes. The value is not told.
    """
    if variable is None:
        return None
    where = f"agent.webhook_secret_env: the environment variable {variable!r}"
    hint = f'export {variable}="{SECRET_PREFIX}$(openssl rand -base64 32)"'
    given = os.environ.get(variable, "")
    if not given:
        raise ConfigError(f"{where} is not set", hint=hint)
    try:
        key = base64.b64decode(given.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ConfigError(f"{where} holds no base64", hint=hint) from None
    if not SHORTEST_SECRET <= len(key) <= LONGEST_SECRET:
        expected = f"{SHORTEST_SECRET} to {LONGEST_SECRET} are expected"
        raise ConfigError(f"{where} holds {len(key)} bytes, {expected}", hint=hint)
    return key


def _pattern(glob: str) -> re.Pattern[str]:
    """A glob in which * and ? alone are special: the brackets are those of IPv6 addresses."""
    parts = (".*" if letter == "*" else "." if letter == "?" else re.escape(letter) for letter in glob.lower())
    return re.compile("".join(parts))


def _place(url: httpx.URL) -> str:
    """Scheme, host and port: paths and queries of webhooks hold tokens."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"


def _failure(url: httpx.URL, status: int, wait: float) -> _Failed:
    why = f"{_place(url)} answered {status}"
    if 300 <= status < 400:
        return _Failed(f"{why}: redirects are not followed, name the address that it leads to", again=False)
    return _Failed(why, again=status >= 500 or status in COME_AGAIN, pause=wait)


async def _post(url: httpx.URL, access: Access, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, float]:
    """Status of the answer, and the seconds that it says to wait; its body is not read."""
    backend = CheckedBackend(access)
    tls = await anyio.to_thread.run_sync(access.tls) if url.scheme == "https" else None
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    times = {"connect": access.connect, "read": access.idle, "write": access.idle}
    connection = httpcore.AsyncHTTPConnection(target.origin, ssl_context=tls, network_backend=backend)
    sending = connection.stream("POST", target, headers=headers, content=body, extensions={"timeout": times})
    try:
        async with sending as answer:
            return answer.status, _seconds(answer.headers)
    finally:
        await backend.aclose()


def _seconds(headers: list[tuple[bytes, bytes]]) -> float:
    value = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return float(value) if value.isdigit() and len(value) < 7 else 0.0
