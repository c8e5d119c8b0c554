"""What a trace tells of the models that a run calls."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from benchai.config import LoadedConfig
from benchai.errors import ConfigError
from benchai.tracing import names
from benchai.tracing.spans import Value

# the conventions have no name for llama.cpp; a remote endpoint speaks OpenAI's wire, whoever runs it
LOCAL, REMOTE = "llama.cpp", "openai"


@dataclass(frozen=True)
class Models:
    """The models of a configuration."""

    loaded: LoadedConfig

    def asked(self, role: str, answered: str) -> str:
        """The model that a role's calls go to; ``answered``, which may have been a fallback, where none is known."""
        try:
            return self.loaded.model_for(role)[0]
        except ConfigError:
            return answered

    def name(self, model: str) -> str:
        """The name that goes over the wire; a model of our own has that of benchai.yaml."""
        entry = self.loaded.config.models.get(model)
        return model if entry is None or entry.model is None else entry.model

    def attributes(self, model: str) -> dict[str, Value]:
        """Who provides a model, and where a remote one is."""
        entry = self.loaded.config.models.get(model)
        if entry is None or entry.endpoint is None:
            return {names.PROVIDER: LOCAL}
        parts = urlsplit(entry.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return {names.PROVIDER: REMOTE, names.SERVER: parts.hostname or "", names.PORT: port}
