"""What a lease grants besides the address: time-outs, token limits, keys."""

from __future__ import annotations

import os

from benchai.config import LoadedConfig, ModelConfig
from benchai.config.models import REASONING_ROLES
from benchai.errors import ConfigError
from benchai.runtime.endpoints import Endpoint, Placement


def remote_endpoint(loaded: LoadedConfig, role: str, name: str) -> Endpoint:
    """The endpoint of a model that somebody else serves.

    Raises:
        ConfigError: the variable that holds its key is not set, or holds no key.
    """
    model = loaded.config.models[name]
    return Endpoint(
        role=role,
        model=name,
        base_url=str(model.endpoint).rstrip("/"),
        served_name=str(model.model),
        n_ctx=model.context,
        placement="remote",
        idle_timeout=idle_timeout(loaded, "remote"),
        total_timeout=loaded.config.router.timeouts.total,
        max_tokens=max_tokens(loaded, role, model, "remote"),
        api_key=_api_key(name, model),
        temperature=model.temperature,
        top_p=model.top_p,
    )


def idle_timeout(loaded: LoadedConfig, placement: Placement) -> float:
    """Seconds without a token that end a call, by where the model runs."""
    timeouts = loaded.config.router.timeouts
    return timeouts.cpu if placement == "cpu" else timeouts.gpu


def max_tokens(loaded: LoadedConfig, role: str, model: ModelConfig, placement: Placement) -> int:
    """Tokens of one reply at most."""
    caps = loaded.config.router.max_tokens
    on_cpu = caps.cpu_reasoning if role in REASONING_ROLES else caps.cpu
    return model.max_tokens or (on_cpu if placement == "cpu" else caps.gpu)


def _api_key(name: str, model: ModelConfig) -> str | None:
    if model.api_key_env is None:
        return None
    key = os.environ.get(model.api_key_env, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        hint = "copy the key again: letters, digits and punctuation only"
        raise ConfigError(
            f"models.{name}.api_key_env: {model.api_key_env!r} holds characters that no key has", hint=hint
        )
    if not key:
        raise ConfigError(
            f"models.{name}.api_key_env: the environment variable {model.api_key_env!r} is not set",
            hint=f"export {model.api_key_env}=...",
        )
    return key
