"""Code: a section for each function, class and method, and for what lies between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from benchai.memory.loaders.base import Raw
from benchai.memory.loaders.decode import text_of
from benchai.memory.loaders.languages import BODIES, SYNTAXES, bound, name_of, parser_of
from benchai.memory.loaders.markdown import line_starts
from benchai.memory.sections import Loaded, Section, line_of

if TYPE_CHECKING:
    from tree_sitter import Node

_PARSED = 1 << 19  # bytes: code that is made to be hard takes 3 KB of memory for each of them
_DEEPEST = 8  # classes within classes
_AHEAD = frozenset({"attribute_item", "decorator"})  # written before what they are about
_WORD = re.compile(r"\w")

#: Suffix -> language, of those with a grammar and of those that are cut before lines that begin a definition.
LANGUAGES = {
    **dict.fromkeys((".py", ".pyi", ".pyw"), "python"),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), "javascript"),
    **dict.fromkeys((".ts", ".mts", ".cts"), "typescript"),
    ".tsx": "tsx",
    ".go": "go",
    ".rs": "rust",
    **dict.fromkeys((".c", ".h"), "c"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".cu", ".cuh"), "cpp"),
    ".java": "java",
    **dict.fromkeys((".kt", ".kts"), "kotlin"),
    ".php": "php",
    ".proto": "proto",
    ".r": "r",
    ".rb": "ruby",
    **dict.fromkeys((".scala", ".sc"), "scala"),
    ".swift": "swift",
    ".sol": "sol",
    ".cs": "csharp",
    **dict.fromkeys((".cob", ".cbl"), "cobol"),
    ".lua": "lua",
    **dict.fromkeys((".pl", ".pm"), "perl"),
    ".hs": "haskell",
    **dict.fromkeys((".ex", ".exs"), "elixir"),
    **dict.fromkeys((".ps1", ".psm1"), "powershell"),
    ".vb": "visualbasic6",
    **dict.fromkeys((".sh", ".bash", ".zsh", ".fish"), "shell"),
    **dict.fromkeys((".vue", ".svelte", ".dart", ".zig", ".nim", ".jl", ".clj", ".erl", ".ml", ".fs", ".m", ".mm"), ""),
}


class _Span(NamedTuple):
    """Lines, from 0, both within it."""

    first: int
    last: int
    heading: str


def load(raw: Raw) -> Loaded:
    """Read code.

    Raises:
        SourceError: it is no text.
    """
    text, notice = text_of(raw.data, raw.source, raw.charset)
    language = LANGUAGES.get(raw.suffix, "")
    data = text.encode("utf-8", "replace")
    parsed = language in SYNTAXES and len(data) <= _PARSED
    spans = _by_syntax(data, language) if parsed else _by_lines(text, language)
    loaded = Loaded(text, "code", list(_sections(text, spans)))
    loaded.meta |= {"language": language} if language else {}
    loaded.meta |= {"notice": notice} if notice else {}
    return loaded


def _by_syntax(data: bytes, language: str) -> list[_Span]:
    tree = parser_of(language).parse(data)
    return list(_spans(tree.root_node, language, ""))


def _spans(parent: Node, language: str, path: str, depth: int = 0) -> Iterator[_Span]:
    above: list[Node] = []  # comments and attributes, one directly below the other
    for node in parent.children:
        if above and node.start_point.row > above[-1].end_point.row + 1:
            above = []
        if "comment" in node.type or node.type in _AHEAD:
            above.append(node)
            continue
        first = (above[0] if above else node).start_point.row
        above = []
        yield from _defined(node, language, path, first, depth)


def _defined(node: Node, language: str, path: str, first: int, depth: int) -> Iterator[_Span]:
    syntax = SYNTAXES[language]
    inner = _within(node, language)
    if inner is None:
        return
    name = ".".join(part for part in (path, name_of(inner)) if part)
    last = node.end_point.row - (node.end_point.column == 0 and node.end_point.row > first)
    body = _body(inner) if inner.type in syntax.containers and depth < _DEEPEST and last > first else None
    if body is None:
        yield _Span(first, last, name)
        return
    yield from _container(_Span(first, last, name), list(_spans(body, language, name, depth + 1)))


def _container(whole: _Span, members: list[_Span]) -> Iterator[_Span]:
    """The members, and under the container's own name what lies between them."""
    line = whole.first
    for member in members:
        if line < member.first:
            yield _Span(line, member.first - 1, whole.heading)
        yield member
        line = max(line, member.last + 1)
    if line <= whole.last:
        yield _Span(line, whole.last, whole.heading)


def _within(node: Node, language: str) -> Node | None:
    """The definition that a node is, or is written around."""
    syntax = SYNTAXES[language]
    for _ in range(4):
        if node.type in syntax.definitions:
            return node
        if node.type not in syntax.wrappers:
            return None
        if (held := bound(node)) is not None:
            return held
        known = syntax.definitions | syntax.wrappers
        inner = next((child for child in node.named_children if child.type in known), None)
        if inner is None:
            return None
        node = inner
    return None


def _body(node: Node) -> Node | None:
    body = node.child_by_field_name("body")
    if body is not None and body.type == "enum_body":
        return next((child for child in body.children if child.type == "enum_body_declarations"), None)
    return body if body is not None and body.type in BODIES else None


def _by_lines(text: str, language: str) -> list[_Span]:
    """From each line that begins a definition to the next one; without such lines, nothing."""
    opening = _openings(language)
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if opening and line.startswith(opening)]
    return [
        _Span(first, following - 1, line_of(lines[first]).rstrip(" {:"))
        for first, following in pairwise([*starts, len(lines)])
    ]


def _openings(language: str) -> tuple[str, ...]:
    if language == "shell":
        return ("function ",)
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    if language not in {one.value for one in Language}:
        return ()
    found = RecursiveCharacterTextSplitter.get_separators_for_language(Language(language))
    return tuple(one[1:] for one in found if one.startswith("\n") and one.strip())


def _sections(text: str, spans: list[_Span]) -> Iterator[Section]:
    starts = line_starts(text)
    starts.append(len(text))
    begun, heading = 0, ""
    for span in _gapless(spans, len(starts) - 1):
        start, end = starts[span.first], starts[span.last + 1]
        # closing brackets belong to what they close
        if not _WORD.search(text, start, end):
            continue
        if text[begun:start].strip():
            yield Section(begun, start, heading, prose=False)
            begun = start
        heading = span.heading
    yield Section(begun, len(text), heading, prose=False)


def _gapless(spans: list[_Span], lines: int) -> Iterator[_Span]:
    """The spans and what lies between them; of two that share a line the first one has it."""
    line = 0
    for span in spans:
        if span.last < line:
            continue
        first = max(span.first, line)
        if line < first:
            yield _Span(line, first - 1, "")
        yield _Span(first, span.last, span.heading)
        line = span.last + 1
    if line < lines:
        yield _Span(line, lines - 1, "")
