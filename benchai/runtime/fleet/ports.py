"""Who listens where: asked of the operating system, never guessed from an answer."""

from __future__ import annotations

import errno
import socket

import psutil


def listening_port(pid: int, wanted: int) -> int | None:
    """The TCP port that process ``pid`` itself listens on; ``wanted`` 0 means any. None: not (yet)."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return None
    ports = [one.laddr.port for one in connections if one.laddr and one.status == psutil.CONN_LISTEN]
    return next((port for port in ports if wanted in (0, port)), None)


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
