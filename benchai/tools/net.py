"""Requests to the public web, and to nothing else.

A model chooses the URL, so it could ask for what only this machine can reach: its own services, the local network, the
metadata service of a cloud. Therefore every address that a name resolves to must be allowed, and the connection goes to
one of the checked addresses: nothing is looked up twice, so a name cannot change its answer in between. TLS still
verifies the name. No proxy, no cookie and no environment variable has a say.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

import anyio
import anyio.to_thread
import httpcore
import httpx

from benchai.errors import ToolError
from benchai.tools.tool import shorten

__all__ = [
    "Access",
    "Address",
    "CheckedBackend",
    "Resolver",
    "exchange",
    "is_elsewhere",
    "is_public",
    "is_web_port",
    "parse_url",
    "redirected",
]

Address = IPv4Address | IPv6Address

MAX_URL = 4096  # characters
MAX_TRIES = 3  # addresses of one name
_TRY = 1.5  # seconds for an address while there are others

# The special-purpose registries of IANA, 2025: private, loopback, carrier-grade NAT (100.100.100.200 is Alibaba's
# metadata), link-local (169.254.169.254 is that of most clouds), documentation, 6to4 relays, benchmarks, multicast,
# reserved. 168.63.129.16 is what Azure tells its machines.
_SPECIAL_V4 = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
    192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
"""
# Outside 2000::/3 no IPv6 address is public: that leaves out loopback, link-local, site-local, unique local, multicast,
# IPv4-mapped and NAT64. Within: protocols such as Teredo, documentation, 6to4, documentation.
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
_SPECIAL = [ipaddress.ip_network(network) for network in f"{_SPECIAL_V4} {_SPECIAL_V6}".split()]
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"([0-9]+|0x[0-9a-f]*)")


class Resolver(Protocol):
    """Looks up a name; raises OSError when it has no address."""

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of `host`, best first."""
        ...


def is_public(address: Address) -> bool:
    """Whether IANA counts `address` to the public internet; addresses that wrap an IPv4 address never do."""
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return False
    return not any(address in network for network in _SPECIAL)


def is_elsewhere(address: Address) -> bool:
    """Whether `address` is public and on no network that this machine is on.

    With IPv6 the machine itself and its neighbours have public addresses, whatever the firewall in front of them says.
    """
    return is_public(address) and not any(address in network for network in own_networks())


def own_networks() -> list[IPv4Network | IPv6Network]:
    """Return the networks of this machine's interfaces."""
    import psutil

    families = {socket.AF_INET, socket.AF_INET6}
    entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries if entry.family in families]
    return [_network(entry.address.partition("%")[0], entry.netmask) for entry in entries]


def _network(address: str, netmask: str | None) -> IPv4Network | IPv6Network:
    bits = int(ipaddress.ip_address(netmask)).bit_count() if netmask else ipaddress.ip_address(address).max_prefixlen
    return ipaddress.ip_network(f"{address}/{bits}", strict=False)


def is_web_port(port: int) -> bool:
    """Whether web servers commonly use `port`: 80, 443, 8000 to 8999. Others would let a model knock at any service."""
    return port in {80, 443} or 8000 <= port <= 8999


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Look up `host` as the system does, in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@functools.cache
def public_tls() -> ssl.SSLContext:
    """Return the context that trusts the certificate authorities of certifi. Takes 20 ms the first time."""
    return httpx.create_ssl_context(trust_env=False)


@dataclass(frozen=True)
class Access:
    """What may be reached, and at what cost. Times are in seconds.

    `total` bounds a whole fetch, `connect` looking up and connecting, `idle` the wait for the next bytes; `size` is
    the most bytes of a decoded body. `who` asks, as messages name it. Only tests, and what the user has allowed in
    benchai.yaml, pass another `allowed`, `ports`, `resolve` or `tls`.
    """

    allowed: Callable[[Address], bool] = is_elsewhere
    ports: Callable[[int], bool] = is_web_port
    resolve: Resolver = system_resolver
    tls: Callable[[], ssl.SSLContext] = public_tls
    total: float = 20.0
    connect: float = 5.0
    idle: float = 10.0
    size: int = 2 * 1024**2
    who: str = "web_fetch"


def parse_url(text: str, access: Access) -> httpx.URL:
    """Return a URL that may be asked for as far as can be told without looking it up, its fragment left out.

    Raises ToolError when it is none, or its scheme, credentials, port or literal address are not allowed.
    """
    text = text.strip()
    if len(text) > MAX_URL:
        raise ToolError(f"{shorten(text)} is longer than {MAX_URL} characters")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise ToolError(f"{shorten(text)} is no URL: {shorten(str(error))}") from error
    if url.scheme not in {"http", "https"}:
        hint = f"write {shorten('https://' + text)}" if "://" not in text and "." in text else None
        raise ToolError(f"{shorten(text)} starts with neither http:// nor https://", hint=hint)
    if url.userinfo:
        raise ToolError(f"the URL carries a user name or password, which {access.who} does not send")
    port = url.port if url.port is not None else {"http": 80, "https": 443}[url.scheme]
    if not access.ports(port):
        raise ToolError(f"port {port} of {shorten(text)} is refused", hint="valid ports: 80, 443, 8000 to 8999")
    return url.copy_with(host=_checked_host(url, access), fragment=None)


