"""API keys: who asks, and how much of it is left.

Only SHA-256 sums of keys are known. A key is compared with all of them in constant time. What a key may do is kept
beside it: a bucket of requests that fills again, and places for requests at a time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchai.config.server import KeyConfig
from benchai.errors import ConfigError
from benchai.server.openai.errors import Headers, Reply, openai_error, retry_after

PREFIX = "benchai-"
#: Paths that are open to all, and those that have a key of their own.
OPEN = frozenset({"/health", "/ready", "/ok"})
OWN_KEY = "/fleet"
#: Request headers that may hold a key, besides Authorization.
KEY_HEADERS = (b"api-key", b"x-api-key")
_CHALLENGE = (b"www-authenticate", b'Bearer realm="benchai"')


def new_key() -> str:
    """A key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What of a key stands in the configuration."""
    return hashlib.sha256(key.encode()).hexdigest()


def needs_key(path: str) -> bool:
    """Whether a path can be asked for with a key alone."""
    return path not in OPEN and path != OWN_KEY and not path.startswith(f"{OWN_KEY}/")


def is_loopback(address: str) -> bool:
    """Whether an address that a socket is bound to is of this machine alone."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def check_reach(address: str, keys: Sequence[KeyConfig]) -> None:
    """Refuse to be reachable without keys.

    Raises:
        ConfigError: the address can be reached from other machines, and there is no key.
    """
    if not keys and not is_loopback(address):
        raise ConfigError(
            f"{address} can be reached from other machines, and server.keys is empty: anybody could use the models",
            hint="'benchai keys new NAME' makes a key; or listen on 127.0.0.1",
        )


class Allowance:
    """What one key may still do. Times are seconds of any clock that only goes forward."""

    __slots__ = ("_concurrent", "_limit", "_stamp", "_tokens", "active")

    def __init__(self, key: KeyConfig, now: float) -> None:
        self.active = 0
        self._concurrent = key.concurrent
        self._limit = key.requests_per_minute
        self._tokens = float(self._limit or 0)
        self._stamp = now

    def take(self, now: float) -> Reply | None:
        """Take a request and a place; give the place back when the request has ended. A refusal takes nothing."""
        if self._concurrent is not None and self.active >= self._concurrent:
            return _too_many(
                f"this key may have {self._concurrent} requests at a time", "concurrency_limit_exceeded", 1
            )
        if self._limit is not None:
            self._fill(now, self._limit)
            if self._tokens < 1:
                wait = (1 - self._tokens) * 60 / self._limit
                message = f"this key may send {self._limit} requests per minute; the next one in {wait:.1f} s"
                return _too_many(message, "rate_limit_exceeded", wait)
            self._tokens -= 1
        self.active += 1
        return None

    def give_back(self) -> None:
        """A request has ended."""
        self.active -= 1

    def headers(self) -> Headers:
        """What is left of the requests a minute, as OpenAI names it."""
        if self._limit is None:
            return []
        full = (self._limit - self._tokens) * 60 / self._limit
        return [
            (b"x-ratelimit-limit-requests", b"%d" % self._limit),
            (b"x-ratelimit-remaining-requests", b"%d" % self._tokens),
            (b"x-ratelimit-reset-requests", _duration(full)),
        ]

    def _fill(self, now: float, limit: int) -> None:
        self._tokens = min(limit, self._tokens + (now - self._stamp) * limit / 60)
        self._stamp = now


def _too_many(message: str, code: str, wait: float) -> Reply:
    return openai_error(429, message, type="requests", code=code, headers=[retry_after(wait)])


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: 120ms, 7s, 6m0s."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    whole = math.ceil(seconds)
    return b"%dm%ds" % divmod(whole, 60) if whole >= 60 else b"%ds" % whole


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what is left."""

    name: str
    allowance: Allowance


class Keyring:
    """The keys that are configured."""

    def __init__(self, keys: Sequence[KeyConfig], now: float, before: Keyring | None = None) -> None:
        """Take the keys; one that is in ``before``, unchanged, goes on with what is left of it there."""
        known: dict[KeyConfig, Caller] = before._callers if before else {}
        self._callers: dict[KeyConfig, Caller] = {
            key: known.get(key) or Caller(key.name, Allowance(key, now)) for key in keys
        }
        self._sums = [(bytes.fromhex(key.sha256), caller) for key, caller in self._callers.items()]

    def __bool__(self) -> bool:
        return bool(self._sums)

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller | None:
        """Who sent these headers (names in small letters); None for a wrong key, or none."""
        given = _given(headers)
        if not given:
            return None
        found, total = None, hashlib.sha256(given).digest()
        for known, caller in self._sums:
            # no early end: how long this takes must not tell which one it was
            if hmac.compare_digest(known, total):
                found = caller
        return found


def refusal(headers: Mapping[bytes, bytes]) -> Reply:
    """The answer to a wrong key, or to none."""
    if _given(headers):
        message, code = (
            "the API key is wrong; 'benchai keys list' on the server names those that are known",
            "invalid_api_key",
        )
    else:
        message, code = "an API key is needed; send it as 'Authorization: Bearer KEY'", "missing_api_key"
    return openai_error(401, message, code=code, headers=[_CHALLENGE])


def _given(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return next((headers[name].strip() for name in KEY_HEADERS if name in headers), b"")
