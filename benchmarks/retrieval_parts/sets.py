"""Evaluation sets and the formats they are published in. None of them is shipped but benchmarks/data/retrieval.json."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchai.errors import UsageError
from benchai.memory.types import Document, Piece

OWN = Path(__file__).parents[1] / "data" / "retrieval.json"
_DIALOG = re.compile(r"D\d+:\d+")


@dataclass(frozen=True)
class Spoken:
    """A turn of a conversation; ``at`` in seconds since 1970."""

    id: str
    name: str
    text: str
    at: float


@dataclass(frozen=True)
class Question:
    """What is asked in a space, and what should be found, with its gain; ``group`` for figures of their own."""

    text: str
    good: dict[str, float]
    space: str = "all"
    group: str = ""


@dataclass
class Space:
    """What is searched as one. The ids of a document are those of its pieces, in order."""

    documents: list[tuple[Document, list[str]]] = field(default_factory=list)
    threads: dict[str, list[Spoken]] = field(default_factory=dict)


@dataclass
class Collection:
    """Spaces by name, and the questions to them."""

    name: str
    spaces: dict[str, Space]
    questions: list[Question]


def read(path: Path) -> Collection:
    """Whatever set a file or folder holds.

    Raises:
        UsageError: it is none of the formats, or is broken.
    """
    readers = [(path / "corpus.jsonl", beir), (path / "code_idx_map.txt", cosqa), (path / "locomo10.json", locomo)]
    try:
        for file, reader in readers:
            if file.is_file():
                return reader(path)
        if path.suffix == ".json" and path.is_file():
            return own(path) if isinstance(json.loads(path.read_text("utf-8")), dict) else locomo(path)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(f"{str(path)!r} can't be read: {type(error).__name__}: {error}", hint=_FORMATS) from error
    raise UsageError(f"{str(path)!r} holds no set that is known", hint=_FORMATS)


_FORMATS = (
    "known are BEIR (corpus.jsonl, queries.jsonl, qrels/test.tsv), LoCoMo (locomo10.json), "
    "CoSQA (code_idx_map.txt, cosqa-retrieval-test-500.json) and that of benchmarks/data/retrieval.json"
)


def document(source: str, ids: list[str], pieces: list[Piece], title: str = "", media: str = "text") -> Any:
    """A document of a space; line N of a piece stands for the Nth id."""
    numbered = [piece.model_copy(update={"line": place}) for place, piece in enumerate(pieces, 1)]
    made = Document(source=source, title=title, media=media, hash=source, size=1, pieces=tuple(numbered))
    return made, ids


def own(file: Path = OWN) -> Collection:
    """The set of this repository: documents with pieces, threads with turns, questions with the ids that are good."""
    data = json.loads(file.read_text("utf-8"))
    space = Space()
    for one in data["documents"]:
        pieces = [Piece(text=piece["text"], heading=piece["heading"]) for piece in one["pieces"]]
        ids = [piece["id"] for piece in one["pieces"]]
        space.documents.append(document(one["source"], ids, pieces, one["title"], one["media"]))
    for thread in data["threads"]:
        space.threads[thread["thread"]] = [Spoken(**turn) for turn in thread["turns"]]
    kinds = {piece: one["media"] for one in data["documents"] for piece in (part["id"] for part in one["pieces"])}
    questions = [
        Question(one["text"], dict.fromkeys(one["good"], 1.0), group=_group(kinds.get(one["good"][0])))
        for one in data["questions"]
    ]
    return Collection("own", {"all": space}, questions)


def _group(media: str | None) -> str:
    return {None: "turns", "code": "code"}.get(media, "documents")


def locomo(path: Path) -> Collection:
    """LoCoMo as published: a list of samples with ``conversation`` (session_N, session_N_date_time) and ``qa``."""
    data = json.loads((path / "locomo10.json" if path.is_dir() else path).read_text("utf-8"))
    spaces, questions = {}, []
    for sample in data:
        name, talk = str(sample["sample_id"]), sample["conversation"]
        spoken = list(_sessions(talk))
        spaces[name] = Space(threads={name: spoken})
        known = {turn.id for turn in spoken}
        for qa in sample["qa"]:
            # a few stand as "D8:6; D9:17" in one text
            evidence = [found for text in qa.get("evidence", []) for found in _DIALOG.findall(text) if found in known]
            if evidence:
                good = dict.fromkeys(evidence, 1.0)
                questions.append(Question(str(qa["question"]), good, name, f"category {qa['category']}"))
    return Collection("LoCoMo", spaces, questions)


def _sessions(talk: dict[str, Any]) -> Iterator[Spoken]:
    numbers = sorted(int(key[8:]) for key in talk if re.fullmatch(r"session_\d+", key))
    for number in numbers:
        when = talk.get(f"session_{number}_date_time", "")
        at = datetime.strptime(when, "%I:%M %p on %d %B, %Y").timestamp() if when else 0.0
        for place, turn in enumerate(talk[f"session_{number}"]):
            # what a shared picture shows was said as well
            text = turn["text"] + (f" (picture: {turn['blip_caption']})" if turn.get("blip_caption") else "")
            yield Spoken(turn["dia_id"], turn["speaker"], text, at + place)


def beir(folder: Path, split: str = "test") -> Collection:
    """A BEIR folder, such as SciFact: corpus.jsonl and queries.jsonl (_id, title, text), qrels/test.tsv."""
    space = Space()
    for row in _rows(folder / "corpus.jsonl"):
        title = row.get("title", "")
        space.documents.append(document(row["_id"], [row["_id"]], [Piece(text=row["text"])], title))
    gains: dict[str, dict[str, float]] = {}
    with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if float(row["score"]) > 0:
                gains.setdefault(row["query-id"], {})[row["corpus-id"]] = float(row["score"])
    texts = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    return Collection(folder.name, {"all": space}, [Question(texts[query], good) for query, good in gains.items()])


def cosqa(folder: Path) -> Collection:
    """CoSQA as in the CoCLR repository: every code with its number, and 500 questions with that of their code."""
    space = Space()
    codes: dict[str, int] = json.loads((folder / "code_idx_map.txt").read_text("utf-8"))
    for code, number in codes.items():
        space.documents.append(document(f"{number}.py", [str(number)], [Piece(text=code)], media="code"))
    asked = json.loads((folder / "cosqa-retrieval-test-500.json").read_text("utf-8"))
    return Collection(
        "CoSQA", {"all": space}, [Question(one["doc"], {str(one["retrieval_idx"]): 1.0}) for one in asked]
    )


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)
