"""From a model's settings to the flags of llama-server: one builder for both engines.

The flags are those of build b11434; each was checked against ``llama-server --help``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchai.config.models import DraftConfig, ModelConfig, NgramConfig
from benchai.errors import ConfigError

#: Not every build has it.
KEEP_IDLE_SLOTS = "--no-cache-idle-slots"


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model, resolved to absolute paths."""

    model: Path
    slot_dir: Path
    mmproj: Path | None = None
    draft: Path | None = None
    lora: tuple[Path, ...] = ()
    chat_template: Path | None = None


def build_flags(
    name: str, model: ModelConfig, files: ModelFiles, slots: int, keep_idle_slots: bool = False
) -> list[str]:
    """The flags that serve ``model`` under the alias ``name``.

    ``-c`` is shared by the slots; ``-kvu`` lets each request use all of it. With ``keep_idle_slots`` a request leaves
    the contexts in the other slots alone: the engine would empty them all, also for a probe of one token.
    """
    return [
        *("--model", str(files.model), "--alias", name, "--host", model.host, "--port", str(model.port)),
        *_sizes(model),
        *("--parallel", str(slots), "--kv-unified"),
        *([KEEP_IDLE_SLOTS] if keep_idle_slots else []),
        *("--flash-attn", _tristate(model.flash_attn)),
        "--cont-batching" if model.cont_batching else "--no-cont-batching",
        *_cache(model, files.slot_dir),
        *_memory(model),
        *_tensors(model),
        *(["--metrics"] if model.metrics else []),
        "--jinja" if model.jinja else "--no-jinja",
        *_extras(model, files),
        *model.extra_args,
    ]


def _tristate(value: bool | str) -> str:
    return value if isinstance(value, str) else ("on" if value else "off")


def _sizes(model: ModelConfig) -> list[str]:
    settings = {
        "--ctx-size": model.context,
        "--gpu-layers": model.gpu_layers,
        "--threads": model.threads,
        "--threads-batch": model.threads_batch,
        "--batch-size": model.batch_size,
        "--ubatch-size": model.ubatch_size,
    }
    return _pairs(settings.items())


def _cache(model: ModelConfig, slot_dir: Path) -> list[str]:
    # the engine joins folder and file name as text: without the last slash it writes beside the folder
    settings = {
        "--cache-type-k": model.cache_type_k,
        "--cache-type-v": model.cache_type_v,
        "--cache-reuse": model.cache_reuse,
        "--cache-ram": model.cache_ram,
        "--slot-save-path": f"{slot_dir}/",
    }
    return _pairs(settings.items()) + (["--swa-full"] if model.swa_full else [])


def _memory(model: ModelConfig) -> list[str]:
    mode = model.load_mode or ("mlock" if model.mlock else None)
    return ["--load-mode", mode] if mode else []


def _tensors(model: ModelConfig) -> list[str]:
    # the first pattern that matches a tensor counts: the user's own go before those of the experts
    flags = [text for entry in model.override_tensors for text in ("--override-tensor", entry)]
    if model.cpu_moe == "all":
        return [*flags, "--cpu-moe"]
    return flags + (["--n-cpu-moe", str(model.cpu_moe)] if isinstance(model.cpu_moe, int) and model.cpu_moe else [])


def _extras(model: ModelConfig, files: ModelFiles) -> list[str]:
    flags = _pairs({"--mmproj": files.mmproj, "--chat-template-file": files.chat_template}.items())
    # without it an ordinary draft model is loaded and never used
    flags += _pairs({"--spec-type": ",".join(_kinds(model)) or None}.items())
    if model.draft is not None:
        flags += _draft(model.draft, files.draft)
    if model.ngram:
        flags += _ngram(model.ngram)
    if files.lora:
        flags += ["--lora", ",".join(map(str, files.lora))]
    if model.embedding:
        flags += ["--embedding"]
    if model.rerank:
        flags += ["--rerank"]
    return flags + _pairs({"--pooling": model.pooling}.items())


def _kinds(model: ModelConfig) -> list[str]:
    return (["draft-simple"] if model.draft else []) + (["ngram-mod"] if model.ngram else [])


def _ngram(ngram: NgramConfig | bool) -> list[str]:
    if isinstance(ngram, bool):
        return []
    settings = {
        "--spec-ngram-mod-n-match": ngram.match,
        "--spec-ngram-mod-n-min": ngram.min_tokens,
        "--spec-ngram-mod-n-max": ngram.max_tokens,
    }
    return _pairs(settings.items())


def _draft(draft: DraftConfig, file: Path | None) -> list[str]:
    settings = {
        "--model-draft": file,
        "--spec-draft-n-max": draft.max_tokens,
        "--spec-draft-p-min": draft.min_probability,
        "--gpu-layers-draft": draft.gpu_layers,
        "--cache-type-k-draft": draft.cache_type_k,
        "--cache-type-v-draft": draft.cache_type_v,
    }
    return _pairs(settings.items())


def _pairs(settings: Iterable[tuple[str, object]]) -> list[str]:
    return [text for flag, value in settings if value is not None for text in (flag, str(value))]


def unknown_flags(flags: Sequence[str], known: frozenset[str]) -> list[str]:
    """The flags among ``flags`` that an engine whose ``--help`` lists ``known`` does not take."""
    return [flag for flag in flags if _is_flag(flag) and _hyphens(flag) not in known]


def _hyphens(flag: str) -> str:
    # the engines take --ctx_size for --ctx-size
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _is_flag(text: str) -> bool:
    return text.startswith("-") and len(text) > 1 and not text[1].isdigit()


def resolve_files(
    name: str, model: ModelConfig, resolve: Callable[[str], Path], model_file: Path, slot_dir: Path
) -> ModelFiles:
    """Resolve every path of a model's settings.

    Raises:
        ConfigError: a LoRA adapter's path holds a comma, which the engine takes for a separator.
    """
    for adapter in model.lora:
        if "," in str(resolve(adapter)):
            raise ConfigError(f"models.{name}.lora = {adapter!r}: the path holds a comma", hint="rename the file")
    return ModelFiles(
        model=model_file,
        slot_dir=resolve(model.slot_save_path) if model.slot_save_path else slot_dir,
        mmproj=resolve(model.mmproj) if model.mmproj else None,
        draft=resolve(model.draft.file) if model.draft else None,
        lora=tuple(resolve(adapter) for adapter in model.lora),
        chat_template=resolve(model.chat_template_file) if model.chat_template_file else None,
    )
