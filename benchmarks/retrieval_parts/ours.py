"""A collection in a memory of ours: put, and asked by words alone or with vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchai.memory.database import Database
from benchai.memory.memory import FILE, Memory
from benchai.memory.namespace import Namespace
from benchai.memory.search import Query, lexical_leg
from benchai.memory.store import Store
from benchai.memory.turns import Said, Turns
from benchmarks.retrieval_parts.sets import Collection, Question

DEPTH = 100
Rankings = list[list[str]]


class Ours:
    """The memory of a folder with a collection in it.

    Attributes:
        ids: Of the collection, by the number of the passage.
    """

    def __init__(self, folder: Path, collection: Collection) -> None:
        self.folder = folder
        self.ids: dict[int, str] = {}
        with Database(folder / FILE) as database:
            for name, space in collection.spaces.items():
                ns = self.namespace(name)
                Store(database).put(ns, [one for one, _ in space.documents])
                turns = {
                    number: said.id
                    for thread, spoken in space.threads.items()
                    for number, said in zip(
                        Turns(database).record(
                            ns,
                            thread,
                            "",
                            [Said(role="user", name=one.name, text=one.text, at=one.at) for one in spoken],
                        ),
                        spoken,
                        strict=True,
                    )
                }
                self._know(database, {one.source: ids for one, ids in space.documents}, turns, database.own(ns))

    @staticmethod
    def namespace(space: str) -> Namespace:
        """Each space is a project."""
        return Namespace(project=space)

    def _know(self, database: Database, documents: Mapping[str, list[str]], turns: dict[int, str], ns: int) -> None:
        rows = database.connection.execute(
            "SELECT p.id, p.kind, p.owner, d.source, p.line FROM passages p "
            "LEFT JOIN documents d ON p.kind = 'document' AND d.id = p.owner WHERE p.ns = ?",
            (ns,),
        )
        for number, kind, owner, source, line in rows:
            self.ids[number] = turns[owner] if kind == "turn" else documents[source][line - 1]

    def lexical(self, questions: Sequence[Question]) -> Rankings:
        """What the words find."""
        with Database(self.folder / FILE, reading=True) as database:
            return [
                self.named(number for number, _ in lexical_leg(database, self.namespace(one.space), _query(one))[1])
                for one in questions
            ]

    async def dense(self, questions: Sequence[Question], embedder: Any, weight: float) -> dict[str, Rankings]:
        """What the vectors find, and both fused; every passage is embedded before."""
        found: dict[str, Rankings] = {"dense": [], "fused": []}
        async with Memory.open(self.folder, embedder=embedder, lexical_weight=weight) as memory:
            await memory.index()
            for question in questions:
                passages = (await memory.search(self.namespace(question.space), _query(question))).passages
                dense = sorted((one.legs["dense"].rank, one.id) for one in passages if "dense" in one.legs)
                found["dense"].append(self.named(int(id[1:]) for _, id in dense))
                found["fused"].append(self.named(int(one.id[1:]) for one in passages))
        return found

    def named(self, numbers: Any) -> list[str]:
        """Passages as the collection names them, each once: a long turn has several."""
        return list(dict.fromkeys(self.ids[number] for number in numbers))


def _query(question: Question) -> Query:
    return Query(text=question.text, count=DEPTH)
