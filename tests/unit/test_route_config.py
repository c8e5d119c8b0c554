"""The section ``routing:`` of benchai.yaml: what is wrong is told with its place."""

from __future__ import annotations

import pytest

from benchai.config.load import validate
from benchai.config.source import parse_yaml
from benchai.errors import ConfigError

MODEL = "models:\n  code: {file: a.gguf}\n"


@pytest.mark.parametrize(
    ("section", "place", "words"),
    [
        (
            "signals:\n    - {intent: code, regex: '(a'}",
            "b.yaml:5:22: routing.signals.0.regex = '(a'",
            "no regular expression",
        ),
        ("signals:\n    - {intent: code, regex: 'a*'}", "routing.signals.0.regex", "matches the empty text"),
        ("signals:\n    - {intent: coding, words: [a]}", "b.yaml:5:8: routing.signals.0.intent = 'coding'", "'code'"),
        ("signals:\n    - {intent: code}", "b.yaml:5:", "words or regex is needed"),
        ("signals:\n    - {intent: code, regex: abc, opening: true}", "b.yaml:5:", "opening goes with words"),
        ("signals:\n    - {intent: code, words: ['a|b']}", "b.yaml:5:", "words are plain text"),
        ("signals:\n    - {intent: code, words: ['...']}", "routing.signals.0.words.0", "match pattern"),
        (
            "signals:\n    - {intent: code, words: [a], points: 99}",
            "routing.signals.0.points",
            "less than or equal to 10",
        ),
        ("signals:\n    - {intent: code, words: [a], weight: 1}", "routing.signals.0.weight", "unknown key"),
        ("thresholds: {simple: 0.5}", "routing.thresholds", "simple <= planner <= research is needed"),
        ("thresholds: {research: 1.5}", "routing.thresholds.research", "less than or equal to 1"),
        ("roles: {coding: a}", "routing.roles.coding", "'code'"),
        ("fallbacks: {code: {general: -1}}", "routing.fallbacks.code.general", "greater than or equal to 0"),
        ("technical_term: [a]", "routing.technical_term", "did you mean 'technical_terms'"),
    ],
)
def test_a_problem_is_told_with_its_place(section: str, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        validate(parse_yaml(f"{MODEL}routing:\n  {section}\n", "b.yaml"))
    assert place in raised.value.message
    assert words in raised.value.message


def test_without_the_section_the_limits_are_the_seeds() -> None:
    limits = validate(parse_yaml(MODEL, "b.yaml")).routing.thresholds
    assert (limits.simple, limits.planner, limits.research) == (0.3, 0.4, 0.7)
