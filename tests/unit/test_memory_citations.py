"""What an answer cites must be there, and say what it is cited for."""

from __future__ import annotations

import pytest

from benchai.graphs.citations import Grounded, Quote, complaint, marks_of, shown
from benchai.tools.memory import Recalled

PASSAGES = [
    Recalled("p1", "notes/cat.md:3-4", "2026-05-01", "Our cat **Tom** was born\non 3 May 2019."),
    Recalled("p2", "paper.pdf page 7", "2026-05-02", "The pump moves 40 litres a minute; it stops at 5.2 bar."),
]


def grounded(answer: str, *quotes: tuple[int, str], found: bool = True) -> Grounded:
    return Grounded(quotes=[Quote(source=source, text=text) for source, text in quotes], found=found, answer=answer)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (grounded("Tom was born on 3 May 2019 [1].", (1, "Tom was born on 3 May 2019")), None),
        (grounded("It moves 40 litres [2].", (2, "THE PUMP  moves 40 litres")), None),
        (grounded("Both [1, 2].", (1, "our cat"), (2, "5.2 bar")), None),
        (grounded("", found=False), None),
        (grounded("anything", (9, "x"), found=False), None),
        (grounded("It is Tom [1]."), "a quote"),
        (grounded(" ", (1, "our cat")), "an answer"),
        (grounded("It is Tom [3].", (3, "our cat")), "no passage 3"),
        (grounded("It is Tom [0].", (0, "our cat")), "no passage 0"),
        (grounded("It is Tom [1].", (2, "our cat")), "does not stand in passage 2"),
        (grounded("It is Tom [1].", (1, "our dog Tom")), "does not stand in passage 1"),
        (grounded("It is Tom [1].", (1, "a")), "too short"),
        (grounded("It is Tom.", (1, "our cat")), "cites nothing"),
        (grounded("It is Tom [1] [2].", (1, "our cat")), "cites [2]"),
        (grounded("It moves 45 litres [2].", (2, "The pump moves 40 litres")), "says 45"),
        (grounded("It stops at 5.3 bar [2].", (2, "it stops at 5.2 bar")), "says 5.3"),
        (grounded("Tom was born in 2019, it moves 40 litres [1].", (1, "our cat")), "says 40"),
    ],
)
def test_what_holds_an_answer_up(answer: Grounded, wrong: str | None) -> None:
    told = complaint(answer, PASSAGES)
    assert told is None if wrong is None else wrong in (told or "")


def test_numbers_of_the_question_may_be_said_again() -> None:
    answer = grounded("After 12 minutes it stops at 5.2 bar [2].", (2, "it stops at 5.2 bar"))
    assert complaint(answer, PASSAGES, "What happens after 12 minutes?") is None
    assert "12" in (complaint(answer, PASSAGES) or "")


def test_marks() -> None:
    assert marks_of("a [1], b [2, 3] c [x] [] [1234]") == {1, 2, 3}


def test_sources_are_named_once_and_in_order() -> None:
    assert shown("B [2]. A [1]. B [2].", PASSAGES).splitlines()[-3:] == [
        "Sources:",
        "[1] notes/cat.md:3-4",
        "[2] paper.pdf page 7",
    ]
