"""The llama-server flags that the embedded engine accepts, as one table.

Each row tells the names of a flag, how its value is read and which ``xllamacpp.CommonParams`` attribute it
sets. Names, defaults and meanings are llama-server's (build b11434, ``common/arg.cpp``). Parsing needs no
engine: ``parse`` reads an argument vector, ``apply`` writes the result into the parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from benchai.runtime.engine.native_values import (
    SPEC_TYPES,
    Apply,
    Parse,
    content,
    directory,
    extend,
    integer,
    layers,
    number,
    numbers,
    on_off,
    one_of,
    port,
    put,
    put_adapters,
    put_context,
    put_cpu_moe,
    put_margins,
    put_member,
    put_n_cpu_moe,
    put_not,
    put_origins,
    put_overrides,
    put_reasoning,
    put_rerank,
    put_sampling,
    put_spec_default,
    put_spec_types,
    put_split,
    put_template_values,
    put_threads,
    put_verbose,
    scale,
    scaled,
    seed,
    slots,
    spec_types,
    template_values,
    unscaled,
    words,
)

_KV_TYPES = "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1"


class FlagError(ValueError):
    """A command line that the engine cannot take; the message is the line to print."""


class Flag(NamedTuple):
    """One row: ``parse`` is None for a switch, ``negatives`` are the names that turn it off."""

    names: tuple[str, ...]
    apply: Apply
    about: str
    parse: Parse | None = None
    placeholder: str = ""
    negatives: tuple[str, ...] = ()


class Setting(NamedTuple):
    """A flag with the value that the command line gave it."""

    flag: Flag
    value: Any


# Shapes of rows.


def _value(names: str, parse: Parse, apply: Apply | str, placeholder: str, about: str) -> Flag:
    write = put(apply) if isinstance(apply, str) else apply
    return Flag(tuple(names.split()), write, about, parse, placeholder)


def _choice(names: str, path: str, prefix: str, options: str, about: str) -> Flag:
    """Make a row for an enumeration; an option is its member's name, or ``option=MEMBER``."""
    pairs = [word.partition("=") for word in options.split()]
    members = {option: name or option.upper().replace("-", "_") for option, _, name in pairs}
    apply = put_member(path, prefix, members)
    return Flag(tuple(names.split()), apply, about, one_of(members), f"{{{','.join(members)}}}")


def _switch(names: str, apply: Apply | str, about: str, off: str = "") -> Flag:
    write = put(apply) if isinstance(apply, str) else apply
    return Flag(tuple(names.split()), write, about, negatives=tuple(off.split()))


