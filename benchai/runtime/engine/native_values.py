"""How the flags of the embedded engine are read and where they go.

Readers take the text of a flag and return its value, or raise ValueError with what was expected. Writers
put a value into a ``xllamacpp.CommonParams``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

Apply = Callable[[Any, Any], None]
Parse = Callable[[str], Any]

SPEC_TYPES = (
    *("none", "draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark"),
    *("ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache"),
)
_MIB = 1024 * 1024
_INT_MAX = 2**31 - 1
_ON = {"on", "enabled", "true", "1"}
_OFF = {"off", "disabled", "false", "0"}


# Readers of values: text in, value out, ValueError with what was expected.


def integer(low: int | None = None) -> Parse:
    """Read a whole number, of at least ``low``."""

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


def number(text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None


def port(text: str) -> int:
    """Read a TCP port; 0 stands for a free one."""
    value = integer(0)(text)
    if value > 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {text!r}")
    return int(value)


def slots(text: str) -> int:
    """Read a number of slots; -1 stands for auto."""
    value = integer(-1)(text)
    if value == 0:
        raise ValueError("expected a number of slots, or -1 for auto, got '0'")
    return int(value)


def layers(text: str) -> int:
    """Read a number of layers, auto or all."""
    named = {"auto": -1, "all": -2}
    try:
        return named[text] if text in named else int(text)
    except ValueError:
        raise ValueError(f"expected auto, all or a number of layers, got {text!r}") from None


def on_off(text: str) -> bool:
    """Read a switch that is written as a value."""
    if text in _ON or text in _OFF:
        return text in _ON
    raise ValueError(f"expected on or off, got {text!r}")


def one_of(options: Iterable[str]) -> Parse:
    """Make a reader of one of these words."""
    known = tuple(options)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {text!r}")
        return text

    return read


def words(text: str) -> list[str]:
    """Read a comma-separated list."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError(f"expected a comma-separated list, got {text!r}")
    return words


def numbers(text: str) -> list[float]:
    """Read numbers between commas or slashes."""
    return [number(part) for part in text.replace("/", ",").split(",")]


def scale(text: str) -> float:
    """Read a factor of the context; the frequency takes its inverse."""
    factor = number(text)
    if factor <= 0:
        raise ValueError(f"expected a number above 0, got {text!r}")
    return 1 / factor


def seed(text: str) -> int:
    """Read a seed; -1 stands for a random one."""
    try:
        return int(text) % 2**32
    except ValueError:
        raise ValueError(f"expected an integer, got {text!r}") from None


