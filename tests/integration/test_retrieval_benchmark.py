"""The benchmark of retrieval: the formats it reads, what it counts, and a run of it on small examples of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchai.errors import UsageError
from benchmarks import retrieval
from benchmarks.retrieval_parts import machine, peers, sets, speed, vectors
from benchmarks.retrieval_parts.sets import Question

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLES = Path(__file__).parents[1] / "fixtures" / "retrieval"
PATHS = {"LoCoMo": EXAMPLES / "locomo10.json", "beir": EXAMPLES / "beir", "CoSQA": EXAMPLES / "cosqa", "own": sets.OWN}


def test_locomo_is_read_by_conversation_with_times_pictures_and_evidence() -> None:
    found = sets.read(PATHS["LoCoMo"])
    spoken = found.spaces["conv-1"].threads["conv-1"]
    assert [one.id for one in spoken] == ["D1:1", "D1:2", "D1:3", "D2:1", "D2:2"]
    assert spoken[1].text == "Which colour? (picture: a green boat on a lake)"
    assert spoken[3].at == datetime(2023, 6, 11, 10, 5).timestamp()
    assert [(one.space, one.good, one.group) for one in found.questions] == [
        ("conv-1", {"D1:1": 1.0}, "category 4"),
        ("conv-1", {"D2:1": 1.0, "D2:2": 1.0}, "category 2"),
        ("conv-2", {"D1:1": 1.0}, "category 4"),
    ]


def test_beir_is_read_with_the_gains_of_its_test_split() -> None:
    found = sets.read(PATHS["beir"])
    assert [ids for _, ids in found.spaces["all"].documents] == [["11"], ["12"], ["13"]]
    assert found.spaces["all"].documents[0][0].title == "Honey bees and caffeine"
    assert [(one.text[:8], one.good) for one in found.questions] == [
        ("Caffeine", {"11": 1.0}),
        ("Octopuse", {"12": 1.0}),
    ]


def test_cosqa_is_read_with_the_numbers_of_its_codes() -> None:
    found = sets.read(PATHS["CoSQA"])
    assert [ids for _, ids in found.spaces["all"].documents] == [["0"], ["7"]]
    assert [one.good for one in found.questions] == [{"0": 1.0}, {"7": 1.0}]


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", "[{}]"), ("a.json", "{"), ("a.json", '{"documents": []}'), ("a.txt", "x"), ("b", "")]
)
def test_what_is_none_of_the_formats_is_refused(tmp_path: Path, name: str, text: str) -> None:
    if text:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=name) as caught:
        sets.read(tmp_path / name)
    assert "BEIR" in str(caught.value.hint)


def test_figures_are_means_over_the_questions() -> None:
    asked = [Question("a", {"1": 1.0, "2": 1.0}), Question("b", {"3": 1.0})]
    rankings = [["9", "1", *"abcdefg", "2"], ["x"]]
    assert retrieval.figures(asked, rankings) == {
        "R@5": 0.25,
        "R@10": 0.5,
        "R@25": 0.5,
        "R@50": 0.5,
        "nDCG@10": pytest.approx(0.28, abs=0.01),
        "MRR": 0.25,
    }


def test_the_baseline_knows_a_turn_by_its_neighbours() -> None:
    space = sets.read(PATHS["LoCoMo"]).spaces["conv-1"]
    assert (
        peers.texts_of(space)["D2:2"] == "Ben: I passed the exam for the pilot licence!\nAda: Then fly us to the sea."
    )


@pytest.mark.parametrize("name", sorted(set(PATHS) - {"own"}))
@pytest.mark.anyio
async def test_every_format_goes_through_all_ways(name: str) -> None:
    report = await retrieval.quality(sets.read(PATHS[name]))
    assert report["set"] == name
    assert report["ways"]["lexical"]["R@5"] == report["ways"]["plain FTS5"]["R@50"] == 1.0
    assert report["ways"]["lexical"]["MRR"] >= 0.75
    shown = retrieval.table(report)
    assert "plain FTS5" in shown
    assert ("category 4" in shown) == (name == "LoCoMo")


class ByLetters:
    """An embedder of this process for tests: a number for each letter."""

    fingerprint, dimension, truncated = "by letters", 26, 0

    async def prepare(self) -> None:
        """Nothing is to be found out."""

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        import numpy as np

        counts = [[text.lower().count(chr(97 + place)) + 1e-3 for place in range(26)] for text in texts]
        found = np.array(counts, np.float32).reshape(len(texts), 26)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    async def close(self) -> None:
        """Nothing is kept."""


@pytest.mark.anyio
async def test_vectors_take_part_beside_plain_chroma() -> None:
    report = await retrieval.quality(sets.read(PATHS["beir"]), ByLetters())
    assert {"lexical", "dense", "fused", "plain FTS5", "plain Chroma"} <= set(report["ways"])
    assert report["ways"]["dense"]["R@5"] == report["ways"]["plain Chroma"]["R@5"] == 1.0
    assert report["ways"]["fused"]["MRR"] == 1.0


def test_speed_is_measured_on_texts_of_this_machine() -> None:
    found = speed.measure(300, rounds=1)
    assert found["chunks/s"] > 0
    assert found["recall of the first ten"] == 1.0
    assert set(found["search, ms"]) == {"p50", "p90", "p99"}
    assert "At 300 chunks" in speed.table(found)


@pytest.mark.anyio
async def test_the_time_of_vectors_is_measured_beside_plain_chroma() -> None:
    found = await vectors.measure(60, rounds=1)
    assert found["ours, both legs, ms"]["p50"] >= found["ours, vectors' leg, ms"]["p50"] > 0
    assert found["plain Chroma, vectors/s"] > 0


def test_texts_of_this_machine_are_cut_to_the_number_asked_for() -> None:
    found = list(machine.documents(250))
    assert sum(len(one.pieces) for one in found) == 250
    assert all(len(piece.text.split()) >= machine.LEAST for one in found for piece in one.pieces)


def test_the_command_tells_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retrieval.main(["--data", str(tmp_path), "--skip-speed"]) == 2
    assert "holds no set" in capsys.readouterr().err


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert retrieval.main(["--data", str(PATHS["CoSQA"]), "--skip-speed", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["speed"] == []
    assert found["quality"][0]["questions"] == 2
