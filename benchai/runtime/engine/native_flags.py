"""The llama-server flags that the embedded engine accepts, as one table.

Each row tells the names of a flag, how its value is read and which ``xllamacpp.CommonParams`` attribute it
sets. Names, defaults and meanings are llama-server's (build b11434, ``common/arg.cpp``). Parsing needs no
engine: ``parse`` reads an argument vector, ``apply`` writes the result into the parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

Apply = Callable[[Any, Any], None]
Parse = Callable[[str], Any]

_MIB = 1024 * 1024
_INT_MAX = 2**31 - 1
_ON = {"on", "enabled", "true", "1"}
_OFF = {"off", "disabled", "false", "0"}
_KV_TYPES = "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1"
_SPEC_TYPES = (
    *("none", "draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark"),
    *("ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache"),
)


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


# Readers of values: text in, value out, ValueError with what was expected.


def _integer(low: int | None = None) -> Parse:
    def read(text: str) -> int:
        bound = "" if low is None else f" of at least {low}"
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"expected an integer{bound}, got {text!r}") from None
        if value < (-_INT_MAX if low is None else low):
            raise ValueError(f"expected an integer{bound}, got {text!r}")
        if value > _INT_MAX:
            raise ValueError(f"expected an integer of at most {_INT_MAX}, got {text!r}")
        return value

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None


def _port(text: str) -> int:
    value = _integer(0)(text)
    if value > 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {text!r}")
    return int(value)


def _slots(text: str) -> int:
    value = _integer(-1)(text)
    if value == 0:
        raise ValueError("expected a number of slots, or -1 for auto, got '0'")
    return int(value)


def _layers(text: str) -> int:
    named = {"auto": -1, "all": -2}
    try:
        return named[text] if text in named else int(text)
    except ValueError:
        raise ValueError(f"expected auto, all or a number of layers, got {text!r}") from None


def _on_off(text: str) -> bool:
    if text in _ON or text in _OFF:
        return text in _ON
    raise ValueError(f"expected on or off, got {text!r}")


def _one_of(options: Iterable[str]) -> Parse:
    known = tuple(options)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {text!r}")
        return text

    return read


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError(f"expected a comma-separated list, got {text!r}")
    return words


def _numbers(text: str) -> list[float]:
    return [_number(part) for part in text.replace("/", ",").split(",")]


def _scale(text: str) -> float:
    factor = _number(text)
    if factor <= 0:
        raise ValueError(f"expected a number above 0, got {text!r}")
    return 1 / factor


def _seed(text: str) -> int:
    try:
        return int(text) % 2**32
    except ValueError:
        raise ValueError(f"expected an integer, got {text!r}") from None


def _spec_types(text: str) -> list[str]:
    return [_one_of(_SPEC_TYPES)(word) for word in _words(text)]


def _directory(text: str) -> str:
    if not Path(text).is_dir():
        raise ValueError(f"not a directory: {text}")
    # The server joins folder and file name as text.
    return text if text.endswith(os.sep) else text + os.sep


def _content(text: str) -> str:
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {text!r}: {error}") from None


def _scaled(text: str) -> list[tuple[str, float]]:
    pairs = [word.rpartition(":") for word in _words(text)]
    if not all(colon for _, colon, _ in pairs):
        raise ValueError(f"expected FNAME:SCALE,..., got {text!r}")
    return [(path, _number(scale)) for path, _, scale in pairs]


def _unscaled(text: str) -> list[tuple[str, float]]:
    return [(path, 1.0) for path in _words(text)]


# Writers: they put a value into the parameters.


def _owner(params: Any, path: str) -> tuple[Any, str]:
    *parents, name = path.split(".")
    for parent in parents:
        params = getattr(params, parent)
    return params, name


def _put(*paths: str) -> Apply:
    def apply(params: Any, value: Any) -> None:
        for path in paths:
            setattr(*_owner(params, path), value)

    return apply


def _put_not(name: str) -> Apply:
    return lambda params, value: setattr(params, name, not value)


def _put_member(path: str, prefix: str, members: Mapping[str, str]) -> Apply:
    """Set an enumeration by member name, since the numbers behind the names move between builds."""

    def apply(params: Any, option: str) -> None:
        owner, name = _owner(params, path)
        setattr(owner, name, type(getattr(owner, name))[prefix + members[option]])

    return apply


def _put_sampling(name: str, bit: str) -> Apply:
    """Set a sampling default and mark it as the user's, else the model file's own value wins."""

    def apply(params: Any, value: Any) -> None:
        kinds = import_module("xllamacpp").common_params_sampling_config
        setattr(params.sampling, name, value)
        params.sampling.user_sampling_config |= int(kinds[f"COMMON_PARAMS_SAMPLING_CONFIG_{bit}"])

    return apply


def _put_threads(pool: str) -> Apply:
    return lambda params, count: _put(f"{pool}.n_threads")(params, count if count > 0 else os.cpu_count())


def _put_context(params: Any, size: int) -> None:
    params.n_ctx = size
    if size == 0:
        params.fit_params_min_ctx = -1  # asked for in full: the automatic fit must not shorten it


def _put_rerank(params: Any, _: bool) -> None:
    params.embedding = True
    _put_member("pooling_type", "LLAMA_POOLING_TYPE_", {"rank": "RANK"})(params, "rank")


def _put_margins(params: Any, margins: list[float]) -> None:
    spread = margins * len(params.fit_params_target) if len(margins) == 1 else margins
    kept = params.fit_params_target[len(spread) :]
    params.fit_params_target = [int(mib) * _MIB for mib in spread] + kept


def _put_split(params: Any, shares: list[float]) -> None:
    params.tensor_split = shares + [0.0] * (len(params.tensor_split) - len(shares))


def _put_spec_types(params: Any, types: list[str]) -> None:
    known = import_module("xllamacpp").common_speculative_type
    members = [known["COMMON_SPECULATIVE_TYPE_" + name.upper().replace("-", "_")] for name in types]
    params.speculative.types = [*params.speculative.types, *members]


def _put_spec_default(params: Any, _: bool) -> None:
    _put_spec_types(params, ["ngram-mod"])


def _put_verbose(params: Any, _: bool) -> None:
    params.verbosity = _INT_MAX


def _put_adapters(params: Any, adapters: list[tuple[str, float]]) -> None:
    adapter = import_module("xllamacpp").CommonAdapterLoraInfo
    params.lora_adapters = [*params.lora_adapters, *(adapter(path, scale) for path, scale in adapters)]


def _extend(name: str) -> Apply:
    return lambda params, words: setattr(params, name, [*getattr(params, name), *words])


# Shapes of rows.


def _value(names: str, parse: Parse, apply: Apply | str, placeholder: str, about: str) -> Flag:
    write = _put(apply) if isinstance(apply, str) else apply
    return Flag(tuple(names.split()), write, about, parse, placeholder)


def _choice(names: str, path: str, prefix: str, options: str, about: str) -> Flag:
    """Make a row for an enumeration; an option is its member's name, or ``option=MEMBER``."""
    pairs = [word.partition("=") for word in options.split()]
    members = {option: name or option.upper().replace("-", "_") for option, _, name in pairs}
    apply = _put_member(path, prefix, members)
    return Flag(tuple(names.split()), apply, about, _one_of(members), f"{{{','.join(members)}}}")


