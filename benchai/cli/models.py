"""``benchai models``: what a model file holds, and what it will take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from benchai.config import LoadedConfig, ModelConfig
    from benchai.runtime.placement.estimate import FitFigures, Settings
    from benchai.runtime.placement.model_info import ModelInfo

app = typer.Typer(help="Look at model files.", no_args_is_help=True, rich_markup_mode=None)
CONTEXTS = (2048, 4096, 8192, 16384, 32768)
PIPED_WIDTH = 100
FileArgument = Annotated[
    str, typer.Argument(help="A GGUF file, builtin:tiny or another bundled one, or a model of the configuration.")
]
ContextOption = Annotated[
    int | None, typer.Option("--context", min=1, max=2**31 - 1, help="Context in tokens; default: the model's.")
]
SlotsOption = Annotated[int | None, typer.Option("--slots", min=1, max=256, help="Parallel requests.")]
KOption = Annotated[str | None, typer.Option("-ctk", "--cache-type-k", help="Type of the K cache.")]
VOption = Annotated[str | None, typer.Option("-ctv", "--cache-type-v", help="Type of the V cache.")]


@app.callback()
def _group() -> None:
    # a group of one command would otherwise be that command
    pass


@app.command()
def inspect(
    file: FileArgument,
    context: ContextOption = None,
    slots: SlotsOption = None,
    cache_type_k: KOption = None,
    cache_type_v: VOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print a model's facts, what it will take in RAM or on the GPU, and how that grows."""
    from benchai.runtime.placement.model_info import read_model_info

    path, loaded, model = find_model(file, config)
    info = read_model_info(path)
    settings = _settings(info, loaded, model, file, context, slots, cache_type_k, cache_type_v)
    extras = _extras(loaded, model)
    report = _report(info, settings, extras, _engine_figures(info, settings, loaded))
    if json:
        print_json(report)
    else:
        _print(report)


def find_model(file: str, config: Path | None) -> tuple[Path, LoadedConfig | None, ModelConfig | None]:
    """The file that a name means, and the configuration and the model where the name is one of those.

    Raises:
        UsageError: it is neither a file nor a model, or a remote endpoint serves the model.
        ModelFileError: the model's file is not downloaded yet.
        ConfigError: the configuration is wrong.
    """
    from benchai.config import load_config, paths
    from benchai.config.models import BUILTIN
    from benchai.errors import ModelFileError, UsageError, did_you_mean

    path = paths.expand(file)
    if not file.startswith(BUILTIN) and config is None and (paths.is_file(path) or paths.is_dir(path)):
        return path, None, None
    loaded = load_config(config)
    if file in loaded.config.models:
        model = loaded.config.models[file]
        if model.remote:
            raise UsageError(f"the model {file!r} is a remote endpoint", hint="name one that has a file")
        found = loaded.model_file(file)
        if found is None:
            hint = "run a workflow with it once, which fetches it"
            raise ModelFileError(f"models.{file}.hf = {model.hf!r} is not in the hub's cache", hint=hint)
        return found, loaded, model
    if file.startswith(BUILTIN) or paths.is_file(path) or file.lower().endswith(".gguf") or "/" in file:
        return (loaded.resolve(file) if not paths.is_file(path) else path), loaded, None
    hint = did_you_mean(file, loaded.config.models)
    raise UsageError(f"{file!r} is neither a file nor a model of {loaded.name}", hint=hint)


def _settings(
    info: ModelInfo,
    loaded: LoadedConfig | None,
    model: ModelConfig | None,
    name: str,
    context: int | None,
    slots: int | None,
    cache_type_k: str | None,
    cache_type_v: str | None,
) -> Settings:
    """The options, then the model's settings, then the engine's defaults."""
    from dataclasses import replace

    from benchai.runtime.placement.memory import settings_of

    configured = loaded.config.slots_of(name) if loaded is not None and model is not None else 1
    base = settings_of(model, info, configured)
    return replace(
        base,
        context=context or base.context,
        slots=slots or base.slots,
        cache_type_k=_cache_type("-ctk", cache_type_k) or base.cache_type_k,
        cache_type_v=_cache_type("-ctv", cache_type_v) or base.cache_type_v,
    )


def _cache_type(option: str, value: str | None) -> str | None:
    from typing import get_args

    from benchai.config.models import KVType
    from benchai.errors import UsageError, did_you_mean

    if value is not None and value not in get_args(KVType):
        raise UsageError(f"{option} {value!r}: there is no such cache type", hint=did_you_mean(value, get_args(KVType)))
    return value


def _extras(loaded: LoadedConfig | None, model: ModelConfig | None) -> dict[str, ModelInfo]:
    """The files that are loaded beside the model."""
    from benchai.runtime.placement.model_info import read_model_info

    if loaded is None or model is None:
        return {}
    named = {"projector": model.mmproj, "draft": model.draft.file if model.draft else None}
    return {kind: read_model_info(loaded.resolve(file)) for kind, file in named.items() if file is not None}


def _engine_figures(info: ModelInfo, settings: Settings, loaded: LoadedConfig | None) -> list[FitFigures] | None:
    from benchai.config.models import EngineConfig
    from benchai.errors import EngineError
    from benchai.runtime.engine.discover import find_engine
    from benchai.runtime.placement.estimate import cross_check, fit_argv

    if info.projector or info.layers == 0:
        return None
    try:
        engine = find_engine(loaded.config.engine, loaded.folder) if loaded is not None else find_engine(EngineConfig())
        return cross_check(engine.program, fit_argv(info, settings)) if engine.kind == "llama-server" else None
    except EngineError as error:
        typer.echo(f"warning: no cross-check with the engine: {error.message}", err=True)
        return None


