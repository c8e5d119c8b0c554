"""What of a folder is passed over: by .gitignore files, by well-known names, and because a name tells of a secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_FOLDERS = """
    .git .hg .svn .bzr node_modules bower_components __pycache__ .venv venv .virtualenv site-packages .tox .nox .eggs
    .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache .ipynb_checkpoints .gradle .idea .vs .terraform
    .next .nuxt .svelte-kit .parcel-cache .obsidian .trash .Trash $RECYCLE.BIN .stversions .stfolder
"""
#: Folders that hold what programs made for themselves.
FOLDERS = frozenset(_FOLDERS.split())
_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".gitignore", ".gitattributes", ".gitkeep"})
_LITTER = re.compile(r".*~|\..*\.sw[a-p]|~\$.*|\.#.*|#.*#")  # of editors, beside what they edit
_SECRET = re.compile(
    r"\.env(\..*)?|\.?(netrc|pgpass|htpasswd|npmrc|pypirc)|id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|key|p12|pfx|jks|kdbx|keystore)"
    r"|credentials(\.json)?|.*\.tfstate(\.backup)?",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r".*(example|sample|template|dist)$", re.IGNORECASE)
_LONGEST = 1 << 20  # bytes of a .gitignore
_SECRETS = frozenset({".ssh", ".gnupg", ".aws", ".kube"})


class Rules(NamedTuple):
    """The patterns of one .gitignore.

    Attributes:
        folder: That they are about, from the root that is read: "" or with a slash at its end; where it lies above
            the root, ``../`` and the way from it down to the root.
    """

    folder: str
    patterns: GitIgnoreSpec


def rules_of(folder: Path, prefix: str) -> Rules | None:
    """Those of a folder; None where it has none.

    Args:
        folder: That may have a .gitignore.
        prefix: As in `Rules`.

    Raises:
        OSError: the file can't be read.
    """
    from pathspec import GitIgnoreSpec

    try:
        with (folder / ".gitignore").open("rb") as file:
            lines = file.read(_LONGEST).decode("utf-8", "replace").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return None
    return Rules(prefix, GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line)))


def _is_pattern(line: str) -> bool:
    """Git passes over what is none."""
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def above(root: Path) -> list[Rules]:
    """Those of the folders above one, up to the root of its working tree; none where it is in no such tree.

    Whoever names a folder that is ignored wants it: then none.
    """
    found: list[Rules] = []
    for folder in reversed(_parents(root)):
        try:
            rules = rules_of(folder, f"../{root.relative_to(folder).as_posix()}/")
        except OSError:
            continue
        if rules is not None:
            found.append(rules)
    return [] if ignored("", found) else found


def _parents(root: Path) -> list[Path]:
    """The folders above one up to the one with .git, which may be the folder itself."""
    folders = [root, *root.parents]
    top = next((number for number, folder in enumerate(folders) if (folder / ".git").exists()), 0)
    return folders[1 : top + 1]


def ignored(path: str, rules: list[Rules]) -> bool:
    """Whether the patterns leave a path out; those of the innermost folder count first.

    Args:
        path: From the root that is read, with a slash at the end of a folder.
        rules: Of the folders above it, from the outside in.
    """
    for one in reversed(rules):
        inner = f"{one.folder[3:]}{path}" if one.folder.startswith("../") else path[len(one.folder) :]
        said = one.patterns.check_file(inner).include
        if said is not None:
            return said
    return False


def is_litter(name: str) -> bool:
    """Whether a file of this name was made by a program for itself."""
    return name in _FILES or _LITTER.fullmatch(name) is not None


def is_secret(name: str, folder: bool = False) -> bool:
    """Whether a name is that of keys or passwords."""
    if folder:
        return name in _SECRETS
    return _SECRET.fullmatch(name) is not None and not _EXAMPLE.fullmatch(name)