def _switch(names: str, apply: Apply | str, about: str, off: str = "") -> Flag:
    write = _put(apply) if isinstance(apply, str) else apply
    return Flag(tuple(names.split()), write, about, negatives=tuple(off.split()))


# fmt: off
FLAGS: tuple[Flag, ...] = (
    _value("-m --model", str, "model.path", "FNAME", "model file (GGUF)"),
    _value("-a --alias", _words, _extend("model_alias"), "NAME,...", "names of the model in the API"),
    _value("--host", _words, "hostnames", "HOST,...", "addresses, or paths of .sock files (127.0.0.1)"),
    _value("--port", _port, "port", "PORT", "port to listen on, 0 for a free one (8080)"),
    _value("--api-key", _words, _extend("api_keys"), "KEY,...", "keys, of which clients must send one"),
    _value("--api-prefix", str, "api_prefix", "PREFIX", "path in front of every route"),
    _value("-to --timeout", _integer(0), _put("timeout_read", "timeout_write"), "N", "HTTP timeout (s)"),
    _value("--threads-http", _integer(), "n_threads_http", "N", "threads for HTTP requests"),
    _switch("--ui --webui", "ui", "serve the web page", "--no-ui --no-webui"),
    _switch("--metrics", "endpoint_metrics", "serve /metrics"),
    _switch("--props", "endpoint_props", "allow POST /props"),
    _switch("--slots", "endpoint_slots", "serve /slots", "--no-slots"),
    _value("--slot-save-path", _directory, "slot_save_path", "PATH", "folder for saved slots; must exist"),
    _value("--sleep-idle-seconds", _integer(1), "sleep_idle_seconds", "N", "unload the model when idle"),
    # memory and compute
    _value("-c --ctx-size", _integer(0), _put_context, "N", "context, shared by the slots (0: model's)"),
    _value("-np --parallel", _slots, "n_parallel", "N", "slots (-1: auto, 4 with a unified KV cache)"),
    _switch("-kvu --kv-unified", "kv_unified", "one KV cache for all slots", "-no-kvu --no-kv-unified"),
    _switch("-cb --cont-batching", "cont_batching", "continuous batching", "-nocb --no-cont-batching"),
    _value("-b --batch-size", _integer(1), "n_batch", "N", "logical batch size"),
    _value("-ub --ubatch-size", _integer(1), "n_ubatch", "N", "physical batch size"),
    _value("-t --threads", _integer(), _put_threads("cpuparams"), "N", "threads for generation"),
    _value("-tb --threads-batch", _integer(), _put_threads("cpuparams_batch"), "N", "threads for prompts"),
    _choice("-fa --flash-attn", "flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_",
            "on=ENABLED off=DISABLED auto", "flash attention"),
    _choice("-ctk --cache-type-k", "cache_type_k", "GGML_TYPE_", _KV_TYPES, "type of cached keys"),
    _choice("-ctv --cache-type-v", "cache_type_v", "GGML_TYPE_", _KV_TYPES, "type of cached values"),
    _switch("-kvo --kv-offload", _put_not("no_kv_offload"), "KV cache on the GPU", "-nkvo --no-kv-offload"),
    _switch("--repack", _put_not("no_extra_bufts"), "repack weights for the CPU", "-nr --no-repack"),
    _switch("--swa-full", "swa_full", "full-size cache for sliding-window models"),
    _choice("-lm --load-mode", "load_mode", "LLAMA_LOAD_MODE_",
            "auto none mmap mlock mmap+mlock=MMAP_MLOCK dio=DIRECT_IO", "how weights are read"),
    _choice("--numa", "numa", "GGML_NUMA_STRATEGY_", "distribute isolate numactl", "placement on NUMA nodes"),
    _switch("--warmup", "warmup", "one empty run while loading", "--no-warmup"),
    _value("-ngl --gpu-layers --n-gpu-layers", _layers, "n_gpu_layers", "{auto,all,N}", "layers on the GPU"),
    _choice("-sm --split-mode", "split_mode", "LLAMA_SPLIT_MODE_", "none layer row tensor", "GPU split"),
    _value("-ts --tensor-split", _numbers, _put_split, "N,...", "share of each GPU"),
    _value("-mg --main-gpu", _integer(0), "main_gpu", "INDEX", "GPU that holds the model, or its results"),
    _value("-ot --override-tensor", str, "tensor_buft_overrides", "PATTERN=BUFFER,...", "where tensors go"),
    _value("-fit --fit", _on_off, "fit_params", "{on,off}", "fit unset arguments to the free memory"),
    _value("-fitt --fit-target", _numbers, _put_margins, "MiB,...", "memory that the fit leaves free"),
    _value("-fitc --fit-ctx", _integer(0), "fit_params_min_ctx", "N", "smallest context of the fit"),
    # prompt cache and long contexts
    _switch("--cache-prompt", "cache_prompt", "reuse the KV cache of earlier prompts", "--no-cache-prompt"),
    _value("--cache-reuse", _integer(0), "n_cache_reuse", "N", "smallest chunk reused by shifting"),
    _value("-cram --cache-ram", _integer(-1), "cache_ram_mib", "N", "prompt cache (MiB, -1: no limit)"),
    _switch("--cache-idle-slots", "cache_idle_slots", "cache idle slots", "--no-cache-idle-slots"),
    _value("-ctxcp --ctx-checkpoints", _integer(0), "n_ctx_checkpoints", "N", "checkpoints kept per slot"),
    _value("-sps --slot-prompt-similarity", _number, "slot_prompt_similarity", "N", "match to pick a slot"),
    _switch("--context-shift", "ctx_shift", "shift a full context", "--no-context-shift"),
    _choice("--rope-scaling", "rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE_", "none linear yarn", "method"),
    _value("--rope-scale", _scale, "rope_freq_scale", "N", "RoPE: context factor"),
    _value("--rope-freq-base", _number, "rope_freq_base", "N", "RoPE: base frequency"),
    _value("--rope-freq-scale", _number, "rope_freq_scale", "N", "RoPE: frequency factor"),
    _value("--yarn-orig-ctx", _integer(0), "yarn_orig_ctx", "N", "YaRN: context of training"),
    _value("--yarn-ext-factor", _number, "yarn_ext_factor", "N", "YaRN: extrapolation mix"),
    _value("--yarn-attn-factor", _number, "yarn_attn_factor", "N", "YaRN: attention magnitude"),
    _value("--yarn-beta-slow", _number, "yarn_beta_slow", "N", "YaRN: high correction"),
    _value("--yarn-beta-fast", _number, "yarn_beta_fast", "N", "YaRN: low correction"),
    # what the model is for
    _switch("--jinja", "use_jinja", "jinja chat templates", "--no-jinja"),
    _value("--chat-template", str, "chat_template", "TEMPLATE", "chat template, or a built-in name"),
    _value("--chat-template-file", _content, "chat_template", "FILE", "chat template in a file"),
    _choice("--reasoning-format", "reasoning_format", "COMMON_REASONING_FORMAT_",
            "none auto deepseek deepseek-legacy", "where thoughts go in a reply"),
    _value("--reasoning-budget", _integer(-1), "sampling.reasoning_budget_tokens", "N", "thinking tokens"),
    _switch("--embedding --embeddings", "embedding", "serve embeddings only"),
    _choice("--pooling", "pooling_type", "LLAMA_POOLING_TYPE_", "none mean cls last rank", "pooling"),
    _switch("--rerank --reranking", _put_rerank, "serve reranking only"),
    _value("-mm --mmproj", str, "mmproj.path", "FILE", "multimodal projector (GGUF)"),
    _switch("--mmproj-offload", "mmproj_use_gpu", "projector on the GPU", "--no-mmproj-offload"),
    _value("--lora", _unscaled, _put_adapters, "FNAME,...", "LoRA adapters (GGUF)"),
    _value("--lora-scaled", _scaled, _put_adapters, "FNAME:SCALE,...", "LoRA adapters with their scales"),
    _switch("--lora-init-without-apply", "lora_init_without_apply", "load adapters without applying them"),
    # speculative decoding
    _value("-md --model-draft --spec-draft-model", str, _put("speculative.draft.mparams.path"), "FNAME",
           "draft model (GGUF)"),
    _value("--spec-type", _spec_types, _put_spec_types, "TYPE,...", f"among {' '.join(_SPEC_TYPES)}"),
    _switch("--spec-default", _put_spec_default, "n-gram drafting"),
    _value("--spec-draft-n-max", _integer(0), "speculative.draft.n_max", "N", "most tokens to draft"),
    _value("--spec-draft-n-min", _integer(0), "speculative.draft.n_min", "N", "fewest tokens to draft"),
    _value("--spec-draft-p-min --draft-p-min", _number, "speculative.draft.p_min", "P", "least probability"),
    _value("-ngld --spec-draft-ngl --gpu-layers-draft --n-gpu-layers-draft", _layers,
           "speculative.draft.n_gpu_layers", "{auto,all,N}", "layers of the draft model on the GPU"),
    _choice("-ctkd --cache-type-k-draft --spec-draft-type-k", "speculative.draft.cache_type_k", "GGML_TYPE_",
            _KV_TYPES, "type of the draft model's cached keys"),
    _choice("-ctvd --cache-type-v-draft --spec-draft-type-v", "speculative.draft.cache_type_v", "GGML_TYPE_",
            _KV_TYPES, "type of the draft model's cached values"),
    # defaults of a request
    _value("-n --predict --n-predict", _integer(-1), "n_predict", "N", "tokens to generate (-1: no limit)"),
    _value("-s --seed", _seed, "sampling.seed", "SEED", "random seed (-1: a random one)"),
    _value("--temp --temperature", _number, _put_sampling("temp", "TEMP"), "N", "temperature"),
    _value("--top-k", _integer(), _put_sampling("top_k", "TOP_K"), "N", "top-k sampling"),
    _value("--top-p", _number, _put_sampling("top_p", "TOP_P"), "N", "top-p sampling"),
    _value("--min-p", _number, _put_sampling("min_p", "MIN_P"), "N", "min-p sampling"),
    # log
    _value("-lv --verbosity --log-verbosity", _integer(0), "verbosity", "N", "1 errors, 3 info, 5 debug (3)"),
    _switch("-v --verbose --log-verbose", _put_verbose, "log everything"),
)
# fmt: on
"""Every flag that sets something."""

_DOWNLOAD = "download the file and pass it with -m"
_LOG = "the log goes to stderr as it is, and -lv sets how much"
_REQUEST = "send it with the request"
REFUSED: dict[str, str] = {
    **dict.fromkeys(("-dev", "--device", "--list-devices"), "choose with CUDA_VISIBLE_DEVICES or its like"),
    **dict.fromkeys(("-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe"), "use -ot, for instance -ot exps=CPU"),
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
