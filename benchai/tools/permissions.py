"""Which calls of tools run, which ask a person first, and which never run.

The order of a ruling:

1. A matching rule that says deny wins, wherever it stands among the rules.
2. A path outside the workspace is denied, unless the first rule that matches names that argument with an
   absolute glob (`path: /data/*`). The file tools of BenchAI refuse such a path all the same.
3. The first rule that matches wins.
4. Without one: reading is allowed; writing, executing and the network ask.

Globs stand for the whole value: `*` any text, "/" included, `?` one character, `[ab]` and `[!ab]` one of a
set. Rules that hold back (ask, deny) match broadly, rules that allow match narrowly, so that a trick in the
spelling leads to a question and never to a permission:

- In the arguments of tools that execute, and in command, cmd, script and code of all tools, no wildcard of an
  allow rule covers a character that starts another command: ``; & | ` $ ( ) < >`` and line ends. The glob has to
  hold it literally: `git status*` does not allow `git status; rm -r x`. To allow every command, leave the
  argument out. Ask and deny rules are held against each part of a compound command, too; that is a
  help, no sandbox: `env rm x` is not `rm *`.
- Paths are compared resolved, links followed: relative to the workspace, or absolute when the glob is.
- In an allow rule's glob with a scheme (`https://*.example.org/*`) no wildcard before the path leaves the host.
- Case counts for allow rules only. An argument that is left out matches no allow rule, and counts as empty for
  the others. Of a list an allow rule has to match all members, the others one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchai.config.models import Decision, ToolsConfig
from benchai.tools.tool import Permission, Tool, shorten

__all__ = ["DEFAULTS", "Permissions", "Rule", "Ruling", "glob_matches"]

DEFAULTS: Mapping[Permission, Decision] = {"read": "allow", "write": "ask", "execute": "ask", "network": "ask"}

_PATH_NAME = re.compile(r"(?:^|_)(?:paths?|cwd|folder|directory)$|[a-z]Paths?$")
_COMMAND_NAMES = {"command", "cmd", "script", "code"}
_SPLIT = re.compile(r"[;&|`$()<>\r\n]+")
_URL = re.compile(r"[^/:]*://[^/]*")
# what one wildcard character may stand for
_ANY = r"[\s\S]"
_ONE_COMMAND = r"[^;&|`$()<>\r\n\0]"
_ONE_HOST = r"[^/\\?#@\s]"


@dataclass(frozen=True)
class Rule:
    """What to do with the calls that it matches: those of tools named `tool` (a glob) and of the `kind`.

    `arguments` are globs by the name of the argument; all of them must match.
    """

    decision: Decision
    tool: str = "*"
    kind: Permission | None = None
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        """The rule in a few words, for reasons."""
        parts = [f"kind {self.kind}"] if self.kind else []
        parts += [f"tool {self.tool}"] if self.tool != "*" or not parts else []
        parts += [f"{name} {shorten(glob)}" for name, glob in self.arguments.items()]
        return ", ".join(parts)


@dataclass(frozen=True)
class Ruling:
    """What happens with a call, why, and the rule that decided (None: a default)."""

    decision: Decision
    reason: str
    rule: Rule | None = None


class Permissions:
    """The rules of a configuration, in their order; see the module for how they are applied."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        """Take the rules in the order in which they are tried."""
        self.rules = tuple(rules)

    @classmethod
    def from_config(cls, section: ToolsConfig) -> Permissions:
        """Return the permissions of the section `tools:`."""
        return cls([Rule(rule.decision, rule.tool or "*", rule.kind, rule.arguments) for rule in section.permissions])

    def decide(self, tool: Tool, arguments: Mapping[str, Any], workspace: Path) -> Ruling:
        """Rule on one call; `arguments` are the validated ones that the tool is going to get.

        Follows links on the disk, and changes nothing. Never raises for what a model wrote.
        """
        try:
            return self._rule_on(_Call(tool, arguments, workspace.resolve()))
        except RecursionError:
            return Ruling("deny", "the arguments are nested too deeply to be ruled on")

    def _rule_on(self, call: _Call) -> Ruling:
        matching = [rule for rule in self.rules if call.matched_by(rule)]
        first = next((rule for rule in matching if rule.decision == "deny"), matching[0] if matching else None)
        if first is not None and first.decision == "deny":
            return Ruling("deny", f"a rule says deny ({first})", first)
        outside = call.outside(first)
        if outside is not None:
            return Ruling("deny", f"{outside[0]} {shorten(outside[1])} leads outside the workspace")
        if first is not None:
            return Ruling(first.decision, f"a rule says {first.decision} ({first})", first)
        kind = call.tool.permission
        return Ruling(DEFAULTS[kind], f"no rule matches; the default for tools of kind {kind} is {DEFAULTS[kind]}")


@dataclass(frozen=True)
class _Call:
    tool: Tool
    arguments: Mapping[str, Any]
    workspace: Path

    def matched_by(self, rule: Rule) -> bool:
        if not fnmatchcase(self.tool.name, rule.tool) or rule.kind not in (None, self.tool.permission):
            return False
        match = self._allows if rule.decision == "allow" else self._holds_back
        return all(match(name, glob) for name, glob in rule.arguments.items())

    def outside(self, rule: Rule | None) -> tuple[str, str] | None:
        """The first argument that leads outside, with its path, unless `rule` names it on purpose."""
        for name, value in self.arguments.items():
            for path in _paths_in(name, value):
                glob = rule.arguments.get(name) if rule else None
                lifted = glob is not None and _is_path(name) and self._allows(name, glob)
                if not lifted and self._inside(path) is None:
                    return name, path
        return None

    def _allows(self, name: str, glob: str) -> bool:
        texts = _texts(self.arguments.get(name))
        if self.arguments.get(name) is None:
            return False
        if _is_path(name):
            return all(self._path_allowed(text, glob) for text in texts)
        within = _ONE_COMMAND if self.tool.permission == "execute" or name in _COMMAND_NAMES else _ANY
        return all(glob_matches(glob, text, within=within) for text in texts)

    def _path_allowed(self, path: str, glob: str) -> bool:
        resolved = _resolved(self.workspace, path)
        form = resolved if resolved and Path(glob).is_absolute() else self._inside(path)
        return form is not None and glob_matches(glob.removeprefix("./"), form)

    def _holds_back(self, name: str, glob: str) -> bool:
        forms = [form for text in _texts(self.arguments.get(name)) for form in self._forms(name, text)]
        glob = glob.removeprefix("./") if _is_path(name) else glob
        return any(glob_matches(glob, form, fold=True) for form in forms)

    def _forms(self, name: str, text: str) -> Iterator[str]:
        yield text
        yield text.strip()
        if _is_path(name):
            found = [form for form in (_resolved(self.workspace, text), self._inside(text)) if form is not None]
            # a folder is matched by the glob of what it holds
            yield from (form + end for form in found for end in ("", "/"))
        elif self.tool.permission == "execute" or name in _COMMAND_NAMES:
            yield from (part.strip() for part in _SPLIT.split(text))

    def _inside(self, path: str) -> str | None:
        """The path relative to the workspace, or None when it leads outside."""
        resolved = _resolved(self.workspace, path)
        if resolved is None or not Path(resolved).is_relative_to(self.workspace):
            return None
        return Path(resolved).relative_to(self.workspace).as_posix()


def glob_matches(glob: str, text: str, *, within: str = _ANY, fold: bool = False) -> bool:
    """Whether a glob stands for the whole of a text.

    `within` is the regular expression of the one character that wildcards may cover; `fold` ignores case.
    """
    return _compiled(glob, within, fold).fullmatch(text) is not None


@lru_cache(maxsize=512)
def _compiled(glob: str, within: str, fold: bool) -> re.Pattern[str]:
    host = _URL.match(glob) if within == _ANY and not fold else None
    end = host.end() if host else 0
    expression = _translate(glob[:end], _ONE_HOST) + _translate(glob[end:], within)
    return re.compile(expression, re.IGNORECASE if fold else 0)


_MEMBER = re.compile(r"([\s\S])-([\s\S])|([\s\S])")
_PIECE = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|[\s\S]")


def _translate(glob: str, within: str) -> str:
    pieces = [_piece(piece, within) for piece in _PIECE.findall(glob)]
    parts = "".join(pieces).split("\0")
    # atomic, so that many stars on a long text stay quick: the nearest match is as good as any later one
    middle = "".join(f"(?>{within}*?{part})" for part in parts[1:-1])
    return parts[0] + middle + (f"{within}*{parts[-1]}" if len(parts) > 1 else "")


def _piece(piece: str, within: str) -> str:
    if piece.startswith("*"):
        return "\0"
    if piece == "?":
        return within
    negated = piece.startswith("[!")
    members = piece[2 if negated else 1 : -1]
    if not piece.startswith("[") or not members:
        return _literal(piece)
    inside = "".join(_range(*found) for found in _MEMBER.findall(members))
    if not inside:
        return within if negated else "(?!)"
    return f"(?={within})[{'^' if negated else ''}{inside}]"


def _range(first: str, last: str, single: str) -> str:
    if single:
        return _literal(single)
    return f"{_literal(first)}-{_literal(last)}" if first <= last else ""


def _literal(text: str) -> str:
    return re.escape(text).replace("\0", r"\x00")


def _is_path(name: str) -> bool:
    return _PATH_NAME.search(name) is not None


def _texts(value: Any) -> list[str]:
    """The texts that globs are held against: those of a list's members, "" for nothing."""
    if value is None or value == []:
        return [""]
    if isinstance(value, list | tuple):
        return [text for member in value for text in _texts(member)]
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)]


def _paths_in(name: str, value: Any) -> Iterator[str]:
    """All texts under names of paths, however deep: tools of others take lists of objects."""
    pending = [(name, value)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, Mapping):
            pending += [(str(key), member) for key, member in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(name, member) for member in value]
        elif isinstance(value, str) and _is_path(name):
            yield value


def _resolved(workspace: Path, path: str) -> str | None:
    """The absolute path without links, or None when there is no telling where it leads."""
    # tools of others expand these; ours do not
    if path.startswith("~") or re.match(r"file:", path, re.IGNORECASE):
        return None
    try:
        return (workspace / path).resolve().as_posix()
    except (OSError, RuntimeError, ValueError):
        return None
