"""Rulings on calls, and how rules and servers of tools are written in benchai.yaml."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config import Config
from benchai.config.load import validate
from benchai.config.models import Decision, McpServer, PermissionRule, ToolsConfig
from benchai.config.source import parse_yaml
from benchai.errors import ConfigError
from benchai.tools import Tool, ToolArgs, ToolContext
from benchai.tools.permissions import DEFAULTS, Permissions, Rule, glob_matches
from benchai.tools.tool import Permission


class NoArgs(ToolArgs):
    """Rulings look at the values of a call, not at the arguments a tool declares."""


async def nothing(args: NoArgs, ctx: ToolContext) -> str:
    return ""


def tool(name: str, kind: Permission) -> Tool:
    return Tool(name, "", NoArgs, nothing, kind)


READ, WRITE = tool("read_file", "read"), tool("write_file", "write")
SHELL, PYTHON = tool("shell", "execute"), tool("python", "execute")
WEB, MCP = tool("web_fetch", "network"), tool("mcp__git__log", "network")
GIT = Rule("allow", "shell", arguments={"command": "git status*"})
METACHARACTERS = ";&|`$()<>\r\n"
SOME_PATH = Path("/nowhere/at/all")


def decision(rules: list[Rule], of: Tool, arguments: dict[str, Any], workspace: Path = SOME_PATH) -> Decision:
    return Permissions(rules).decide(of, arguments, workspace).decision


@pytest.mark.parametrize(
    ("of", "expected"), [(READ, "allow"), (WRITE, "ask"), (SHELL, "ask"), (PYTHON, "ask"), (WEB, "ask")]
)
def test_defaults(of: Tool, expected: Decision) -> None:
    ruling = Permissions().decide(of, {"path": "a.txt"}, SOME_PATH)
    assert (ruling.decision, ruling.rule) == (expected, None)
    assert f"kind {of.permission}" in ruling.reason


@pytest.mark.parametrize(
    ("rules", "of", "arguments", "expected"),
    [
        ([Rule("allow", "shell")], SHELL, {"command": "a; b"}, "allow"),
        ([Rule("allow", "sh*")], SHELL, {}, "allow"),
        ([Rule("allow", "SHELL")], SHELL, {}, "ask"),
        ([Rule("allow", kind="write")], WRITE, {"path": "a"}, "allow"),
        ([Rule("allow", kind="write")], SHELL, {}, "ask"),
        ([Rule("allow", "shell", "write")], SHELL, {}, "ask"),
        ([Rule("allow", "mcp__*"), Rule("ask")], MCP, {}, "allow"),
        ([Rule("ask"), Rule("allow", "mcp__*")], MCP, {}, "ask"),
        ([Rule("allow"), Rule("deny", "mcp__*")], MCP, {}, "deny"),
        ([Rule("deny", "mcp__*"), Rule("allow")], MCP, {}, "deny"),
        ([Rule("ask", "read_file")], READ, {"path": "a"}, "ask"),
        ([Rule("allow", arguments={"a": "1", "b": "2"})], WEB, {"a": "1", "b": "2"}, "allow"),
        ([Rule("allow", arguments={"a": "1", "b": "2"})], WEB, {"a": "1", "b": "3"}, "ask"),
        ([Rule("allow", arguments={"a": "*"})], WEB, {"b": "1"}, "ask"),
        ([Rule("allow", arguments={"a": "*"})], WEB, {"a": None}, "ask"),
        ([Rule("deny", arguments={"a": "*"})], WEB, {"b": "1"}, "deny"),
        ([Rule("allow", arguments={"n": "5", "f": "true"})], WEB, {"n": 5, "f": True}, "allow"),
        ([Rule("allow", arguments={"l": "x*"})], WEB, {"l": ["x1", "x2"]}, "allow"),
        ([Rule("allow", arguments={"l": "x*"})], WEB, {"l": ["x1", "y"]}, "ask"),
        ([Rule("deny", arguments={"l": "x*"})], WEB, {"l": ["y", "x1"]}, "deny"),
        ([Rule("allow", arguments={"o": '{"a": 1}'})], WEB, {"o": {"a": 1}}, "allow"),
    ],
)
def test_rules(rules: list[Rule], of: Tool, arguments: dict[str, Any], expected: Decision) -> None:
    assert decision(rules, of, arguments) == expected


@pytest.mark.parametrize(
    ("glob", "command", "expected"),
    [
        ("git status*", "git status", "allow"),
        ("git status*", "git status -s", "allow"),
        ("git status*", " git status", "ask"),
        ("git status*", "GIT status", "ask"),
        ("git status*", "git stash", "ask"),
        ("git status*", "git status; rm -rf x", "ask"),
        ("git status*", "git status\nrm x", "ask"),
        ("git status*", "git status $(rm x)", "ask"),
        ("git status*", "git status ${x@P}", "ask"),
        ("git ?", "git ;", "ask"),
        ("git [!a]", "git ;", "ask"),
        ("git [;]", "git ;", "ask"),
        ("git log* | head*", "git log -5 | head -3", "allow"),
        ("git log* | head*", "git log -5 | head -3 | sh", "ask"),
        ("git log* | head*", "git log -5 | sh | head -3", "ask"),
        ("*; true", "ls; true", "allow"),
        ("*; true", "rm x; ls; true", "ask"),
        ("*", "ls -l", "allow"),
        ("*", "ls -l > x", "ask"),
        ("https://*/", "https://a;rm/", "ask"),
    ],
)
def test_wildcards_of_allow_rules_stay_in_one_command(glob: str, command: str, expected: Decision) -> None:
    assert decision([Rule("allow", "shell", arguments={"command": glob})], SHELL, {"command": command}) == expected


@pytest.mark.parametrize("name", ["command", "cmd", "script", "code"])
def test_commands_of_other_tools_are_commands_too(name: str) -> None:
    rules = [Rule("allow", arguments={name: "ls*"})]
    assert decision(rules, MCP, {name: "ls -l"}) == "allow"
    assert decision(rules, MCP, {name: "ls; rm x"}) == "ask"


@given(st.text(max_size=20), st.sampled_from(METACHARACTERS), st.text(max_size=20))
def test_no_metacharacter_passes_a_wildcard(before: str, character: str, after: str) -> None:
    assert decision([GIT], SHELL, {"command": f"git status{before}{character}{after}"}) == "ask"


@pytest.mark.parametrize("held_back", ["ask", "deny"])
@pytest.mark.parametrize("command", ["rm x", " rm x", "RM x", "ls; rm x", "ls && rm x", "ls | rm x", "echo $(rm x)"])
def test_rules_that_hold_back_see_each_part_of_a_command(held_back: Decision, command: str) -> None:
    rules = [Rule(held_back, "shell", arguments={"command": "rm *"}), Rule("allow", "shell")]
    assert decision(rules, SHELL, {"command": command}) == held_back
    assert decision(rules, SHELL, {"command": "ls -l"}) == "allow"


@pytest.mark.parametrize(
    ("glob", "url", "expected"),
    [
        ("https://docs.example.org/*", "https://docs.example.org/a/b?c", "allow"),
        ("https://docs.example.org/*", "https://docs.example.org.evil.net/", "ask"),
        ("https://docs.example.org/*", "http://docs.example.org/", "ask"),
        ("https://*.example.org/*", "https://a.example.org/x", "allow"),
        ("https://*.example.org/*", "https://evil.net/x.example.org/", "ask"),
        ("https://*.example.org/*", "https://evil.net?x.example.org/", "ask"),
        ("https://*.example.org/*", "https://evil.net#x.example.org/", "ask"),
        ("https://*.example.org/*", "https://evil.net\\x.example.org/", "ask"),
        ("http*://example.org/*", "https://example.org/", "allow"),
        ("http*://example.org/*", "http://evil.net/?://example.org/", "ask"),
    ],
)
def test_wildcards_of_allow_rules_stay_in_the_host(glob: str, url: str, expected: Decision) -> None:
    assert decision([Rule("allow", "web_*", arguments={"url": glob})], WEB, {"url": url}) == expected


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with notes/, secrets/, a link to what lies outside, and a link to secrets/."""
    inner = tmp_path / "workspace"
    for folder in (inner / "notes", inner / "secrets", tmp_path / "outside"):
        folder.mkdir(parents=True)
    (inner / "out").symlink_to(tmp_path / "outside")
    (inner / "harmless").symlink_to(inner / "secrets")
    return inner


