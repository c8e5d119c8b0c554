"""What counts as the same subject, relation and value."""

from __future__ import annotations

import pytest

from benchai.memory.relations import is_single, line_key, relation_key, says, subject_key, value_key


@pytest.mark.parametrize(
    ("written", "kept"),
    [("lives in", "lives_in"), ("Resides-In", "lives_in"), ("favorite colour", "favourite_colour"), ("Likes", "likes")],
)
def test_names_of_one_relation(written: str, kept: str) -> None:
    assert relation_key(written) == kept


@pytest.mark.parametrize("relation", ["lives in", "employer", "favorite food", "preferred_units", "age", "version"])
def test_relations_of_one_value(relation: str) -> None:
    assert is_single(relation)


@pytest.mark.parametrize("relation", ["likes", "owns", "note", "invented", "plans"])
def test_relations_of_many_values(relation: str) -> None:
    assert not is_single(relation)


def test_keys_leave_out_what_does_not_matter() -> None:
    assert value_key("  Green  TEA. ") == value_key("green tea")
    assert value_key("...") == "..."
    assert subject_key("The user") == subject_key("I") == "user"
    assert line_key("Ada", "lives in") == line_key("ada", "city") != line_key("ada", "likes")


def test_the_same_is_said_only_with_the_same_words_that_count() -> None:
    assert says("The user likes tea.") == says("user likes the tea")
    assert says("The user does not like tea") != says("The user does like tea")
    assert says("I was") != frozenset()
