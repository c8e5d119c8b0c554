"""Which words of a question count, and by which other words a text is found."""

from __future__ import annotations

import pytest

from benchai.memory.lexical import MOST_WORDS, words_of
from benchai.memory.wording import dates_of, parts_of, split


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is the capital of France?", ["capital", "france"]),
        ("to be or not to be", ["to", "be", "or", "not"]),
        ("", []),
        ("?!", []),
        ("open OPEN Open", ["open"]),
        ("where is getUserName set", ["getusername", "get", "user", "name", "set"]),
        ("the is_file flag", ["is_file", "file", "flag"]),
        ("don't", ["don"]),
        ("utf8 and error E12", ["utf8", "utf", "8", "error", "e12", "12"]),
        ("Straße", ["straße"]),
        ("said on 2023-05-07?", ["said", "2023", "05", "07", "may", "7"]),
    ],
)
def test_words_of_a_question(question: str, words: list[str]) -> None:
    assert words_of(question) == words


def test_a_long_text_is_asked_by_its_first_words() -> None:
    assert words_of(" ".join(f"word{place}" for place in range(500)))[-1].startswith("word")
    assert len(words_of(" ".join(f"{chr(97 + place % 26)}{place}x" for place in range(500)))) == MOST_WORDS


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("getUserName", ["get", "user", "name"]),
        ("get_user_name", ["get", "user", "name"]),
        ("HTTPServer2", ["http", "server", "2"]),
        ("parseJSON", ["parse", "json"]),
        ("naïveBayes", ["naïve", "bayes"]),
        ("plain", ["plain"]),
        ("MAX_SIZE", ["max", "size"]),
        ("__", []),
    ],
)
def test_parts_of_an_identifier(word: str, parts: list[str]) -> None:
    assert split(word) == parts


def test_only_what_the_index_does_not_cut_itself_is_added() -> None:
    assert parts_of("def getUserName(self): return HTTPServer.read_file(x, fooBar, getUserName)") == (
        "get user name http server foo bar"
    )
    assert parts_of("Plain words, MAX_SIZE and read_file.") == ""
    assert len(parts_of(" ".join(f"aB{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(600))).split()) == 200


def test_dates_get_the_name_of_their_month() -> None:
    assert dates_of("between 2024-02-14 and 2023-12-01") == ["february", "14", "december", "1"]
    assert dates_of("2024-13-14, 20240214, 1.2.2024") == []
