"""How a model's reply names files and holds them: edit blocks, and whole files in fences.

`parse` reads them and raises rather than return half of a file; `render` writes them so that they are read back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchai.errors import ToolError
from benchai.tools.edits import Edit

__all__ = ["WholeFile", "parse", "render"]

_HEAD = re.compile(r"(<{5,9}) ?SEARCH>?")
_DIVIDER = re.compile(r"(={5,9})")
_TAIL = re.compile(r"(>{5,9}) ?REPLACE")
_LEADING = re.compile(r"#+\s*|//+\s*|<!--\s*|/\*+\s*|--\s+|;+\s*|%+\s*|[-+>]\s+|\d{1,3}[.)]\s+|\*+\s*")
_LABEL = re.compile(r"(?:file|path|file ?name|file ?path)\s*[:=]\s*", re.IGNORECASE)
_COMMENT = ("#", "//", "<!--", "/*", "--", ";", "%")
_NAME = re.compile(r"[^\s`*?\"'<>|:()!,=][^`*?\"<>|:()]*")
_SUFFIX = re.compile(r"\.(?!\d+$)[\w+-]{1,12}$")
_KNOWN = frozenset({"Makefile", "Dockerfile", "Containerfile", "Procfile", "LICENSE", "README", "CHANGELOG"})
_PROSE = frozenset({"markdown", "md", "text", "txt", "rst"})
_DIFFS = frozenset({"diff", "patch"})
_LONGEST_PATH = 300


@dataclass(frozen=True)
class WholeFile:
    """A fenced block of a reply: all the text of a file, whose `path` is None when the reply names none."""

    path: str | None
    text: str
    language: str = ""


@dataclass(frozen=True)
class _Fence:
    """A line of backticks or tildes, with what follows them on it."""

    indent: int
    mark: str
    info: str

    def closes(self, opened: _Fence) -> bool:
        return not self.info and self.mark[0] == opened.mark[0] and len(self.mark) >= len(opened.mark)

    def nests_in(self, opened: _Fence) -> bool:
        # A line such as ```python in a fence can only open an inner one
        return bool(self.info) and self.mark[0] == opened.mark[0] and len(self.mark) >= len(opened.mark)


def parse(reply: str) -> list[Edit | WholeFile]:
    """Return the edit blocks and the fenced blocks of a model's reply, in their order.

    Edits have their texts with a line end on each line. A fence gets its path from its info string, from the
    line before it or from a comment in its first line, which stays in the text; a fence of a diff gets none.
    Raises ToolError when a fence or a block is not closed (the reply was cut off), when a block has no divider
    or no path, and when a fence of code holds edit blocks somewhere below its first lines.
    """
    return _Reader(reply.replace("\r\n", "\n").split("\n")).read()


def render(item: Edit | WholeFile) -> str:
    """Write an item as `parse` reads it; a text without a line end at its end gets one.

    Raises ValueError when the item cannot be written so that it is read back.
    """
    path = "" if item.path is None else _rendered_path(item.path)
    if isinstance(item, WholeFile):
        if any(_HEAD.fullmatch(line.strip()) for line in item.text.split("\n")):
            raise ValueError(f"the text of {item.path!r} contains heads of search blocks")
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", item.text)), 3)
        return f"{path}{fence}{item.language}\n{_closed(item.text)}{fence}\n"
    texts = (_closed(item.search), _closed(item.replace))
    sizes = (7, 6, 8, 5, 9)
    size = next((n for n in sizes if not any(_uses(text, n) for text in texts)), None)
    if size is None:
        raise ValueError(f"the edit of {item.path!r} contains markers of every length")
    return f"{path}{'<' * size} SEARCH\n{texts[0]}{'=' * size}\n{texts[1]}{'>' * size} REPLACE\n"


def _rendered_path(path: str) -> str:
    for written in (path, f"`{path}`", f"`./{path}`"):
        if _path_in(written) == path:
            return f"{written}\n"
    raise ValueError(f"{path!r} cannot be written as the path of a block")


def _closed(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"


def _uses(text: str, size: int) -> bool:
    return any(len(mark) == size for mark in re.findall(r"^[^\S\n]*(<+|=+|>+)", text, re.MULTILINE))


class _Reader:
    """Reads a reply from the first line to the last; `above` is the path that the line before named."""

    def __init__(self, lines: list[str]) -> None:
        self.lines, self.at = lines, 0
        self.items: list[Edit | WholeFile] = []
        self.above: str | None = None
        self.path: str | None = None
        self.around: _Fence | None = None

    def read(self) -> list[Edit | WholeFile]:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            fence = _fence(line)
            if _HEAD.fullmatch(line.strip()):
                self._block()
            elif fence is not None:
                self._fenced(fence)
            else:
                self.above = _path_in(line) if line.strip() else self.above
                self.at += 1
        return self.items

    def _fenced(self, fence: _Fence) -> None:
        if self.around is not None and fence.closes(self.around):
            self.around, self.above = None, None
            self.at += 1
        elif self._holds_blocks():
            self.around = fence
            self.above = _info(fence.info)[1] or self.above
            self.at += 1
        else:
            self._whole(fence)

    def _holds_blocks(self) -> bool:
        ahead = (line.strip() for line in self.lines[self.at + 1 : self.at + 8])
        first = [line for line in ahead if line][:2]
        if len(first) == 2 and not _HEAD.fullmatch(first[0]):
            return bool(_HEAD.fullmatch(first[1])) and _path_in(first[0]) is not None
        return bool(first and _HEAD.fullmatch(first[0]))

    def _whole(self, fence: _Fence) -> None:
        opened = self.at
        body = self._body(fence)
        language, path = _info(fence.info)
        path = path or self.above or (_path_in(body[0]) if body and body[0].startswith(_COMMENT) else None)
        if language.lower() in _DIFFS and not (path or "").endswith((".diff", ".patch")):
            path = None
        if language.lower() not in _PROSE and any(_HEAD.fullmatch(line.rstrip()) for line in body):
            raise ToolError(
                f"the fence at line {opened + 1} of the reply mixes code with search blocks",
                hint="put nothing but search blocks, or nothing but a whole file, into a fence",
            )
        self.items.append(WholeFile(path, "".join(f"{line}\n" for line in body), language))
        self.above = self.around = None

    def _body(self, fence: _Fence) -> list[str]:
        open_fences, opened = [fence], self.at
        for number in range(opened + 1, len(self.lines)):
            inner = _fence(self.lines[number])
            if inner is not None and inner.closes(open_fences[-1]):
                open_fences.pop()
            elif inner is not None and inner.nests_in(open_fences[-1]):
                open_fences.append(inner)
            if not open_fences:
                self.at = number + 1
                return [_dedented(line, fence.indent) for line in self.lines[opened + 1 : number]]
        raise _cut(opened, "fence", fence.mark)

    def _block(self) -> None:
        opened = self.at
        head = self.lines[opened]
        size = head.strip().count("<")
        closed = self._tail(size)
        indent = len(head) - len(head.lstrip())
        body = [_dedented(line, indent) for line in self.lines[opened + 1 : closed]]
        middle = _divider(body, size)
        if middle is None:
            raise ToolError(f"the search block at line {opened + 1} of the reply has no line {'=' * size!r}")
        self.path = self.above or self.path
        if self.path is None:
            raise ToolError(
                f"the search block at line {opened + 1} of the reply has no path",
                hint="write the path of the file on the line before the block",
            )
        search, replace = ("".join(f"{line}\n" for line in part) for part in (body[:middle], body[middle + 1 :]))
        self.items.append(Edit(self.path, search, replace))
        self.above, self.at = None, closed + 1

    def _tail(self, size: int) -> int:
        """The line that closes a block: one with as many marks as its head, else any before the next head."""
        other, nested = None, False
        for number in range(self.at + 1, len(self.lines)):
            line = self.lines[number].strip()
            if line[:1] == ">" and (tail := _TAIL.fullmatch(line)):
                if len(tail[1]) == size:
                    return number
                other = number if other is None and not nested else other
            elif line[:1] == "<" and (head := _HEAD.fullmatch(line)):
                nested = True
                if len(head[1]) == size:
                    break
        if other is None:
            raise _cut(self.at, "search block", f"{'>' * size} REPLACE")
        return other


def _cut(opened: int, what: str, mark: str) -> ToolError:
    return ToolError(
        f"the {what} that opens at line {opened + 1} of the reply is never closed by {mark!r}",
        hint="if the reply was cut off, make the same change in several smaller blocks",
    )


def _divider(body: list[str], size: int) -> int | None:
    """The line between search and replace, told from underlines of headings and from merge conflicts."""
    found = [number for number, line in enumerate(body) if _DIVIDER.fullmatch(line.rstrip())]
    found = [number for number in found if len(body[number].rstrip()) == size] or found
    if len(found) > 1:
        conflicts = _conflicts(body)
        found = [number for number in found if number not in conflicts] or found
    if len(found) > 1:
        found = [number for number in found if not _underlines(body, number)] or found[len(found) // 2 :]
    return found[0] if found else None


def _conflicts(body: list[str]) -> set[int]:
    """The lines within merge conflicts."""
    inside: set[int] = set()
    opened: int | None = None
    for number, line in enumerate(body):
        if line.startswith("<<<<<<< "):
            opened = number
        elif line.startswith(">>>>>>> ") and opened is not None:
            inside.update(range(opened, number))
            opened = None
    return inside


def _underlines(body: list[str], number: int) -> bool:
    above = body[number - 1].strip() if number else ""
    return bool(above.strip("=")) and abs(len(above) - len(body[number].rstrip())) <= 2


def _fence(line: str) -> _Fence | None:
    text = line.strip()
    mark = text[: len(text) - len(text.lstrip(text[:1]))] if text[:1] in {"`", "~"} else ""
    info = text[len(mark) :].strip()
    if len(mark) < 3 or "`" in info:
        return None
    return _Fence(len(line) - len(line.lstrip()), mark, info)


def _dedented(line: str, indent: int) -> str:
    return line[min(indent, len(line) - len(line.lstrip())) :] if indent else line


def _info(info: str) -> tuple[str, str | None]:
    """Language and path of an info string: `python`, `python src/a.py`, `python:src/a.py`, `src/a.py`."""
    words = info[: 2 * _LONGEST_PATH].replace("{.", " ").replace("{", " ").replace("}", " ").split()
    for number, word in enumerate(words):
        key, is_pair, value = word.partition("=")
        named = value if is_pair and key.lower() in {"title", "file", "filename", "path", "name"} else word
        language, is_pair, rest = named.partition(":")
        if is_pair and (path := _as_path(rest)):
            return words[0] if number else language, path
        if path := _as_path(named.strip("\"'`")):
            return words[0] if number else "", path
    return (words[0] if words else ""), None


def _path_in(line: str) -> str | None:
    """The path that a line consists of, but for marks around it such as `**`, backticks, `File:` and `:`."""
    text = line.strip()
    if len(text) > _LONGEST_PATH:
        return None
    sure, before = False, None
    while text != before and not sure:
        before = text
        text = text.removesuffix("-->").removesuffix("*/").strip().rstrip(":").rstrip("*").strip()
        if len(text) > 2 and text[0] == text[-1] and text[0] in "`\"'":
            sure, text = True, text[1:-1]
        elif label := _LABEL.match(text):
            text = text[label.end() :]
        elif leading := _LEADING.match(text):
            text = text[leading.end() :]
    return _as_path(text, sure)


def _as_path(text: str, sure: bool = False) -> str | None:
    """`text` if it looks like a path; when `sure`, blanks in it and folders alone do not speak against it."""
    if not _NAME.fullmatch(text) or (not sure and len(text.split()) != 1):
        return None
    named = _SUFFIX.search(text) or text.rsplit("/", 1)[-1] in _KNOWN or (sure and "/" in text)
    return text.removeprefix("./") if named and not text.endswith("/") else None
