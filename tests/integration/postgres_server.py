"""A PostgreSQL server for the tests: its own user where we are root, a Unix socket, no port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PASSWORD = "open sesame/@:%"
SETTINGS = {
    "listen_addresses": "''",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
}
# who may come without a password, and who may not
ACCESS = "local all guarded scram-sha-256\nlocal all all trust\n"


def programs() -> Path | None:
    """The folder of the server's programs: on PATH, or where Debian keeps them."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(on_path).resolve().parent if on_path else found[-1].parent if found else None


@contextmanager
def running_server(bin_folder: Path) -> Iterator[Path]:
    """A server under way; yields the folder of its socket."""
    # a short path that another user can reach: sockets take 107 characters
    folder = Path(tempfile.mkdtemp(prefix="benchai-pg-", dir="/tmp"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def call(program: str, *args: str) -> None:
        argv = [str(bin_folder / program), "-D", str(folder / "data"), *args]
        with (folder / "out.txt").open("ab") as out:
            done = subprocess.run(
                argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, timeout=60, **who
            )
        assert done.returncode == 0, (folder / "out.txt").read_text()

    try:
        call("initdb", "-U", "benchai", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync")
        (folder / "data" / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
        settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        call("pg_ctl", "start", "-w", "-l", str(folder / "log.txt"), "-o", f"{settings} -k {folder}")
        try:
            yield folder
        finally:
            call("pg_ctl", "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def url_of(folder: Path, database: str, user: str = "benchai") -> str:
    return f"postgresql://{user}@/{database}?host={folder}"


def ask(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement on a connection of its own."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []
