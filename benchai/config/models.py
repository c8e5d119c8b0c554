"""The pydantic models of benchai.yaml.

Two forms load: the short one, in which a model's name is also its role, and the full one with ``roles:``.
Times are seconds, sizes of contexts and batches are tokens.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from benchai.config.agent import AgentConfig
from benchai.config.cache import CacheConfig
from benchai.config.fleet import EngineConfig, FleetConfig, RouterConfig, TokenCaps
from benchai.config.hub import split_reference
from benchai.config.memory import MemoryConfig
from benchai.config.routing import RoutingConfig
from benchai.config.section import (
    REASONING_ROLES,
    ROLES,
    TEXT_ROLES,
    Count,
    Host,
    Natural,
    Port,
    Seconds,
    Section,
    VariableName,
)
from benchai.config.server import ServerConfig
from benchai.config.tensors import tensor_place
from benchai.config.threads import ThreadsConfig
from benchai.config.tools import Decision, McpServer, PermissionRule, ToolsConfig
from benchai.config.usage import UsageConfig
from benchai.errors import ConfigError

__all__ = [
    "BUILTIN",
    "REASONING_ROLES",
    "ROLES",
    "TINY",
    "TINY_DRAFT",
    "TINY_VISION",
    "Config",
    "Decision",
    "DraftConfig",
    "EngineConfig",
    "KVType",
    "McpServer",
    "ModelConfig",
    "NgramConfig",
    "PermissionRule",
    "RouterConfig",
    "ThreadsConfig",
    "TokenCaps",
    "ToolsConfig",
    "default_config",
]

TINY = "builtin:tiny"
TINY_DRAFT = "builtin:tiny-draft"
TINY_VISION = "builtin:tiny-vision"
BUILTIN = "builtin:"

KVType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
Temperature = Annotated[float, Field(ge=0, le=5, strict=True)]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Layers = Natural | Literal["auto", "all"]
Probability = Annotated[float, Field(ge=0, le=1, strict=True)]
TensorPlace = Annotated[str, AfterValidator(tensor_place)]

_NAME = re.compile(r"\w[^,/\\]{0,98}[^,/\\\s]|\w")
# what may be set beside endpoint
REMOTE_KEYS = {"endpoint", "model", "api_key_env", "context", "max_tokens", "temperature", "top_p"}


class DraftConfig(Section):
    """A small model of the same vocabulary that drafts tokens (speculative decoding)."""

    file: str = Field(description="GGUF of the draft model, or builtin:tiny-draft")
    max_tokens: Count = Field(16, description="Tokens drafted at most in one go (--spec-draft-n-max)")
    min_probability: Probability = Field(
        0.75, description="Drafting ends at a token that the draft is less sure of (--spec-draft-p-min)"
    )
    gpu_layers: Layers | None = Field(None, description="Layers on the GPU (-ngld)")
    cache_type_k: KVType | None = Field(None, description="Type of the draft's K cache (-ctkd)")
    cache_type_v: KVType | None = Field(None, description="Type of the draft's V cache (-ctvd)")


class NgramConfig(Section):
    """Drafting from what the model has read and written before, without a draft model."""

    match: Count = Field(24, description="Tokens that must repeat before any are drafted (--spec-ngram-mod-n-match)")
    min_tokens: Natural = Field(48, description="Fewest tokens drafted in one go (--spec-ngram-mod-n-min)")
    max_tokens: Count = Field(64, description="Most tokens drafted in one go (--spec-ngram-mod-n-max)")

    @model_validator(mode="after")
    def _sizes_agree(self) -> NgramConfig:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens} is more than max_tokens: {self.max_tokens}")
        return self


class ModelConfig(Section):
    """One entry of ``models:``: where the model comes from, and how it is launched.

    Exactly one of ``file``, ``hf`` and ``endpoint`` is set. Launch settings that are not set are left to
    the engine's own defaults, except those that this class gives a default.
    """

    file: str | None = Field(None, description="Path of a GGUF file, builtin:tiny or builtin:tiny-vision")
    hf: str | None = Field(None, description="Hugging Face repository: owner/name[:file.gguf or quantisation]")
    endpoint: str | None = Field(None, description="Base URL of a remote OpenAI-compatible server")
    model: str | None = Field(None, description="Model name that the remote endpoint expects")
    api_key_env: VariableName | None = Field(None, description="Environment variable that holds the endpoint's key")

    context: Natural | None = Field(None, description="Context in tokens (-c); 0: the model's own")
    gpu_layers: Layers = Field("auto", description="Layers on the GPU (-ngl); 0 keeps the model on the CPU")
    cpu_moe: Layers = Field(
        "auto",
        description="Layers whose experts stay in RAM while the rest is on the GPU (--n-cpu-moe); auto: as few as fit",
    )
    override_tensors: list[TensorPlace] = Field(
        default_factory=list, description="Tensors by regex and where they go (-ot): 'ffn_up_exps=CPU'"
    )
    threads: Count | None = Field(None, description="CPU threads for generation (-t)")
    threads_batch: Count | None = Field(None, description="CPU threads for prompts (-tb)")
    batch_size: Count | None = Field(None, description="Prompt tokens in one batch (-b)")
    ubatch_size: Count | None = Field(None, description="Tokens in one physical batch (-ub)")
    flash_attn: bool | Literal["auto"] = Field("auto", description="Flash attention (-fa)")
    cont_batching: bool = Field(True, description="Continuous batching (-cb)")
    slots: Count | None = Field(
        None, description="Parallel requests (-np); default: the concurrency of the model's roles, at most 4"
    )
    cache_type_k: KVType | None = Field(None, description="Type of the K cache (-ctk)")
    cache_type_v: KVType | None = Field(None, description="Type of the V cache (-ctv); quantised needs flash attention")
    swa_full: bool = Field(
        False, description="Sliding-window layers keep the whole context (--swa-full): saved contexts can be restored"
    )
    cache_reuse: Natural | None = Field(None, description="Smallest chunk reused by shifting")
    cache_ram: Natural = Field(
        256, description="MiB of RAM for the contexts of earlier prompts (--cache-ram); the engine's own is 8192"
    )
    load_mode: Literal["none", "mmap", "mlock", "mmap+mlock", "dio"] | None = Field(
        None, description="How weights are read (--load-mode)"
    )
    mlock: bool = Field(False, description="Lock the weights in RAM; the same as load_mode: mlock")
    slot_save_path: str | None = Field(None, description="Folder of saved KV caches; default: the user's cache folder")
    metrics: bool = Field(True, description="Serve /metrics")
    jinja: bool = Field(True, description="Use the model's chat template")
    chat_template_file: str | None = Field(None, description="A chat template in place of the model's")
    mmproj: str | None = Field(None, description="GGUF of the vision projector")
    draft: DraftConfig | None = Field(None, description="Draft model for speculative decoding")
    ngram: bool | NgramConfig = Field(
        False, description="Speculative decoding from the n-grams of earlier text; true, or its sizes"
    )
    lora: list[str] = Field(default_factory=list, description="LoRA adapters (GGUF)")
    embedding: bool = Field(False, description="Serve embeddings instead of text")
    pooling: Literal["none", "mean", "cls", "last"] | None = Field(None, description="Pooling of embeddings")
    rerank: bool = Field(False, description="Serve reranking instead of text")
    placement: Literal["auto", "gpu", "cpu"] = Field(
        "auto", description="Where it may live; auto: a GPU if it ever fits there, else the CPU"
    )
    hybrid: bool = Field(False, description="Let the engine split it between GPU and CPU when it does not fit")
    keep: bool = Field(False, description="Never stop it to make room, nor when it is idle")
    ttl: Seconds | None = Field(None, description="Stop it after so many idle seconds; default: fleet.ttl")

    host: Host = Field("127.0.0.1", description="Address that the engine binds")
    port: Port = Field(0, description="Port that the engine binds; 0: a free one")
    extra_args: list[str] = Field(default_factory=list, description="Further llama-server flags, passed as they are")

    max_tokens: Count | None = Field(None, description="Tokens of a reply at most; default: router.max_tokens")
    temperature: Temperature | None = Field(None, description="Sampling temperature")
    top_p: Share | None = Field(None, description="Nucleus sampling")

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        sources = [name for name in ("file", "hf", "endpoint") if getattr(self, name) is not None]
        if len(sources) != 1:
            given = " and ".join(sources) or "none"
            raise ValueError(f"exactly one of file, hf and endpoint is needed, {given} given")
        if self.endpoint is not None and self.model is None:
            raise ValueError("endpoint needs model: the name that the remote server expects")
        if self.endpoint is None and (self.model is not None or self.api_key_env is not None):
            raise ValueError("model and api_key_env go with endpoint")
        launch = sorted(self.model_fields_set - REMOTE_KEYS) if self.endpoint is not None else []
        if launch:
            raise ValueError(f"{', '.join(launch)} cannot be set for a remote endpoint, which launches its own model")
        return self

    @model_validator(mode="after")
    def _settings_agree(self) -> ModelConfig:
        if self.mlock and self.load_mode not in (None, "mlock", "mmap+mlock"):
            raise ValueError(f"mlock: true contradicts load_mode: {self.load_mode}")
        quantised = self.cache_type_v not in (None, "f32", "f16", "bf16")
        if quantised and self.flash_attn is False:
            raise ValueError(f"cache_type_v: {self.cache_type_v} needs flash attention, flash_attn is false")
        if self.keep and self.ttl is not None:
            raise ValueError("keep: true contradicts ttl")
        if self.placement == "gpu" and self.gpu_layers == 0:
            raise ValueError("placement: gpu contradicts gpu_layers: 0")
        if self.placement == "cpu" and self.hybrid:
            raise ValueError("placement: cpu contradicts hybrid: true")
        if self.embedding and self.rerank:
            raise ValueError("a model serves either embedding or rerank")
        if (self.embedding or self.rerank) and (self.draft or self.ngram):
            kind, key = "embedding" if self.embedding else "rerank", "draft" if self.draft else "ngram"
            raise ValueError(f"{key} contradicts {kind}: true, which writes no text that could be drafted")
        return self

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("a base URL is expected, for example https://api.example.com/v1")
        return value

    @field_validator("hf")
    @classmethod
    def _is_reference(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                split_reference(value)
            except ConfigError as error:
                raise ValueError(error.message.removeprefix("hf: ")) from error
        return value

    def files(self) -> list[tuple[str, str]]:
        """Key and path of every file that these settings name."""
        draft = self.draft.file if self.draft else None
        named = {
            "file": self.file,
            "mmproj": self.mmproj,
            "draft.file": draft,
            "chat_template_file": self.chat_template_file,
        }
        single = [(key, path) for key, path in named.items() if path is not None]
        return single + [("lora", path) for path in self.lora]

    @property
    def remote(self) -> bool:
        """Whether somebody else's server runs this model."""
        return self.endpoint is not None