OUTSIDE = ["/etc/passwd", "../x", "notes/../../x", "out", "out/x", "~/x", "~", "file:///etc/passwd", "a\0b"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("rules", [[], [Rule("allow")], [Rule("ask", arguments={"path": "*"})], [Rule("ask")]])
def test_what_lies_outside_is_denied(workspace: Path, path: str, rules: list[Rule]) -> None:
    ruling = Permissions(rules).decide(READ, {"path": path}, workspace)
    assert ruling.decision == "deny"
    assert ruling.reason == f"path {path!r} leads outside the workspace"


@pytest.mark.parametrize("path", [".", "", "notes", "notes/new/file", "notes/../notes", "..x", "harmless/x"])
def test_what_lies_inside_is_read(workspace: Path, path: str) -> None:
    assert decision([], READ, {"path": path}, workspace) == "allow"
    assert decision([], READ, {"path": str(workspace / path)}, workspace) == "allow"


@pytest.mark.parametrize(
    "arguments",
    [
        {"paths": ["a", "/etc/passwd"]},
        {"target_path": "/etc/passwd"},
        {"filePath": "/etc/passwd"},
        {"cwd": "/"},
        {"files": [{"text": "/", "path": "/etc/passwd"}]},
    ],
)
def test_paths_by_other_names_and_deeper_down(arguments: dict[str, Any]) -> None:
    assert decision([Rule("allow")], MCP, arguments) == "deny"


@pytest.mark.parametrize("arguments", [{"text": "/etc/passwd"}, {"xpath": "//div"}, {"path": 5}, {"path": None}])
def test_what_is_no_path(arguments: dict[str, Any]) -> None:
    assert decision([Rule("allow")], MCP, arguments) == "allow"


def test_a_rule_reaches_outside_only_by_naming_the_path(tmp_path: Path, workspace: Path) -> None:
    data = Rule("allow", "mcp__*", arguments={"path": f"{tmp_path.resolve()}/outside/*"})
    assert decision([data], MCP, {"path": str(tmp_path / "outside" / "x")}, workspace) == "allow"
    assert decision([data], MCP, {"path": "out/x"}, workspace) == "allow"
    assert decision([data], MCP, {"path": str(tmp_path / "outside" / ".." / "x")}, workspace) == "deny"
    assert decision([data], MCP, {"path": "out/x", "other_path": "/"}, workspace) == "deny"
    assert decision([Rule("allow"), data], MCP, {"path": "out/x"}, workspace) == "deny"


@pytest.mark.parametrize(
    "path", ["secrets/a", "./secrets/a", "notes/../secrets/a", "harmless/a", "SECRETS/a", "secrets", "secrets/"]
)
def test_a_denied_folder_has_no_other_way_in(workspace: Path, path: str) -> None:
    for glob in ("secrets/*", "./secrets/*", f"{workspace.resolve()}/secrets/*"):
        assert decision([Rule("deny", arguments={"path": glob})], READ, {"path": path}, workspace) == "deny"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("notes/a", "allow"), ("./notes/b/c", "allow"), ("notes/../secrets/a", "ask"), ("Notes/a", "ask")],
)
def test_an_allowed_folder(workspace: Path, path: str, expected: Decision) -> None:
    for glob in ("notes/*", "./notes/*", f"{workspace.resolve()}/notes/*"):
        assert decision([Rule("allow", arguments={"path": glob})], WRITE, {"path": path}, workspace) == expected


