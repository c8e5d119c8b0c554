"""YAML text with its tokens: where the value of a key is written, and where a comment may stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import yaml

from benchai.config.source import Loc

BREAKS = "\r\n\x85\u2028\u2029"
Pair = tuple[yaml.Node, yaml.Node]


@dataclass
class EditedText:
    """YAML text, its tokens, and the changes to make: (start, end, new text)."""

    name: str
    text: str
    tokens: list[yaml.Token]
    cuts: list[tuple[int, int, str]] = field(default_factory=list)
    lines: list[tuple[int, int, str]] = field(default_factory=list)
    """Changes that add a line behind another: they come after that line's comment."""
    gone: set[Loc] = field(default_factory=set)
    """The keys that are taken away."""
    notes: dict[int, list[str]] = field(default_factory=dict)
    """What to say in a comment at the end of a line, by the place where the line's YAML ends."""

    def line_start(self, at: int) -> int:
        """Where the line of a place begins."""
        while at > 0 and self.text[at - 1] not in BREAKS:
            at -= 1
        return at

    def line_end(self, at: int) -> int:
        """Where the line of a place ends, before its line end."""
        while at < len(self.text) and self.text[at] not in BREAKS:
            at += 1
        return at

    def next_line(self, at: int) -> int:
        """Where the line behind it begins."""
        end = self.line_end(at)
        return end + (2 if self.text[end : end + 2] == "\r\n" else 1)

    def newline(self) -> str:
        """The line end that the text has."""
        return "\r\n" if "\r\n" in self.text else "\n"

    def comment_place(self, at: int) -> int:
        """Where a comment may begin that tells of what ends at ``at``: behind the last token of its line."""
        while True:
            start, end = self.line_start(at), self.line_end(at)
            ends = [int(token.end_mark.index) for token in self.tokens if start <= token.start_mark.index < end]
            last = max(at, *ends, start)
            if last <= end:
                return last
            at = last


def span(done: EditedText, pair: Pair) -> tuple[int, int]:
    """Where the value of a key is written; an alias's node stands elsewhere."""
    key, value = pair
    if value.start_mark.index >= key.end_mark.index:
        return value.start_mark.index, _end(value)
    alias = next(
        token
        for token in done.tokens
        if isinstance(token, yaml.AliasToken) and token.start_mark.index >= key.end_mark.index
    )
    return alias.start_mark.index, alias.end_mark.index


def _end(node: yaml.Node) -> int:
    """Where the last character of a node stands: a block's own end mark lies behind the comments after it."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    if not isinstance(last, tuple):
        return _end(last)
    key, value = last
    return _end(value) if value.start_mark.index >= key.end_mark.index else int(key.end_mark.index)


def _leaves(node: yaml.Node) -> Iterable[yaml.Node]:
    if not isinstance(node, yaml.CollectionNode):
        yield node
        return
    for item in node.value:
        for child in item if isinstance(item, tuple) else (item,):
            yield from _leaves(child)


def has_block_text(node: yaml.Node) -> bool:
    """Whether a block of text (``|``, ``>``) is in it: where one ends is told by no mark."""
    return any(isinstance(leaf, yaml.ScalarNode) and leaf.style in ("|", ">") for leaf in _leaves(node))


def has_breaks(text: str) -> bool:
    """Whether it goes over several lines."""
    return any(char in BREAKS for char in text)
