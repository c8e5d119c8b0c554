"""A large corpus of real text without a download: the manual pages and the Python sources of this machine, cut up."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from benchai.memory.types import Document, Piece

MANUALS = (Path("/usr/share/man"), Path("/usr/local/share/man"))
WORDS, LEAST = 110, 12
_ESCAPE = re.compile(r"\\(?:f[BIRP1-4]|f\[\w*\]|s[+-]?\d|\((?:co|aq|dq|bu|em|en)|[&|^/,])")
_CHARACTER = {r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\e": "\\", r"\ ": " "}


def documents(chunks: int) -> Iterator[Document]:
    """Documents until they hold so many chunks together: manuals and sources in turns, all of it known in its order."""
    left = chunks
    readers = [_manuals(), _sources()]
    while readers and left > 0:
        for reader in list(readers):
            found = next(reader, None)
            if found is None:
                readers.remove(reader)
            elif left > 0 and found.pieces:
                kept = found.pieces[:left]
                left -= len(kept)
                yield found.model_copy(update={"pieces": kept})


def _document(source: str, title: str, media: str, pieces: list[Piece]) -> Document:
    return Document(source=source, title=title, media=media, hash=source, size=1, pieces=tuple(pieces))


def _manuals() -> Iterator[Document]:
    folders = [folder / f"man{number}" for folder in MANUALS for number in range(1, 9)]
    files = sorted(entry.path for folder in folders if folder.is_dir() for entry in os.scandir(folder))
    random.Random(0).shuffle(files)
    for file in map(Path, files):
        try:
            raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        except (OSError, EOFError):
            continue
        text = raw.decode("utf-8", "replace")
        if not text.startswith(".so "):
            name = file.name.removesuffix(".gz")
            yield _document(str(file), name.rpartition(".")[0], "text", list(_sections(text)))


def _sections(text: str) -> Iterator[Piece]:
    for part in re.split(r"^\.S[Hh]\b", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        lines = (_plain(line) for line in body.splitlines() if not line.startswith(('.\\"', "'\\\"", ".de", ".ds")))
        yield from _cut(" ".join(line for line in lines if line), heading.strip(' "'))


def _plain(line: str) -> str:
    if line.startswith((".", "'")):
        line = line.partition(" ")[2].replace('"', "")
    for escape, character in _CHARACTER.items():
        line = line.replace(escape, character)
    return _ESCAPE.sub("", line).strip()


def _sources() -> Iterator[Document]:
    paths = sysconfig.get_paths()
    for file in itertools.chain(_python_files(paths["stdlib"]), _python_files(paths["purelib"])):
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if "/lib2to3/tests/" not in file.as_posix():
            yield _document(str(file), file.stem, "code", list(_functions(text)))


def _python_files(folder: str) -> Iterator[Path]:
    # one folder after the other: a small corpus needs few of them
    for path, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(path) / name for name in sorted(files) if name.endswith(".py"))


def _functions(text: str) -> Iterator[Piece]:
    for part in re.split(r"^(?=\s{0,4}(?:async def|def|class) )", text, flags=re.MULTILINE):
        found = re.match(r"\s*(?:async def|def|class) (\w+)", part)
        yield from _cut(part, found.group(1) if found else "")


def _cut(text: str, heading: str) -> Iterator[Piece]:
    words = re.findall(r"\S+\s*", text)
    for begin in range(0, len(words), WORDS):
        part = words[begin : begin + WORDS]
        if len(part) >= LEAST:
            yield Piece(text="".join(part).strip(), heading=heading)
