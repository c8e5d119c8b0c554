"""What a program in a sandbox may read, and the environment it gets."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchai.errors import ToolError

__all__ = ["clean_environment", "python_paths", "require_workspace", "system_paths"]

_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
# Not /etc as a whole: root would read the password hashes and private keys in it
_ETC = (
    "alternatives", "bash.bashrc", "debian_version", "fonts", "gitconfig", "group", "host.conf", "hosts", "inputrc",
    "java", "java-openjdk", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime",
    "magic", "mime.types", "nsswitch.conf", "os-release", "passwd", "profile", "protocols", "python3",
    "python3.11", "python3.12", "python3.13", "services", "shells", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
_OF_PREFIX = ("bin", "include", "lib", "lib64", "libexec", "pyvenv.cfg", "share")


def system_paths() -> list[str]:
    """Return the folders and files of the system that programs need, those that are there."""
    return _existing([*_FOLDERS, *(f"/etc/{name}" for name in _ETC)])


def python_paths() -> list[str]:
    """Return what our interpreter consists of: program, stdlib, packages; not the folder it stands in.

    A prefix may be the user's home, so only its well-known parts are named.
    """
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    parts = [os.path.join(prefix, part) for prefix in sorted(prefixes) for part in _OF_PREFIX]  # noqa: PTH118
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    program = [sys.executable, os.path.realpath(sys.executable)]
    return _existing([*parts, *named, *site.getsitepackages(), *program])


def clean_environment(temp: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of a program: nothing is inherited, so no key of an API either."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return {
        "PATH": path,
        "HOME": str(temp),
        "TMPDIR": str(temp),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        **(extra or {}),
    }


def require_workspace(workspace: Path, home: Path | None = None) -> Path:
    """Return the workspace resolved.

    Raises ToolError when it is no folder, or holds the home folder: it can be read as a whole, and so
    could the keys that lie there.
    """
    resolved = workspace.resolve()
    if not resolved.is_dir():
        raise ToolError(f"the workspace {str(workspace)!r} is not a folder")
    if (home or Path.home()).resolve().is_relative_to(resolved):
        raise ToolError(
            f"programs can't run in the workspace {str(resolved)!r}: it holds your home folder, which they could read",
            hint="choose a folder for the project as the workspace",
        )
    return resolved


def _existing(paths: Iterable[str]) -> list[str]:
    return [path for path in dict.fromkeys(paths) if path and Path(path).exists()]