def redirected(url: httpx.URL, location: str, access: Access) -> httpx.URL:
    """Return where a redirect leads. Raises ToolError as `parse_url` does, and when it leaves https."""
    try:
        target = parse_url(str(url.join(location)), access)
    except (httpx.InvalidURL, ValueError) as error:
        raise ToolError(f"{shown(url)} redirects to {shorten(location)}, which is no URL") from error
    if url.scheme == "https" and target.scheme == "http":
        raise ToolError(f"{shown(url)} redirects to {shown(target)}, which is not encrypted")
    return target


def shown(url: httpx.URL) -> str:
    """Return a URL as it stands in messages."""
    return shorten(str(url), 200)


def _checked_host(url: httpx.URL, access: Access) -> str:
    # the ASCII form: what `url.host` shows of an international name cannot always be encoded again
    host = url.raw_host.decode("ascii").removesuffix(".")
    address = _literal(host)
    if address is not None:
        _permit([address], host, access)
    elif _NUMBER.fullmatch(host.rpartition(".")[2]):
        # 2130706433, 0x7f.1 and 127.1 are 127.0.0.1 to the system
        raise ToolError(f"host {shorten(host)} is neither a name nor an IPv4 address of four decimal parts")
    elif len(host) > 253 or not _NAME.fullmatch(host):
        raise ToolError(f"host {shorten(host)} of {shown(url)} is no valid name")
    return host


def _literal(host: str) -> Address | None:
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _permit(addresses: Iterable[Address], host: str, access: Access) -> None:
    for address in addresses:
        if not access.allowed(address):
            raise ToolError(f"{shorten(host)} leads to {address}; {access.who} reaches only the public internet")


@asynccontextmanager
async def exchange(url: httpx.URL, access: Access) -> AsyncIterator[httpcore.Response]:
    """GET a URL from `parse_url` over a connection of its own; the body is still to be read. Follows no redirect.

    Raises ToolError when an address is not allowed, and when connecting or reading fails, also within the block.
    h11 bounds the header lines (100 KiB).
    """
    backend = CheckedBackend(access)
    tls = await anyio.to_thread.run_sync(access.tls) if url.scheme == "https" else None
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    times = {"connect": access.connect, "read": access.idle, "write": access.idle}
    connection = httpcore.AsyncHTTPConnection(target.origin, ssl_context=tls, network_backend=backend)
    try:
        async with connection.stream("GET", target, headers=_headers(url), extensions={"timeout": times}) as response:
            yield response
    except httpcore.TimeoutException as error:
        raise ToolError(f"{shown(url)} does not answer", hint="try again later, or another page") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise ToolError(f"{shown(url)} cannot be fetched: {shorten(str(error), 200)}") from error
    finally:
        await backend.aclose()


def _headers(url: httpx.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"User-Agent", b"BenchAI (web_fetch)"),
        (b"Accept", b"text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,*/*;q=0.1"),
        # of these zlib can stop in the middle of a bomb
        (b"Accept-Encoding", b"gzip, deflate"),
        (b"Connection", b"close"),
    ]


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Looks names up, checks each address, and connects to a checked one."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._plain = httpcore.AnyIOBackend()
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the host's addresses; raises ToolError when one of them is not allowed."""
        try:
            with anyio.fail_after(timeout):
                addresses = await self._look_up(host, port)
                _permit(addresses, host, self._access)
                stream = await self._connect(_best(addresses), port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection to {host!r} within {timeout} s") from error
        self._opened.append(stream)
        return stream

    async def aclose(self) -> None:
        """Close what was opened: httpcore forgets a connection that is cancelled during the handshake."""
        with anyio.CancelScope(shield=True):
            for stream in self._opened:
                await stream.aclose()

    async def _look_up(self, host: str, port: int) -> list[Address]:
        literal = _literal(host)
        if literal is not None:
            return [literal]
        try:
            found = await self._access.resolve(host, port)
            addresses = [ipaddress.ip_address(address) for address in found]
        except (OSError, ValueError) as error:
            raise ToolError(f"host {shorten(host)} has no address", hint="check the name") from error
        if not addresses:
            raise ToolError(f"host {shorten(host)} has no address", hint="check the name")
        return list(dict.fromkeys(addresses))

    async def _connect(self, addresses: Sequence[Address], port: int) -> httpcore.AsyncNetworkStream:
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._plain.connect_tcp(str(address), port, timeout=_TRY)
        return await self._plain.connect_tcp(str(addresses[-1]), port)


def _best(addresses: Sequence[Address]) -> list[Address]:
    """Return the first few addresses, the first one of the other family second."""
    other = [address for address in addresses if address.version != addresses[0].version][:1]
    return list(dict.fromkeys([addresses[0], *other, *addresses]))[:MAX_TRIES]
