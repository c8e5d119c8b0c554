"""One entry of ``models:`` in benchai.yaml: where a model comes from, and how it is launched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from benchai.config.hub import split_reference
from benchai.config.section import Count, Host, Natural, Port, Seconds, Section, VariableName
from benchai.config.tensors import tensor_place
from benchai.errors import ConfigError

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