def test_reasons() -> None:
    rule = Rule("allow", "shell", arguments={"command": "git *"})
    assert Permissions([rule]).decide(SHELL, {"command": "git log"}, SOME_PATH).reason == (
        "a rule says allow (tool shell, command 'git *')"
    )
    assert Permissions([Rule("deny", kind="network")]).decide(WEB, {}, SOME_PATH).reason == (
        "a rule says deny (kind network)"
    )


def test_arguments_nested_too_deeply_are_denied() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    assert decision([Rule("allow", arguments={"a": "*"})], WEB, {"a": nested}) == "deny"


KINDS: list[Permission] = ["read", "write", "execute", "network"]
DECISIONS: list[Decision] = ["allow", "ask", "deny"]
NAMES = ["shell", "python", "web_fetch", "mcp__a__b"]
RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from(DECISIONS),
        st.sampled_from(["*", "mcp__*", "s*", *NAMES]),
        st.none() | st.sampled_from(KINDS),
        st.just({}) | st.sampled_from(["a*", "*b", "b"]).map(lambda glob: {"x": glob}),
    ),
    max_size=6,
)


@given(RULES, st.sampled_from(NAMES), st.sampled_from(KINDS), st.sampled_from(["a", "b", "ab", "c"]))
def test_deny_wins_then_the_first_match(rules: list[Rule], name: str, kind: Permission, value: str) -> None:
    ruling = Permissions(rules).decide(tool(name, kind), {"x": value}, SOME_PATH)
    matching = [
        rule
        for rule in rules
        if fnmatchcase(name, rule.tool)
        and rule.kind in (None, kind)
        and all(fnmatchcase(value, glob) for glob in rule.arguments.values())
    ]
    if any(rule.decision == "deny" for rule in matching):
        assert ruling.decision == "deny"
    elif matching:
        assert (ruling.decision, ruling.rule) == (matching[0].decision, matching[0])
    else:
        assert (ruling.decision, ruling.rule) == (DEFAULTS[kind], None)


