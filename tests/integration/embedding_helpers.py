"""A server of the OpenAI wire that embeds, as slowly and as badly as a test wants."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Any

from benchai.testing import Reply, ScriptedServer, text

#: Numbers in a vector of each of its models.
DIMENSIONS = {"one": 64, "two": 32}


class Embeds(ScriptedServer):
    """Its models ``one`` and ``two`` count words by their hash; ``scripted`` talks, and scores texts by their length.

    Attributes:
        embedded: Model and text of each text that was to be embedded, in their order.
        held: A text that holds it is not answered before ``go`` is set.
        broken: Whether it answers questions for vectors with nothing that makes sense.
    """

    def __init__(self, *replies: Reply) -> None:
        super().__init__(*(replies or (text("Noted."),)))
        self.embedded: list[tuple[str, str]] = []
        self.held = ""
        self.broken = False
        self.go = threading.Event()
        self.waits = threading.Event()

    def about(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        if path == "/v1/embeddings":
            return self._vectors(body["model"], body["input"])
        if path == "/v1/rerank":
            scores = [{"index": place, "relevance_score": -len(one)} for place, one in enumerate(body["documents"])]
            return {"results": scores}
        return super().about(path, body)

    def config(self, **extra: Any) -> dict[str, Any]:
        models = {name: {"endpoint": self.url, "model": name} for name in DIMENSIONS} | {"m": self.model()}
        return {"models": models, "roles": {"general": "m", "embed": "one", "rerank": "m"}} | extra

    def texts(self, model: str) -> list[str]:
        return [text for name, text in self.embedded if name == model]

    def _vectors(self, model: str, texts: list[str]) -> dict[str, Any]:
        self.embedded += [(model, one) for one in texts]
        if self.held and any(self.held in one for one in texts):
            self.waits.set()
            assert self.go.wait(20)
        if self.broken:
            return {"data": "none"}
        rows = [{"index": place, "embedding": vector(one, DIMENSIONS[model])} for place, one in enumerate(texts)]
        return {"data": rows}


def vector(words: str, dimension: int) -> list[float]:
    found = [0.01] * dimension
    for word in words.lower().split():
        found[int(hashlib.md5(word.encode()).hexdigest(), 16) % dimension] += 1
    return found
