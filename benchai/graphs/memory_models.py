"""What makes vectors for the memory and ranks its passages, as a configuration says, and when that is another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from benchai.config import LoadedConfig
from benchai.errors import EndpointNotReady

if TYPE_CHECKING:
    from benchai.agents.scores import Scores
    from benchai.memory.embed import Embedder
    from benchai.memory.rerank import CrossEncoderReranker, Reranker
    from benchai.runtime.endpoints import Endpoints

EMBED, RERANK, ROLE, NONE = "embed", "rerank", "role", "none"
#: Seconds after which a model that is being replaced may be asked again.
AGAIN_SECONDS = 1.0


class Leg(NamedTuple):
    """Who embeds or ranks: ``none``, ``role``, or ``local``; what tells it from others, and its settings."""

    who: str
    model: str = ""
    setting: str | float | None = None


def embeds_by_role(loaded: LoadedConfig) -> bool:
    """Whether a model of the fleet makes the vectors."""
    wanted = loaded.config.memory.embedder
    if wanted != "auto":
        return wanted == ROLE
    model = loaded.config.models.get(loaded.config.roles.get(EMBED) or "")
    return model is not None and (model.embedding or model.remote)


def check_models(loaded: LoadedConfig) -> None:
    """Look whether models serve the roles that the memory asks.

    Raises:
        ConfigError: none does.
    """
    if embeds_by_role(loaded):
        loaded.model_for(EMBED)
    if loaded.config.memory.rerank == ROLE:
        loaded.model_for(RERANK)


class MemoryModels:
    """The models of one configuration; ``endpoints`` None: roles can't be asked."""

    def __init__(self, loaded: LoadedConfig, endpoints: Endpoints | None) -> None:
        self._loaded = loaded
        self._endpoints = endpoints

    def embedding(self) -> Leg:
        """Who makes the vectors, and where they are kept.

        Raises:
            ConfigError: no model serves the role.
        """
        config = self._loaded.config.memory
        if embeds_by_role(self._loaded):
            return Leg(NONE) if self._endpoints is None else Leg(ROLE, _identity(self._loaded), config.chroma)
        if config.embedder in (NONE, "auto"):
            return Leg(NONE)
        return Leg("local", _found(self._loaded, config.embedder), config.chroma)

    def ranking(self) -> Leg:
        """Who orders the first passages anew, and the weight of the words."""
        config = self._loaded.config.memory
        if config.rerank == NONE or (config.rerank == ROLE and self._endpoints is None):
            return Leg(NONE, "", config.lexical_weight)
        if config.rerank == ROLE:
            return Leg(ROLE, "", config.lexical_weight)
        return Leg("local", _found(self._loaded, config.rerank), config.lexical_weight)

    def embedder(self, leg: Leg, scores: Scores | None) -> Embedder | None:
        """What makes vectors; None where nothing does."""
        if leg.who == "local":
            from benchai.memory.local import SentenceTransformerEmbedder

            return SentenceTransformerEmbedder(leg.model)
        if leg.who == NONE or scores is None:
            return None
        from benchai.memory.embed import CallEmbedder

        return CallEmbedder(self._guarded(scores, leg.model), leg.model)

    def reranker(self, leg: Leg, scores: Scores | None) -> Reranker | CrossEncoderReranker | None:
        """What orders the first passages anew; None where nothing does."""
        if leg.who == "local":
            from benchai.memory.rerank import CrossEncoderReranker

            return CrossEncoderReranker(leg.model)
        if leg.who == NONE or scores is None:
            return None
        from benchai.memory.rerank import CallReranker

        return CallReranker(scores.rerank)

    def _guarded(self, scores: Scores, identity: str) -> Callable[[list[str]], Awaitable[list[list[float]]]]:
        """Asks the role, but keeps no vector of another model, which it has from the moment of a reload on."""
        seen = self._loaded

        def check() -> None:
            nonlocal seen
            # a fleet's may change, one that is attached to has none
            present: LoadedConfig = getattr(self._endpoints, "loaded", seen)
            if present is not seen and (not embeds_by_role(present) or _identity(present) != identity):
                raise EndpointNotReady("the role 'embed' is getting another model", retry_after=AGAIN_SECONDS)
            seen = present

        async def embed(texts: list[str]) -> list[list[float]]:
            return await scores.embed(texts, check)

        return embed


def _found(loaded: LoadedConfig, name: str) -> str:
    """A folder, or a name on the hub."""
    folder = loaded.resolve(name)
    return str(folder) if folder.is_dir() else name


def _identity(loaded: LoadedConfig) -> str:
    """Name of the model that embeds, and what else decides its vectors: what its file holds, how they are pooled."""
    from benchai.runtime.fleet.slots import fingerprint

    name, _ = loaded.model_for(EMBED)
    model, file = loaded.config.models[name], loaded.model_file(name)
    if model.remote or file is None or not file.exists():
        return f"{name}:{model.endpoint or model.hf}:{model.model}"
    return f"{name}:{file.stat().st_size}:{fingerprint(file)}:{model.pooling}"