def _report(
    info: ModelInfo, settings: Settings, extras: dict[str, ModelInfo], engine: list[FitFigures] | None
) -> dict[str, Any]:
    from dataclasses import asdict

    from benchai.runtime.placement.estimate import by_quantisation, kv_mib_per_context
    from benchai.runtime.placement.memory import estimate_with
    from benchai.runtime.placement.moe import split_table

    beside = (extras.get("projector"), extras.get("draft"))
    places = {place: estimate_with(info, settings, place == "gpu", *beside) for place in ("cpu", "gpu")}
    wanted = {key: value for key, value in asdict(settings).items() if key != "on_gpu"}
    return {
        "info": {key: value for key, value in asdict(info).items() if key != "tensors"},
        "settings": wanted | {kind: str(one.path) for kind, one in extras.items()},
        "estimate": {place: asdict(one) | {"total_mib": one.total_mib} for place, one in places.items()},
        "experts_in_ram": split_table(info, places["gpu"].total_mib),
        "engine": [asdict(one) for one in engine] if engine else None,
        "kv_mib": kv_mib_per_context(info, CONTEXTS, settings) if any(info.kv_heads) or info.recurrent else {},
        "quantisation_mib": by_quantisation(info.parameters),
    }


def _print(report: dict[str, Any]) -> None:
    import sys

    from rich.console import Console

    # a pipe has no width: lines must not be broken for one
    console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    for name, text in _facts(report["info"]):
        console.print(f"{name:<15} {text}", markup=False, soft_wrap=True)
    _print_estimate(console, report)
    if report["experts_in_ram"]:
        rows = [[str(cell) for cell in row.values()] for row in report["experts_in_ram"]]
        _print_table(console, "Experts in RAM, MiB", ["cpu_moe", "on the GPU", "in RAM"], rows)
    if report["kv_mib"]:
        types = list(next(iter(report["kv_mib"].values())))
        rows = [[str(context), *map(str, row.values())] for context, row in report["kv_mib"].items()]
        _print_table(console, "KV cache, MiB", ["context", *types], rows)
    if report["info"]["layers"]:
        rows = [[name, str(mib)] for name, mib in report["quantisation_mib"].items()]
        _print_table(console, "Weights by quantisation, MiB (about)", ["quantisation", "weights"], rows)


def _print_table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(f"\n{title}", style="bold", markup=False, soft_wrap=True)
    console.print(table)


def _print_estimate(console: Console, report: dict[str, Any]) -> None:
    settings, places = report["settings"], report["estimate"]
    types = f"K {settings['cache_type_k']}, V {settings['cache_type_v']}"
    beside = "".join(f", with {kind}" for kind in ("projector", "draft") if kind in settings)
    title = f"Estimate, MiB: context {settings['context']}, slots {settings['slots']}, {types}{beside}"
    engine = report["engine"] or []
    columns = ["", "in RAM", "on the GPU", *(f"engine's projection for {one['device']}" for one in engine)]
    names = {
        "weights": "weights",
        "kv": "KV cache",
        "compute": "compute buffer",
        "overhead": "overhead",
        "total": "total",
    }
    rows = [
        [name, *(str(one.get(f"{key}_mib", "")) for one in (places["cpu"], places["gpu"], *engine))]
        for key, name in names.items()
    ]
    _print_table(console, title, columns, rows)


def _facts(info: dict[str, Any]) -> list[tuple[str, str]]:
    from benchai.cli.render import safe

    facts = [
        ("file", safe(str(info["path"])) + (f" and {info['parts'] - 1} more parts" if info["parts"] > 1 else "")),
        ("name", safe(info["name"] or "-")),
        ("architecture", safe(info["architecture"]) + (" (projector)" if info["projector"] else "")),
        ("quantisation", info["quantisation"]),
        ("parameters", f"{info['parameters'] / 1e6:,.1f} million"),
        ("size", f"{info['file_bytes'] / 2**20:,.1f} MiB, weights {info['weight_bytes'] / 2**20:,.1f} MiB"),
        ("layers", f"{info['layers']}, embedding {info['embedding_length']}, vocabulary {info['vocabulary']}"),
        (
            "context",
            f"{info['context_length']} tokens" if not info["projector"] else f"{info['context_length']} patches",
        ),
    ]
    return facts + _attention(info)


def _attention(info: dict[str, Any]) -> list[tuple[str, str]]:
    kept = [heads for heads in info["kv_heads"] if heads]
    facts = []
    if kept:
        heads = str(kept[0]) if len(set(kept)) == 1 else f"{min(kept)} to {max(kept)}"
        size = f"{info['key_length']}" if info["latent"] else f"{info['key_length']} and {info['value_length']}"
        shared = f" in {len(kept)} layers" if len(kept) < info["layers"] else ""
        facts.append(("attention", f"{info['heads']} heads, {heads} KV heads of {size}{shared}"))
    if info["sliding_window"]:
        windowed = f"{info['sliding_window']} tokens in {len(info['window_layers'])} of {info['layers']} layers"
        facts.append(("sliding window", windowed))
    if info["recurrent"]:
        facts.append(("state", f"{info['state_bytes'] / 2**20:,.1f} MiB for each slot"))
    if info["experts"]:
        facts.append(("experts", f"{info['experts']}, {info['experts_used']} used for a token"))
    return facts