@given(st.text(alphabet="ab*?[]!-^\\.\n", max_size=12), st.text(alphabet="ab[]!-^\\.\n", max_size=12))
def test_globs_are_those_of_fnmatch(glob: str, text: str) -> None:
    assert glob_matches(glob, text) == fnmatchcase(text, glob)


@given(st.text(), st.text())
def test_any_text_is_a_glob(glob: str, text: str) -> None:
    glob_matches(glob, text)
    glob_matches(glob, text, fold=True)
    assert glob_matches(re.sub(r"([*?\[])", r"[\1]", text), text)


def test_many_stars_on_a_long_command_do_not_blow_up() -> None:
    assert not glob_matches("*a" * 30 + "b", "a" * 20_000)


YAML = """
models: {code: {file: a.gguf}}
tools:
  permissions:
    - tool: shell
      arguments: {command: "git status*"}
      decision: allow
    - {tool: "mcp__*", decision: ask}
    - {kind: write, decision: deny}
  mcp:
    files: {command: server, args: [--root, .], env: {A: b}, env_from: [TOKEN], timeout: 5, tools: ["read_*"]}
    far: {url: "https://example.org/mcp", headers_env: {Authorization: TOKEN}}
"""


def test_from_config() -> None:
    config = validate(parse_yaml(YAML, "b.yaml"))
    assert Permissions.from_config(config.tools).rules == (
        GIT,
        Rule("ask", "mcp__*"),
        Rule("deny", kind="write"),
    )
    assert config.tools.mcp["far"].timeout == 30
    assert Config.model_validate(config.as_data()).tools == config.tools
    assert Config.model_validate(config.model_dump(exclude_defaults=True)).tools == config.tools


def test_without_rules() -> None:
    assert Permissions.from_config(ToolsConfig()).rules == ()


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("{decision: allow}", "tool or kind is needed"),
        ("{tool: shell}", "tools.permissions.0.decision: is needed and not there"),
        ("{tool: shell, decision: perhaps}", "'allow', 'ask' or 'deny'"),
        ("{kind: delete, decision: ask}", "'read', 'write', 'execute' or 'network'"),
        ("{tool: '', decision: ask}", "at least 1 character"),
        ("{tool: a, argument: {}, decision: ask}", "did you mean 'arguments'?"),
        ("{tool: a, arguments: {limit: 5}, decision: ask}", "tools.permissions.0.arguments.limit = 5"),
        ("{tool: a, arguments: {url: 'https://a.org*'}, decision: allow}", "end the host with a slash"),
    ],
)
def test_rules_that_are_refused(rule: str, part: str) -> None:
    with pytest.raises(ConfigError) as raised:
        validate(parse_yaml(f"models: {{code: {{file: a}}}}\ntools: {{permissions: [{rule}]}}", "b.yaml"))
    assert part in raised.value.message


def test_a_rule_that_holds_back_may_leave_the_host_open() -> None:
    PermissionRule.model_validate({"tool": "web", "arguments": {"url": "https://a.org*"}, "decision": "deny"})


@pytest.mark.parametrize(
    ("server", "part"),
    [
        ({}, "exactly one of command and url is needed, none given"),
        ({"command": "a", "url": "http://b"}, "exactly one of command and url is needed, both given"),
        ({"command": "a", "headers_env": {"A": "B"}}, "headers_env: only with url"),
        ({"url": "http://b", "args": ["x"], "env": {"A": "b"}}, "args, env: only with command"),
        ({"url": "http://b", "env_from": ["A"]}, "env_from: only with command"),
        ({"command": "a", "env": {"A": "b"}, "env_from": ["A"]}, "A: in env and in env_from"),
        ({"command": ""}, "at least 1 character"),
        ({"command": "a", "args": "--x"}, "valid list"),
        ({"url": "example.org"}, "a URL is expected"),
        ({"url": "https:// x"}, "a URL is expected"),
        ({"command": "a", "timeout": 0}, "greater than 0"),
        ({"command": "a", "env": {"A B": "c"}}, "match pattern"),
        ({"command": "a", "env_from": ["$A"]}, "match pattern"),
        ({"url": "http://b", "headers_env": {"A:": "B"}}, "match pattern"),
        ({"url": "http://b", "headers_env": {"A": "Bearer x"}}, "match pattern"),
        ({"command": "a", "tools": [""]}, "at least 1 character"),
    ],
)
def test_servers_that_are_refused(server: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        McpServer.model_validate(server)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "ä", "a" * 33, "a\n"])
def test_names_of_servers_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="match pattern"):
        ToolsConfig.model_validate({"mcp": {name: {"command": "a"}}})