class BudgetConfig(Section):
    """What one run may spend."""

    steps: Count | None = Field(None, description="Calls of a model; default: the workflow's own, 12 for react")
    tokens: Count = Field(100_000, description="Prompt and completion tokens, as the engine counts them")
    seconds: Seconds = Field(1800, description="Wall time")


def _places(value: Any) -> Any:
    """A list of places as a mapping: what they bring has names of its own."""
    if not isinstance(value, list):
        return value
    wrong = next((place for place in value if not isinstance(place, str)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} in the list is no file; names go with a mapping, name: ./file.py:attribute")
    return {place: place for place in value}


class Config(Section):
    """The whole of benchai.yaml."""

    models: dict[str, ModelConfig] = Field(min_length=1, description="Models by name")
    roles: dict[str, str] = Field(default_factory=dict, description="Role -> model")
    models_dir: str | None = Field(
        None, description="Where relative model files are looked for, after this file's folder"
    )
    engine: EngineConfig = Field(default_factory=EngineConfig)
    router: RouterConfig = Field(default_factory=RouterConfig)
    fleet: FleetConfig = Field(default_factory=FleetConfig)
    budgets: BudgetConfig = Field(default_factory=BudgetConfig)
    workflows: Annotated[
        dict[str, str], BeforeValidator(_places, json_schema_input_type=dict[str, str] | list[str])
    ] = Field(
        default_factory=dict,
        description="Custom workflows: name -> ./file.py:attribute; or files with @workflow and langgraph.json files",
    )
    tools: ToolsConfig = Field(default_factory=ToolsConfig)
    threads: ThreadsConfig = Field(default_factory=ThreadsConfig)
    routing: RoutingConfig = Field(default_factory=RoutingConfig)
    server: ServerConfig = Field(default_factory=ServerConfig)
    usage: UsageConfig = Field(default_factory=UsageConfig)
    cache: CacheConfig = Field(default_factory=CacheConfig)
    memory: MemoryConfig = Field(default_factory=MemoryConfig)
    agent: AgentConfig = Field(default_factory=AgentConfig)

    @field_validator("models")
    @classmethod
    def _names_can_be_used(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        # a name becomes a flag's value, an alias and a file name
        for name in models:
            if not _NAME.fullmatch(name) or not name.isprintable():
                expected = "a letter or digit first, then no comma, slash or backslash, at most 100 characters"
                raise ValueError(f"the model's name {name[:120]!r} cannot be used: {expected}")
        return models

    def as_data(self) -> dict[str, Any]:
        """Plain data that loads again, defaults written out; a remote model has no launch settings."""
        data = self.model_dump(exclude_none=True) | {"roles": self.role_map()}
        for name, model in self.models.items():
            if model.remote:
                data["models"][name] = model.model_dump(exclude_none=True, include=REMOTE_KEYS)
        return data

    def role_map(self) -> dict[str, str]:
        """Role -> model name.

        Without ``roles:`` each model's name is its role, and a single model that is not named as a role
        serves all roles that write text. A model named as one of the standard roles serves that role unless
        ``roles:`` says otherwise.
        """
        only = next(iter(self.models))
        if not self.roles and len(self.models) == 1 and only not in ROLES:
            return dict.fromkeys((*TEXT_ROLES, only), only)
        implied = self.models if not self.roles else [name for name in self.models if name in ROLES]
        return {name: name for name in implied} | self.roles

    def roles_of(self, model: str) -> list[str]:
        """The roles that a model serves, in the configuration's order."""
        return [role for role, name in self.role_map().items() if name == model]

    def models_of(self, role: str) -> list[str]:
        """The models that may serve a role: its own, the copies of that, those that stand in for it.

        Raises:
            KeyError: there is no such role.
        """
        others = (*self.router.copies.get(role, ()), *self.router.fallback.get(role, ()))
        return list(dict.fromkeys((self.role_map()[role], *others)))

    def copied_by(self, model: str) -> list[str]:
        """The roles whose model this one is a copy of."""
        return [role for role, copies in self.router.copies.items() if model in copies]

    def concurrency(self, role: str) -> int:
        """Requests at a time of a role, on all copies. Defaults: seed, "Concurrent Request Handling"."""
        default = 2 if role in ("general", "planner") else 1
        return self.router.max_concurrent.get(role, default * (1 + len(self.router.copies.get(role, ()))))

    def slots_of(self, model: str) -> int:
        """Parallel requests of a model: its own setting, or what its roles may ask for, at most 4."""
        roles = dict.fromkeys(self.roles_of(model) + self.copied_by(model))
        wanted = sum(-(-self.concurrency(role) // (1 + len(self.router.copies.get(role, ())))) for role in roles)
        return self.models[model].slots or min(max(wanted, 1), 4)


def default_config() -> Config:
    """The built-in configuration: every role on the bundled tiny models."""
    tiny = ModelConfig(file=TINY, threads=1, threads_batch=1, gpu_layers=0, temperature=0)
    vision = tiny.model_copy(update={"file": TINY_VISION, "mmproj": f"{TINY_VISION}-mmproj"})
    roles = dict.fromkeys(ROLES, "tiny") | {"vision": "tiny-vision"}
    return Config(models={"tiny": tiny, "tiny-vision": vision}, roles=roles)