def template_values(text: str) -> dict[str, str]:
    """Read a JSON object, each value as JSON text."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"expected a JSON object, got {text!r}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object, got {text!r}")
    return {name: json.dumps(value) for name, value in values.items()}


def spec_types(text: str) -> list[str]:
    """Read kinds of speculative decoding."""
    return [one_of(SPEC_TYPES)(word) for word in words(text)]


def directory(text: str) -> str:
    """Read a folder that is there."""
    if not Path(text).is_dir():
        raise ValueError(f"not a directory: {text}")
    # The server joins folder and file name as text.
    return text if text.endswith(os.sep) else text + os.sep


def content(text: str) -> str:
    """Read the content of a file."""
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {text!r}: {error}") from None


def scaled(text: str) -> list[tuple[str, float]]:
    """Read adapters with their scales."""
    pairs = [word.rpartition(":") for word in words(text)]
    if not all(colon for _, colon, _ in pairs):
        raise ValueError(f"expected FNAME:SCALE,..., got {text!r}")
    return [(path, number(scale)) for path, _, scale in pairs]


def unscaled(text: str) -> list[tuple[str, float]]:
    """Read adapters of scale 1."""
    return [(path, 1.0) for path in words(text)]


# Writers: they put a value into the parameters.


def owner(params: Any, path: str) -> tuple[Any, str]:
    """Return the object that holds the last part of a dotted path, and that part."""
    *parents, name = path.split(".")
    for parent in parents:
        params = getattr(params, parent)
    return params, name


def put(*paths: str) -> Apply:
    """Make a writer of one value to these dotted paths."""

    def apply(params: Any, value: Any) -> None:
        for path in paths:
            setattr(*owner(params, path), value)

    return apply


def put_not(name: str) -> Apply:
    """Make a writer of the opposite."""
    return lambda params, value: setattr(params, name, not value)


def put_member(path: str, prefix: str, members: Mapping[str, str]) -> Apply:
    """Set an enumeration by member name, since the numbers behind the names move between builds."""

    def apply(params: Any, option: str) -> None:
        target, name = owner(params, path)
        setattr(target, name, type(getattr(target, name))[prefix + members[option]])

    return apply


def put_sampling(name: str, bit: str) -> Apply:
    """Set a sampling default and mark it as the user's, else the model file's own value wins."""

    def apply(params: Any, value: Any) -> None:
        kinds = import_module("xllamacpp").common_params_sampling_config
        setattr(params.sampling, name, value)
        params.sampling.user_sampling_config |= int(kinds[f"COMMON_PARAMS_SAMPLING_CONFIG_{bit}"])

    return apply


def put_threads(pool: str) -> Apply:
    """Make a writer of a thread count; all cores for 0 and less."""
    return lambda params, count: put(f"{pool}.n_threads")(params, count if count > 0 else os.cpu_count())


def put_context(params: Any, size: int) -> None:
    """Write the size of the context."""
    params.n_ctx = size
    if size == 0:
        params.fit_params_min_ctx = -1  # asked for in full: the automatic fit must not shorten it


def put_template_values(params: Any, values: dict[str, str]) -> None:
    """Add values for the chat template."""
    params.default_template_kwargs = {**params.default_template_kwargs, **values}


def put_reasoning(params: Any, option: str) -> None:
    """Write whether the model thinks before it answers."""
    params.enable_reasoning = {"on": 1, "off": 0, "auto": -1}[option]
    if option != "auto":
        put_template_values(params, {"enable_thinking": "true" if option == "on" else "false"})


def put_origins(params: Any, origins: str) -> None:
    """Write the origins that CORS admits."""
    params.cors_origins = origins
    params.cors_origins_explicit = True


def put_rerank(params: Any, _: bool) -> None:
    """Turn the server into a reranker."""
    params.embedding = True
    put_member("pooling_type", "LLAMA_POOLING_TYPE_", {"rank": "RANK"})(params, "rank")


def put_margins(params: Any, margins: list[float]) -> None:
    """Write the memory that the fit leaves free on each device."""
    spread = margins * len(params.fit_params_target) if len(margins) == 1 else margins
    kept = params.fit_params_target[len(spread) :]
    params.fit_params_target = [int(mib) * _MIB for mib in spread] + kept


def put_split(params: Any, shares: list[float]) -> None:
    """Write the share of each GPU."""
    params.tensor_split = shares + [0.0] * (len(params.tensor_split) - len(shares))


def put_spec_types(params: Any, types: list[str]) -> None:
    """Add kinds of speculative decoding."""
    known = import_module("xllamacpp").common_speculative_type
    members = [known["COMMON_SPECULATIVE_TYPE_" + name.upper().replace("-", "_")] for name in types]
    params.speculative.types = [*params.speculative.types, *members]


def put_spec_default(params: Any, _: bool) -> None:
    """Choose the default drafting."""
    put_spec_types(params, ["ngram-mod"])


EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""The tensors of experts: llama.cpp common/common.h, LLM_FFN_EXPS_REGEX."""


def put_overrides(params: Any, entries: str) -> None:
    """Add entries ``pattern=buffer`` after those that are there: the first that matches a tensor counts."""
    params.tensor_buft_overrides = ",".join(filter(None, (params.tensor_buft_overrides, entries)))


def put_cpu_moe(params: Any, _: bool) -> None:
    """Keep all experts in RAM."""
    put_overrides(params, f"{EXPERTS}=CPU")


def put_n_cpu_moe(params: Any, layers: int) -> None:
    """Keep the experts of the first layers in RAM."""
    put_overrides(params, ",".join(rf"blk\.{layer}{EXPERTS}=CPU" for layer in range(layers)))


def put_verbose(params: Any, _: bool) -> None:
    """Log everything."""
    params.verbosity = _INT_MAX


def put_adapters(params: Any, adapters: list[tuple[str, float]]) -> None:
    """Add LoRA adapters."""
    adapter = import_module("xllamacpp").CommonAdapterLoraInfo
    params.lora_adapters = [*params.lora_adapters, *(adapter(path, scale) for path, scale in adapters)]


def extend(name: str) -> Apply:
    """Make a writer that adds to a list."""
    return lambda params, words: setattr(params, name, [*getattr(params, name), *words])
