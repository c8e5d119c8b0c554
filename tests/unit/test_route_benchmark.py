"""The benchmark of routing: what it reads, what it counts, and the set of prompts that stands beside it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchai.runtime.router.rules import Rules
from benchmarks import routing

DATA = Path(routing.__file__).parent / "data"


def result(label: str, predicted: str, complexity: float = 0.0, level: str | None = None) -> routing.Result:
    return routing.Result(routing.Example([], label, level), predicted, complexity, "")


def test_precision_and_recall_are_of_each_class() -> None:
    found = routing.measures(
        [result("code", "code"), result("code", "general"), result("general", "general"), result("keep", "code")]
    )
    assert found["accuracy"] == 0.5
    assert found["classes"]["code"] == {"n": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert found["classes"]["general"] == {"n": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert found["classes"]["keep"] == {"n": 1, "precision": None, "recall": 0.0, "f1": 0.0}
    assert "vision" not in found["classes"]
    assert found["confusion"]["code"] == {"code": 1, "general": 1, "keep": 0}


def test_levels_of_complexity_are_counted_where_they_are_labelled() -> None:
    several = [result("code", "code", 0.3, "simple"), result("code", "code", 0.71, "complex"), result("code", "code")]
    found = routing.levels(several, 0.3, 0.7)
    assert found["simple"] == {"simple": 0, "moderate": 1, "complex": 0}
    assert found["complex"]["complex"] == 1
    assert sum(sum(row.values()) for row in found.values()) == 2


def test_csv_and_json_are_read(tmp_path: Path) -> None:
    table, talk = tmp_path / "a.csv", tmp_path / "a.json"
    table.write_text('text,label,complexity\n"a,\n```\nb\n```",code,simple\nhi,general,\n', encoding="utf-8")
    talk.write_text(json.dumps([{"label": "keep", "messages": [{"role": "tool"}]}, {"label": "code", "text": "x"}]))
    assert [(one.text, one.label, one.complexity) for one in routing.load(table)] == [
        ("a,\n```\nb\n```", "code", "simple"),
        ("hi", "general", None),
    ]
    assert [one.messages for one in routing.load(talk)] == [[{"role": "tool"}], [{"role": "user", "content": "x"}]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("text,label\nhi,chat\n", "row 1: the label is 'chat'"),
        ("text,label,complexity\nhi,general,hard\n", "row 1: the complexity is 'hard'"),
        ("label\ngeneral\n", "row 1: neither text nor messages"),
        ("[1]", "row 1: 1 is no object"),
        ("[{]", "is no JSON"),
        ("text,label\n", "there is no example"),
    ],
)
def test_a_wrong_row_is_told_with_its_number(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data"
    file.write_text(text, encoding="utf-8")
    assert routing.main(["--data", str(file)]) == 2
    assert words in capsys.readouterr().err


def test_the_halves_part_a_file(tmp_path: Path) -> None:
    examples = routing.load(DATA / "routing.csv")
    halves = Counter(one.half for one in examples)
    assert sum(halves.values()) == len(examples)
    assert min(halves.values()) > 100


def test_the_report_holds_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "ROUNDS", 2)
    monkeypatch.setattr(routing, "REPEATS", 2)
    file = tmp_path / "a.csv"
    file.write_text("text,label\nplan a trip,planner\nwhat is this picture,code\n", encoding="utf-8")
    assert routing.main(["--data", str(file), "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["accuracy"] == 0.5
    assert [(one["label"], one["predicted"]) for one in report["wrong"]] == [("code", "vision")]
    assert set(report["time"]) == {"wall_p50_ms", "wall_p99_ms", "cpu_p50_ms", "cpu_p99_ms"}
    assert "text of 1 MB" in report["large"]
    assert routing.main(["--data", str(file), "--errors"]) == 0
    assert "code -> vision: 'what is this picture'" in capsys.readouterr().out


def test_the_set_is_large_and_every_class_is_there() -> None:
    texts, talks = routing.load(DATA / "routing.csv"), routing.load(DATA / "conversations.json")
    assert len({one.text for one in texts}) == len(texts) >= 240
    assert len(talks) >= 40
    assert min(Counter(one.label for one in texts).values()) >= 30
    assert {one.label for one in talks} == set(routing.LABELS)
    assert {one.complexity for one in texts} == set(routing.LEVELS)


def test_accuracy_on_the_set_keeps_above_its_floor() -> None:
    rules = Rules()
    floors = {"routing.csv": 0.85, "conversations.json": 0.9, "routing_unseen.csv": 0.8}
    for name, floor in floors.items():
        examples = routing.load(DATA / name)
        wrong = [one.text for one in examples if routing.predicted(rules.route(one.messages)) != one.label]
        assert 1 - len(wrong) / len(examples) >= floor, wrong
