"""``benchai route``, called in this process: the role first, the reason second, every factor on demand."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchai.cli.app import main

TALK = [{"role": "user", "content": "write a function"}, {"role": "assistant", "content": "```\nx\n```"}]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Call the command line in an empty folder; the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchai", "route", *args])
        with pytest.raises(SystemExit) as raised:
            main()
        captured = capsys.readouterr()
        return int(raised.value.code or 0), captured.out, captured.err

    return call


def test_the_role_stands_on_the_first_line_and_the_reason_on_the_second(cli: Any) -> None:
    code, out, err = cli("plan a holiday in Norway")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["planner", "planner: planning verb, weak planning word"]


def test_every_factor_and_sign_is_explained(cli: Any) -> None:
    _, out, _ = cli("--explain", "Is the cache of the server full? And the disk? " + "blue " * 200)
    for words in (
        "length           1.047 x 1 = 0.50 (limit 0.5)",
        "code_blocks      0 x 0.3 = 0.00",
        "technical_terms  2 x 0.1 = 0.20",
        "questions        1 x 0.2 = 0.20",
        "thresholds: simple 0.3, planner 0.4, research 0.7",
        "complexity 0.90",
        "may answer: research, planner (+15 s), general (+30 s)",
    ):
        assert words in out
    assert out.startswith("research\n")


def test_json_holds_all_of_it(cli: Any) -> None:
    _, out, _ = cli("plan a holiday in Norway", "--json")
    data = json.loads(out)
    assert (data["role"], data["intent"], data["follows"], data["picture"]) == ("planner", "planner", False, False)
    assert [one["name"] for one in data["factors"]] == ["length", "code_blocks", "technical_terms", "questions"]
    assert data["complexity"] == pytest.approx(sum(one["adds"] for one in data["factors"]), abs=1e-3)
    assert data["scores"]["planner"] == 4
    assert data["workflow"] == "react"


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_conversation_is_read_from_a_file(cli: Any, wrapped: bool) -> None:
    talk = [*TALK, {"role": "user", "content": "and now for lists"}]
    Path("talk.json").write_text(json.dumps({"messages": talk, "tools": []} if wrapped else talk), encoding="utf-8")
    code, out, _ = cli("--file", "talk.json")
    assert (code, out.splitlines()[0]) == (0, "code")
    assert "goes on" in out


def test_a_conversation_is_read_from_standard_input(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(json.dumps([*TALK, {"role": "tool", "content": "1"}]).encode()))
    monkeypatch.setattr(sys, "stdin", given)
    assert cli("-f", "-")[1].splitlines()[0] == "keep"


def test_tools_in_the_request_count_as_offered(cli: Any) -> None:
    request = {"messages": [{"role": "user", "content": "check the repository"}], "tools": [{"type": "function"}]}
    Path("request.json").write_text(json.dumps(request), encoding="utf-8")
    assert cli("-f", "request.json")[1].splitlines()[0] == "code"
    assert cli("check the repository")[1].splitlines()[0] == "general"
    assert cli("check the repository", "--tools")[1].splitlines()[0] == "code"


def test_the_tables_of_the_config_count(cli: Any) -> None:
    text = "models:\n  m: {file: a.gguf}\nrouting:\n  signals: [{intent: research, words: [xyzzy], name: caves}]\n"
    Path("b.yaml").write_text(text, encoding="utf-8")
    assert cli("what is xyzzy", "-c", "b.yaml")[1].splitlines() == ["research", "research: caves"]
    assert cli("what is xyzzy")[1].splitlines()[0] == "general"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "a text or --file is needed, neither was given"),
        (("hi", "-f", "talk.json"), "both were given"),
        (("-f", "missing.json"), "'missing.json' cannot be read"),
        (("-f", "."), "cannot be read"),
        (("-f", "broken.json"), "'broken.json' is no JSON"),
        (("-f", "deep.json"), "'deep.json' is no JSON"),
        (("-f", "latin.json"), "'latin.json' is no JSON"),
        (("-f", "number.json"), "'number.json' holds no list of messages"),
    ],
)
def test_what_cannot_be_read_is_told(cli: Any, args: tuple[str, ...], words: str) -> None:
    files = {"broken": b"[{", "deep": b"[" * 200_000, "latin": b'["\xe4"]', "number": b"7"}
    for name, data in files.items():
        Path(f"{name}.json").write_bytes(data)
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
