"""Who listens where: asked of the operating system, never guessed from an answer."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

LISTEN = "0A"
ROW_BYTES = 150


def listening_port(pid: int, wanted: int) -> int | None:
    """The TCP port that process ``pid`` itself listens on; ``wanted`` 0 means any. None: not (yet)."""
    ports = _by_inode(pid) if sys.platform == "linux" else _by_psutil(pid)
    return next((port for port in ports if wanted in (0, port)), None)


def _by_psutil(pid: int) -> list[int]:
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return []
    return [one.laddr.port for one in connections if one.laddr and one.status == psutil.CONN_LISTEN]


def _by_inode(pid: int) -> Iterator[int]:
    """The ports of a process, as soon as they are found.

    The kernel lists the sockets that listen first. Whoever reads on makes it look through all others, which takes
    10 ms and more, however few they are.
    """
    with contextlib.suppress(OSError):
        inodes = {target[8:-1] for target in _targets(Path(f"/proc/{pid}/fd")) if target.startswith("socket:[")}
        for kind in ("tcp", "tcp6"):
            yield from (port for inode, port in _listening(Path(f"/proc/{pid}/net/{kind}")) if inode in inodes)


def _targets(folder: Path) -> Iterator[str]:
    for link in folder.iterdir():
        # one that is closed meanwhile is no listener
        with contextlib.suppress(OSError):
            yield str(link.readlink())


def _listening(table: Path) -> Iterator[tuple[str, int]]:
    """Inode and port of every socket that listens."""
    with table.open("rb", buffering=0) as opened:
        rest = b""
        while piece := opened.read(ROW_BYTES):
            *rows, rest = (rest + piece).split(b"\n")
            for fields in (row.decode("ascii").split() for row in rows):
                if fields[3] == LISTEN:
                    yield fields[9], int(fields[1].rpartition(":")[2], 16)
                elif fields[0] != "sl":  # the table's head
                    return


def port_owner(host: str, port: int) -> str | None:
    """Words for who listens on a port, or None if it is free.

    Raises:
        OSError: the address cannot be listened on at all.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # as servers do: a connection in TIME_WAIT does not make a port taken
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return _owner_of(port)
    return None


def _owner_of(port: int) -> str:
    try:
        listeners = [one for one in psutil.net_connections("tcp") if one.laddr and one.status == psutil.CONN_LISTEN]
        pid = next((one.pid for one in listeners if one.laddr and one.laddr.port == port and one.pid), None)
        return f"{psutil.Process(pid).name()!r} (pid {pid})" if pid else "another process"
    except psutil.Error:
        return "another process"