# fmt: off
FLAGS: tuple[Flag, ...] = (
    _value("-m --model", str, "model.path", "FNAME", "model file (GGUF)"),
    _value("-a --alias", words, extend("model_alias"), "NAME,...", "names of the model in the API"),
    _value("--host", words, "hostnames", "HOST,...", "addresses, or paths of .sock files (127.0.0.1)"),
    _value("--port", port, "port", "PORT", "port to listen on, 0 for a free one (8080)"),
    _value("--api-key", words, extend("api_keys"), "KEY,...", "keys, of which clients must send one"),
    _value("--api-prefix", str, "api_prefix", "PREFIX", "path in front of every route"),
    _value("-to --timeout", integer(0), put("timeout_read", "timeout_write"), "N", "HTTP timeout (s)"),
    _value("--sse-ping-interval", integer(-1), "sse_ping_interval", "N", "seconds between pings"),
    _value("--cors-origins", str, put_origins, "ORIGINS", "web origins that may call, or localhost"),
    _value("--threads-http", integer(), "n_threads_http", "N", "threads for HTTP requests"),
    _switch("--ui --webui", "ui", "serve the web page", "--no-ui --no-webui"),
    _switch("--metrics", "endpoint_metrics", "serve /metrics"),
    _switch("--props", "endpoint_props", "allow POST /props"),
    _switch("--slots", "endpoint_slots", "serve /slots", "--no-slots"),
    _value("--slot-save-path", directory, "slot_save_path", "PATH", "folder for saved slots; must exist"),
    _value("--sleep-idle-seconds", integer(1), "sleep_idle_seconds", "N", "unload the model when idle"),
    # memory and compute
    _value("-c --ctx-size", integer(0), put_context, "N", "context, shared by the slots (0: model's)"),
    _value("-np --parallel", slots, "n_parallel", "N", "slots (-1: auto, 4 with a unified KV cache)"),
    _switch("-kvu --kv-unified", "kv_unified", "one KV cache for all slots", "-no-kvu --no-kv-unified"),
    _value("--kv-unified-per-slot", integer(0), "kv_unified_per_slot", "N", "most context of one slot"),
    _switch("-cb --cont-batching", "cont_batching", "continuous batching", "-nocb --no-cont-batching"),
    _value("-b --batch-size", integer(1), "n_batch", "N", "logical batch size"),
    _value("-ub --ubatch-size", integer(1), "n_ubatch", "N", "physical batch size"),
    _value("-t --threads", integer(), put_threads("cpuparams"), "N", "threads for generation"),
    _value("-tb --threads-batch", integer(), put_threads("cpuparams_batch"), "N", "threads for prompts"),
    _choice("-fa --flash-attn", "flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_",
            "on=ENABLED off=DISABLED auto", "flash attention"),
    _choice("-ctk --cache-type-k", "cache_type_k", "GGML_TYPE_", _KV_TYPES, "type of cached keys"),
    _choice("-ctv --cache-type-v", "cache_type_v", "GGML_TYPE_", _KV_TYPES, "type of cached values"),
    _switch("-kvo --kv-offload", put_not("no_kv_offload"), "KV cache on the GPU", "-nkvo --no-kv-offload"),
    _switch("--repack", put_not("no_extra_bufts"), "repack weights for the CPU", "-nr --no-repack"),
    _switch("--swa-full", "swa_full", "full-size cache for sliding-window models"),
    _choice("-lm --load-mode", "load_mode", "LLAMA_LOAD_MODE_",
            "auto none mmap mlock mmap+mlock=MMAP_MLOCK dio=DIRECT_IO", "how weights are read"),
    _choice("--numa", "numa", "GGML_NUMA_STRATEGY_", "distribute isolate numactl", "placement on NUMA nodes"),
    _switch("--warmup", "warmup", "one empty run while loading", "--no-warmup"),
    _value("-ngl --gpu-layers --n-gpu-layers", layers, "n_gpu_layers", "{auto,all,N}", "layers on the GPU"),
    _choice("-sm --split-mode", "split_mode", "LLAMA_SPLIT_MODE_", "none layer row tensor", "GPU split"),
    _value("-ts --tensor-split", numbers, put_split, "N,...", "share of each GPU"),
    _value("-mg --main-gpu", integer(0), "main_gpu", "INDEX", "GPU that holds the model, or its results"),
    _value("-ot --override-tensor", str, put_overrides, "PATTERN=BUFFER,...", "where tensors go"),
    _switch("-cmoe --cpu-moe", put_cpu_moe, "all experts in RAM"),
    _value("-ncmoe --n-cpu-moe", integer(0), put_n_cpu_moe, "N", "experts of the first N layers in RAM"),
    _value("-fit --fit", on_off, "fit_params", "{on,off}", "fit unset arguments to the free memory"),
    _value("-fitt --fit-target", numbers, put_margins, "MiB,...", "memory that the fit leaves free"),
    _value("-fitc --fit-ctx", integer(0), "fit_params_min_ctx", "N", "smallest context of the fit"),
    # prompt cache and long contexts
    _switch("--cache-prompt", "cache_prompt", "reuse the KV cache of earlier prompts", "--no-cache-prompt"),
    _value("--cache-reuse", integer(0), "n_cache_reuse", "N", "smallest chunk reused by shifting"),
    _value("-cram --cache-ram", integer(-1), "cache_ram_mib", "N", "prompt cache (MiB, -1: no limit)"),
    _switch("--cache-idle-slots", "cache_idle_slots", "cache idle slots", "--no-cache-idle-slots"),
    _value("-ctxcp --ctx-checkpoints", integer(0), "n_ctx_checkpoints", "N", "checkpoints kept per slot"),
    _value("-sps --slot-prompt-similarity", number, "slot_prompt_similarity", "N", "match to pick a slot"),
    _switch("--context-shift", "ctx_shift", "shift a full context", "--no-context-shift"),
    _choice("--rope-scaling", "rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE_", "none linear yarn", "method"),
    _value("--rope-scale", scale, "rope_freq_scale", "N", "RoPE: context factor"),
    _value("--rope-freq-base", number, "rope_freq_base", "N", "RoPE: base frequency"),
    _value("--rope-freq-scale", number, "rope_freq_scale", "N", "RoPE: frequency factor"),
    _value("--yarn-orig-ctx", integer(0), "yarn_orig_ctx", "N", "YaRN: context of training"),
    _value("--yarn-ext-factor", number, "yarn_ext_factor", "N", "YaRN: extrapolation mix"),
    _value("--yarn-attn-factor", number, "yarn_attn_factor", "N", "YaRN: attention magnitude"),
    _value("--yarn-beta-slow", number, "yarn_beta_slow", "N", "YaRN: high correction"),
    _value("--yarn-beta-fast", number, "yarn_beta_fast", "N", "YaRN: low correction"),
    # what the model is for
    _switch("--jinja", "use_jinja", "jinja chat templates", "--no-jinja"),
    _value("--chat-template", str, "chat_template", "TEMPLATE", "chat template, or a built-in name"),
    _value("--chat-template-file", content, "chat_template", "FILE", "chat template in a file"),
    _choice("--reasoning-format", "reasoning_format", "COMMON_REASONING_FORMAT_",
            "none auto deepseek deepseek-legacy", "where thoughts go in a reply"),
    _value("--chat-template-kwargs", template_values, put_template_values, "JSON", "template values"),
    _value("-rea --reasoning", one_of(("on", "off", "auto")), put_reasoning, "{on,off,auto}", "thinking"),
    _value("--reasoning-budget", integer(-1), "sampling.reasoning_budget_tokens", "N", "thinking tokens"),
    _switch("--embedding --embeddings", "embedding", "serve embeddings only"),
    _choice("--pooling", "pooling_type", "LLAMA_POOLING_TYPE_", "none mean cls last rank", "pooling"),
    _switch("--rerank --reranking", put_rerank, "serve reranking only"),
    _value("-mm --mmproj", str, "mmproj.path", "FILE", "multimodal projector (GGUF)"),
    _switch("--mmproj-offload", "mmproj_use_gpu", "projector on the GPU", "--no-mmproj-offload"),
    _value("--lora", unscaled, put_adapters, "FNAME,...", "LoRA adapters (GGUF)"),
    _value("--lora-scaled", scaled, put_adapters, "FNAME:SCALE,...", "LoRA adapters with their scales"),
    _switch("--lora-init-without-apply", "lora_init_without_apply", "load adapters without applying them"),
    # speculative decoding
    _value("-md --model-draft --spec-draft-model", str, put("speculative.draft.mparams.path"), "FNAME",
           "draft model (GGUF)"),
    _value("--spec-type", spec_types, put_spec_types, "TYPE,...", f"among {' '.join(SPEC_TYPES)}"),
    _switch("--spec-default", put_spec_default, "n-gram drafting"),
    _value("--spec-draft-n-max", integer(0), "speculative.draft.n_max", "N", "most tokens to draft"),
    _value("--spec-draft-n-min", integer(0), "speculative.draft.n_min", "N", "fewest tokens to draft"),
    _value("--spec-draft-p-min --draft-p-min", number, "speculative.draft.p_min", "P", "least probability"),
    _value("--spec-ngram-mod-n-match", integer(1), "speculative.ngram_mod.n_match", "N", "n-gram length"),
    _value("--spec-ngram-mod-n-min", integer(0), "speculative.ngram_mod.n_min", "N", "fewest n-gram tokens"),
    _value("--spec-ngram-mod-n-max", integer(0), "speculative.ngram_mod.n_max", "N", "most n-gram tokens"),
    _value("-ngld --spec-draft-ngl --gpu-layers-draft --n-gpu-layers-draft", layers,
           "speculative.draft.n_gpu_layers", "{auto,all,N}", "layers of the draft model on the GPU"),
    _choice("-ctkd --cache-type-k-draft --spec-draft-type-k", "speculative.draft.cache_type_k", "GGML_TYPE_",
            _KV_TYPES, "type of the draft model's cached keys"),
    _choice("-ctvd --cache-type-v-draft --spec-draft-type-v", "speculative.draft.cache_type_v", "GGML_TYPE_",
            _KV_TYPES, "type of the draft model's cached values"),
    # defaults of a request
    _value("-n --predict --n-predict", integer(-1), "n_predict", "N", "tokens to generate (-1: no limit)"),
    _value("-s --seed", seed, "sampling.seed", "SEED", "random seed (-1: a random one)"),
    _value("--temp --temperature", number, put_sampling("temp", "TEMP"), "N", "temperature"),
    _value("--top-k", integer(), put_sampling("top_k", "TOP_K"), "N", "top-k sampling"),
    _value("--top-p", number, put_sampling("top_p", "TOP_P"), "N", "top-p sampling"),
    _value("--min-p", number, put_sampling("min_p", "MIN_P"), "N", "min-p sampling"),
    _value("--repeat-penalty", number, put_sampling("penalty_repeat", "PENALTY_REPEAT"), "N", "repetition"),
    _value("--presence-penalty", number, "sampling.penalty_present", "N", "presence penalty"),
    _value("--frequency-penalty", number, "sampling.penalty_freq", "N", "frequency penalty"),
    # log
    _value("-lv --verbosity --log-verbosity", integer(0), "verbosity", "N", "1 errors, 3 info, 5 debug (3)"),
    _switch("-v --verbose --log-verbose", put_verbose, "log everything"),
)
# fmt: on
"""Every flag that sets something."""

