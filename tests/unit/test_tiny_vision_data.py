"""The data of the tiny vision model: the two sides of its split never meet, and a seed fixes what is drawn.

Nothing is painted here; the benchmark does that.
"""

from __future__ import annotations

import json
import random
from itertools import islice, pairwise

import pytest

from scripts.tiny_model.prompts import prompt
from scripts.tiny_model.split import Draw, is_held_out
from scripts.tiny_model.tools import SHIPPED
from scripts.tiny_vision import data, questions
from scripts.tiny_vision.labels import GRID, IGNORED, SIZES, labels
from scripts.tiny_vision.questions import MARKER, Question, description, question, reading
from scripts.tiny_vision.scene import COLOURS, FORMS, KINDS, Scene, Shape, in_order


def drawn(held_out: bool, each: int) -> dict[str, set[str]]:
    """Every number, place and phrasing of `each` questions of each kind."""
    draw = Draw(random.Random(5), held_out)
    for kind in KINDS:
        for _ in range(each):
            question(draw, kind)
    return draw.drawn


def held_out_questions() -> list[Question]:
    return [one for kind in KINDS for agent in (False, True) for one in data.held_out(kind, agent, 60)]


def scenes(asked: list[Question]) -> list[Scene]:
    return [one.scene for one in asked if one.scene]


@pytest.fixture(scope="module")
def sides() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What two thousand questions of either side hold."""
    return drawn(False, 700), drawn(True, 250)


@pytest.mark.parametrize(("kind", "least"), [("number", 100), ("place", 300), ("phrase", 12)])
def test_training_and_held_out_values_are_disjoint(
    sides: tuple[dict[str, set[str]], dict[str, set[str]]], kind: str, least: int
) -> None:
    training, held_out = (side[kind] for side in sides)
    assert len(training) > len(held_out)
    assert len(held_out) > least
    assert training.isdisjoint(held_out)


def test_the_stream_of_training_shows_no_held_out_digits_or_places() -> None:
    for one in islice(data.training(3), 800):
        if one.scene:
            assert not any(is_held_out("place", place) for place in one.scene.places)
            assert not (one.scene.number and is_held_out("number", one.scene.number.text))


def test_held_out_pictures_show_only_held_out_digits_and_places() -> None:
    for scene in scenes(held_out_questions()):
        assert all(is_held_out("place", place) for place in scene.places)
        assert scene.number is None or is_held_out("number", scene.number.text)
        assert scene.places


def test_a_hasty_phrasing_of_training_is_no_held_out_one() -> None:
    asked = {one.text for one in held_out_questions()}
    assert asked.isdisjoint(one.text for one in islice(data.training(8), 1000))


def test_a_seed_fixes_the_questions() -> None:
    assert list(islice(data.training(11), 50)) == list(islice(data.training(11), 50))
    assert list(islice(data.training(11), 50)) != list(islice(data.training(12), 50))
    assert data.held_out("number", True, 5, seed=3) == data.held_out("number", True, 5, seed=3)
    assert data.held_out("number", True, 5, seed=3) != data.held_out("number", True, 5, seed=4)


def test_every_colour_form_and_digit_is_asked_for() -> None:
    shown = scenes(held_out_questions())
    shapes = [shape for scene in shown for shape in scene.shapes]
    assert {shape.colour for shape in shapes} == set(COLOURS)
    assert {shape.form for shape in shapes} == set(FORMS)
    assert {digit for scene in shown if scene.number for digit in scene.number.text} == set("0123456789")
    assert {len(scene.number.text) for scene in shown if scene.number} == {2, 3, 4}


def test_what_is_shown_lies_within_the_picture() -> None:
    for scene in scenes(list(islice(data.training(2, pictures_only=True), 500))):
        for shape in scene.shapes:
            assert shape.size / 2 <= shape.x <= scene.width - shape.size / 2
            assert shape.size / 2 <= shape.y <= scene.height - shape.size / 2
        if number := scene.number:
            assert number.width / 2 <= number.x <= scene.width - number.width / 2
            assert number.height / 2 <= number.y <= scene.height - number.height / 2


def shape(colour: str, form: str, x: float, y: float) -> Shape:
    return Shape(colour, form, x, y, 0.34, (0, 0, 0))


@pytest.mark.parametrize(
    ("first", "second"),
    [((0.2, 0.8), (0.8, 0.5)), ((0.2, 0.5), (0.8, 0.2)), ((0.6, 0.2), (0.3, 0.8)), ((0.5, 0.2), (0.5, 0.8))],
)
def test_shapes_are_named_left_to_right_or_else_downwards(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    one, other = shape("red", "circle", *first), shape("blue", "star", *second)
    assert in_order(one, other)
    assert not in_order(other, one)


def picture(*shapes: Shape) -> Scene:
    return Scene(1.0, 1.0, 64, (255, 255, 255), shapes, None, None, ())


def test_descriptions_are_sentences() -> None:
    red, orange = shape("red", "circle", 0.3, 0.5), shape("orange", "star", 0.7, 0.5)
    assert description(picture(red)) == "A red circle."
    assert description(picture(orange)) == "An orange star."
    assert description(picture(red, orange)) == "A red circle and an orange star."
    assert reading(picture(red)) == questions.NO_NUMBER
    (numbered,) = scenes(data.held_out("number", False, 1))
    assert numbered.number
    assert description(numbered) == f"The number {numbered.number.text}."
    assert reading(numbered) == f"The number is {numbered.number.text}."


def test_the_agent_asks_with_its_prompt_and_the_shipped_tools() -> None:
    (asked,) = data.held_out("one shape", True, 1)
    assert asked.system == prompt("react")
    assert asked.tools == list(SHIPPED)
    (alone,) = data.held_out("one shape", False, 1)
    assert (alone.system, alone.tools) == ("", [])


def test_a_question_carries_its_picture_before_or_after_the_text() -> None:
    asked = held_out_questions()
    assert {one.picture_first for one in asked} == {True, False}
    for one in asked:
        content = one.conversation("data:image/png;base64,AA==").messages[-2]["content"]
        kinds = ["image_url", "text"] if one.picture_first else ["text", "image_url"]
        assert [part["type"] for part in content] == kinds
        marked = one.conversation().messages[-2]["content"]
        assert marked.replace(MARKER, "") == one.text
        assert json.dumps(content)


def test_a_patch_knows_what_it_shows() -> None:
    found = labels(picture(shape("red", "circle", 0.25, 0.5), shape("blue", "star", 0.75, 0.5)))
    assert set(found["role"]) == {0, 2, 3, IGNORED}
    assert set(found["colour"]) == {list(COLOURS).index("red"), list(COLOURS).index("blue"), IGNORED}
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(SIZES, (GRID * GRID,))


def test_the_digits_of_a_number_are_labelled_from_left_to_right() -> None:
    for scene in scenes(data.held_out("number", False, 100)):
        assert scene.number
        found = labels(scene)
        rows = found["digit"].reshape(GRID, GRID)
        seen = {int(value) for value in rows.ravel() if value != IGNORED}
        assert seen <= {int(digit) for digit in scene.number.text}
        for row in found["role"].reshape(GRID, GRID):
            places = [int(role) for role in row if role > 0]
            assert all(before <= after for before, after in pairwise(places))
