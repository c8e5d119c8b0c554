"""What a browser may be made to ask for by a web page: names of this server (DNS rebinding), and origins (CORS)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from benchai.config.server import CorsConfig
from benchai.server.openai.errors import Headers, Reply, openai_error

LOCAL = ("localhost", "127.0.0.1", "[::1]")
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
#: Response headers that pages may read; a page that sends credentials may not be told "*".
EXPOSED = (
    b"x-request-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    b"x-ratelimit-reset-requests, x-benchai-id, x-benchai-role, x-benchai-model, x-benchai-score, x-benchai-reason, "
    b"x-benchai-cache, x-benchai-queue-ms, x-benchai-swap-ms, x-benchai-session"
)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,2000}")


class HostCheck:
    """Whether a Host header names this server.

    A server on loopback knows its own names and those configured. One that others can reach is known by any address,
    and by any name unless some are configured: keys protect it.
    """

    def __init__(self, address: str, names: list[str], loopback: bool) -> None:
        """Take the address that the server is bound to, and further names for it."""
        bound = f"[{address}]" if ":" in address else address
        self._names = frozenset(name.lower().encode() for name in (*LOCAL, bound, *names))
        self._any = "*" in names or not (loopback or names)
        self._addresses = not loopback

    def knows(self, host: bytes) -> bool:
        """Whether the name in a Host header, with or without a port, is this server's."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].lower()
        return self._any or name in self._names or (self._addresses and _is_address(name))


def _is_address(name: bytes) -> bool:
    """No page can make a browser take an address for one of its own names."""
    try:
        ipaddress.ip_address(name.decode().strip("[]"))
    except ValueError:
        return False
    return True


def wrong_host(host: bytes) -> Reply:
    """The answer to a request for another name."""
    shown = host[:100].decode("ascii", "backslashreplace")
    message = f"the host {shown!r} is not this server; a name that it should answer to goes into server.hosts"
    return openai_error(403, message, code="host_not_allowed")


class Cors:
    """Which origins may ask, and what browsers are told."""

    def __init__(self, settings: CorsConfig) -> None:
        self._origins = frozenset(origin.encode() for origin in settings.origins)
        self._any = b"*" in self._origins
        self._credentials = settings.credentials
        self._max_age = b"%d" % settings.max_age

    def allows(self, origin: bytes) -> bool:
        """Whether pages of an origin may read what they ask for."""
        return self._any or origin in self._origins

    def refuses(self, origin: bytes, host: bytes) -> bool:
        """Whether a request comes from a web page that may not ask: a browser sends simple ones without asking first.

        Programs with an origin of another kind (vscode-webview://, app://) are no web pages.
        """
        if self.allows(origin) or origin in (b"http://" + host, b"https://" + host):
            return False
        return origin.startswith((b"http://", b"https://")) or b"://" not in origin

    def headers(self, origin: bytes) -> Headers:
        """What makes a browser hand a response to a page of an origin that is allowed."""
        shown = origin if self._origins - {b"*"} or self._credentials else b"*"
        headers = [
            (b"access-control-allow-origin", shown),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"Origin"),
        ]
        return [*headers, (b"access-control-allow-credentials", b"true")] if self._credentials else headers

    def preflight(self, headers: Mapping[bytes, bytes]) -> Reply:
        """The answer to a browser that asks whether it may ask."""
        wanted = headers.get(b"access-control-request-headers", b"")
        allowed = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", self._max_age)]
        if _NAMES.fullmatch(wanted):
            allowed.append((b"access-control-allow-headers", wanted))
        return 204, allowed, b""


def wrong_origin(origin: bytes) -> Reply:
    """The answer to a web page of another origin."""
    shown = origin[:100].decode("ascii", "backslashreplace")
    message = f"web pages of {shown!r} may not ask this server; an origin that may goes into server.cors.origins"
    return openai_error(403, message, code="origin_not_allowed")