_DOWNLOAD = "download the file and pass it with -m"
_LOG = "the log goes to stderr as it is, and -lv sets how much"
_REQUEST = "send it with the request"
REFUSED: dict[str, str] = {
    **dict.fromkeys(("-dev", "--device", "--list-devices"), "choose with CUDA_VISIBLE_DEVICES or its like"),
    **dict.fromkeys(("-hf", "-hfr", "--hf-repo", "-mu", "--model-url", "-dr", "--docker-repo"), _DOWNLOAD),
    **dict.fromkeys(("--log-file", "--log-colors", "--log-prefix", "--log-timestamps", "--log-disable"), _LOG),
    **dict.fromkeys(("--grammar", "--grammar-file", "-j", "--json-schema", "-jf", "-l"), _REQUEST),
    **dict.fromkeys(("--rpc", "--override-kv", "--control-vector"), "xllamacpp has no such setting"),
}
"""Flags of llama-server that the embedded engine cannot honour, each with the mend."""

_HELP = ("-h", "--help", "--usage")


def _index(flags: Iterable[Flag]) -> dict[str, tuple[Flag, bool]]:
    on = {name: (flag, True) for flag in flags for name in flag.names}
    return on | {name: (flag, False) for flag in flags for name in flag.negatives}


_BY_NAME = _index(FLAGS)


def _unknown(name: str) -> NoReturn:
    if name in REFUSED:
        reason = REFUSED[name]
        raise FlagError(f"error: argument {name} is not supported by the embedded engine: {reason}")
    raise FlagError(f"error: invalid argument: {name}")


def parse(argv: Sequence[str]) -> list[Setting]:
    """Read an argument vector, without the program's name, into settings in the order given.

    Raises:
        FlagError: A flag is unknown or cannot be honoured, or its value is missing or wrong.
    """
    settings: list[Setting] = []
    rest = iter(argv)
    for word in rest:
        name = word.replace("_", "-") if word.startswith("--") else word
        flag, positive = _BY_NAME[name] if name in _BY_NAME else _unknown(name)
        try:
            value = positive if flag.parse is None else flag.parse(next(rest))
        except StopIteration:
            raise FlagError(f'error while handling argument "{name}": expected value for argument') from None
        except ValueError as error:
            raise FlagError(f'error while handling argument "{name}": {error}') from None
        settings.append(Setting(flag, value))
    return settings


def apply(settings: Iterable[Setting], params: Any) -> None:
    """Write settings into a ``CommonParams``, over the defaults that llama-server starts from.

    Raises:
        FlagError: The engine does not take a value.
    """
    params.port = 8080
    params.n_parallel = -1
    params.default_template_kwargs = {**params.default_template_kwargs, "preserve_reasoning": "true"}
    for flag, value in settings:
        try:
            flag.apply(params, value)
        except (ArithmeticError, AssertionError, TypeError, ValueError) as error:
            problem = f"{error}, got {value!r}"
            raise FlagError(f'error while handling argument "{flag.names[-1]}": {problem}') from None


def known_flags() -> frozenset[str]:
    """Return every name that ``parse`` takes, with those of help and version."""
    return frozenset(_BY_NAME) | {*_HELP, "--version"}


def asks_for_help(argv: Iterable[str]) -> bool:
    """Tell whether an argument vector asks for the help text."""
    return not set(_HELP).isdisjoint(argv)


def chosen(settings: Iterable[Setting], name: str, default: Any = None) -> Any:
    """Return the value last given to the flag called ``name``, or ``default``."""
    values = [value for flag, value in settings if name in flag.names]
    return values[-1] if values else default


def usage() -> str:
    """Return the help text: one flag a line, with its aliases."""
    rows = [(", ".join((*flag.names, *flag.negatives)), flag.placeholder, flag.about) for flag in FLAGS]
    rows += [(", ".join(_HELP), "", "print this text"), ("--version", "", "print the version and build")]
    return "\n".join(f"{f'{names} {placeholder}'.rstrip():<44} {about}" for names, placeholder, about in rows)
