"""``benchai models advise``: for each role a model that fits, and a benchai.yaml that says why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import JsonOption, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from benchai.runtime.advise.advise import Advice, Budget
    from benchai.runtime.advise.fit import Choice, File

PIPED_WIDTH = 120
GpuOption = Annotated[
    list[int] | None,
    typer.Option(
        "--gpu-mib", min=0, max=2**24, help="GPU memory in MiB, once for each GPU; 0: none. Default: this machine's."
    ),
]
RamOption = Annotated[
    int | None, typer.Option("--ram-mib", min=1, max=2**26, help="RAM in MiB. Default: this machine's.")
]
ContextOption = Annotated[
    int | None, typer.Option("--context", min=256, max=2**24, help="Context in tokens for the roles that write text.")
]
RoleOption = Annotated[
    list[str] | None,
    typer.Option("--role", help="A role to serve, once for each. Default: code, general, planner, research, vision."),
]
ExpertsOption = Annotated[
    bool,
    typer.Option("--experts-in-ram", help="A mixture of experts too large for the GPU may keep experts in RAM."),
]
DirOption = Annotated[
    Path | None, typer.Option("--models-dir", help="Folder of the model files. Default: that of the configuration.")
]


def advise(
    gpu_mib: GpuOption = None,
    ram_mib: RamOption = None,
    context: ContextOption = None,
    role: RoleOption = None,
    models_dir: DirOption = None,
    experts_in_ram: ExpertsOption = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write benchai.yaml there, not to stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Print a benchai.yaml for this machine, or for the memory that is given, with the reason for each choice.

    A table goes to stderr. Nothing is downloaded: 'benchai init' does that.
    """
    from benchai.runtime.advise.yaml_text import as_yaml

    folder = models_folder(models_dir)
    advice, files = make_advice(budget_of(gpu_mib, ram_mib), context, role, folder, experts_in_ram)
    text = as_yaml(advice, folder, files)
    if out is not None:
        write_config(out, text, force)
    if json:
        print_json(report(advice, files) | {"yaml": text})
        return
    print_table(advice)
    if out is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"written: {out}", err=True)


def budget_of(gpu_mib: list[int] | None, ram_mib: int | None) -> Budget:
    """The memory that the options name, the rest as this machine has it."""
    from benchai.runtime.advise.advise import Budget
    from benchai.runtime.measure.machine import usable_cores
    from benchai.runtime.placement.gauge import Gauge

    with Gauge() as gauge:
        devices = {one.device: one.total_mib for one in gauge.devices()}
    ram = devices.pop("cpu")
    gpus = list(devices.values()) if gpu_mib is None else [mib for mib in gpu_mib if mib]
    here = gpu_mib is None and ram_mib is None
    return Budget(tuple(gpus), ram_mib or ram, usable_cores() if here else None)


def models_folder(given: Path | None) -> Path:
    """Where model files are looked for, and put: the option, ``models_dir`` of the configuration, the user's folder."""
    from benchai.config import load_config, paths
    from benchai.errors import BenchAIError

    if given is not None:
        return paths.expand(given).absolute()
    try:
        loaded = load_config()
    except BenchAIError:
        # a broken one is perhaps why somebody asks for another
        return paths.models_dir().absolute()
    named = loaded.config.models_dir
    return (loaded.folder / paths.expand(named) if named else paths.models_dir()).absolute()


def make_advice(
    budget: Budget, context: int | None, roles: list[str] | None, folder: Path, experts_in_ram: bool = False
) -> tuple[Advice, dict[str, File]]:
    """The advice for a budget, and the files that are there already.

    Raises:
        UsageError: there is no such role.
        DoesNotFit: no model fits at all.
    """
    from benchai.errors import DoesNotFit, UsageError, did_you_mean
    from benchai.runtime.advise.advise import advise as decide
    from benchai.runtime.advise.at_hand import files_at_hand
    from benchai.runtime.advise.catalogue import catalogue
    from benchai.runtime.advise.fit import Wanted
    from benchai.runtime.advise.rules import DEFAULT_ROLES, RULES

    for role in roles or ():
        if role not in RULES:
            raise UsageError(f"--role {role!r}: there is no such role", hint=did_you_mean(role, RULES))
    files = files_at_hand(catalogue(), [folder])
    found = decide(budget, catalogue(), roles or DEFAULT_ROLES, Wanted(context, files, experts_in_ram))
    if not found.choices:
        reasons = "; ".join(dict.fromkeys(f"{role}: {reason}" for role, reason in found.missing.items()))
        hint = "ask for a smaller --context or fewer roles; 'benchai init --tiny' sets up the bundled models"
        raise DoesNotFit(reasons, hint=hint)
    return found, files


def write_config(path: Path, text: str, force: bool) -> None:
    """Write benchai.yaml.

    Raises:
        UsageError: a file is there already, or it cannot be written.
    """
    from benchai.config import paths
    from benchai.errors import UsageError

    check_target(path, force)
    try:
        paths.replace_file(paths.expand(path), text)
    except OSError as error:
        message = f"{str(path)!r} cannot be written: {error.strerror or error}"
        raise UsageError(message, hint="name another file with --out") from error


def check_target(path: Path, force: bool) -> None:
    """Refuse a target that is there, or could not be written.

    Raises:
        UsageError: so.
    """
    import tempfile

    from benchai.config import paths
    from benchai.errors import UsageError

    target = paths.expand(path).absolute()
    if paths.is_dir(target):
        raise UsageError(f"{str(path)!r} is a folder", hint=f"name a file, for example {path / 'benchai.yaml'}")
    if target.exists() and not force:
        hint = "name another file with --out, or write over it with --force"
        raise UsageError(f"{str(path)!r} is there already", hint=hint)
    above = next((folder for folder in target.parents if folder.exists()), target.parent)
    try:
        # whoever may do everything is told of a read-only disk by nothing else
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        message = f"{str(path)!r} cannot be written: {str(above)!r}: {error.strerror or error}"
        raise UsageError(message, hint="name another file with --out") from error


def report(advice: Advice, files: dict[str, File]) -> dict[str, Any]:
    """An advice as plain data; MiB."""
    from benchai.runtime.advise.rules import gpu_room, ram_room

    budget = advice.budget
    return {
        "budget": {
            "gpus_mib": list(budget.gpus),
            "gpus_usable_mib": [gpu_room(total) for total in budget.gpus],
            "ram_mib": budget.ram,
            "ram_usable_mib": ram_room(budget.ram),
        },
        "roles": {role: _row(choice, files) for choice in advice.choices for role in choice.roles},
        "missing": advice.missing,
    }


def _row(choice: Choice, files: dict[str, File]) -> dict[str, Any]:
    need, found = choice.need, files.get(choice.file)
    return {
        "model": choice.entry.name,
        "title": choice.entry.title,
        "quantisation": choice.quantisation,
        "context": choice.context,
        "cache_type": choice.cache_type,
        "place": choice.place,
        "gpus": list(choice.devices),
        "on_demand": choice.on_demand,
        "cpu_moe": choice.cpu_moe,
        "experts_in_ram_mib": choice.ram_mib,
        "weights_mib": need.weights_mib,
        "kv_mib": need.kv_mib,
        "compute_mib": need.compute_mib,
        "overhead_mib": need.overhead_mib,
        "total_mib": need.total_mib,
        "sizes": "exact" if choice.exact else "estimated",
        "repository": choice.entry.repo,
        "file": str(found.path) if found else choice.file,
        "at_hand": found is not None,
        "licence": choice.entry.licence,
        "source": choice.entry.source,
        "reasons": list(choice.reasons),
    }


def print_table(advice: Advice) -> None:
    """The advice for people, on stderr."""
    from rich import box
    from rich.table import Table

    from benchai.cli.render import err_console

    console = err_console()
    if not console.is_terminal:
        # a pipe has no width: lines must not be broken for one
        console.width = PIPED_WIDTH
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None)
    for column in ("roles", "model", "quantisation", "context", "KV", "place", "MiB", "sizes"):
        table.add_column(column, justify="right" if column in ("context", "MiB") else "left")
    for one in advice.choices:
        sizes = "exact" if one.exact else "estimated"
        cells = (one.entry.title, one.quantisation, str(one.context), one.cache_type, place_in_words(one))
        table.add_row(", ".join(one.roles), *cells, str(one.need.total_mib), sizes)
    console.print(_budget_in_words(advice.budget), markup=False)
    console.print(table, soft_wrap=False)
    _print_missing(console, advice)


def _print_missing(console: Console, advice: Advice) -> None:
    for role, reason in advice.missing.items():
        console.print(f"{role}: {reason}", style="yellow", markup=False)


def place_in_words(choice: Choice) -> str:
    """Where a model lives."""
    where = "CPU" if choice.place == "cpu" else f"GPU {'+'.join(map(str, choice.devices))}"
    where += f", experts of {choice.cpu_moe} layers in RAM" if choice.cpu_moe else ""
    return f"{where}, on demand" if choice.on_demand else where


def _budget_in_words(budget: Budget) -> str:
    from benchai.runtime.advise.rules import gpu_room, ram_room

    gpus = ", ".join(
        f"GPU {number}: {total} MiB, {gpu_room(total)} for models" for number, total in enumerate(budget.gpus)
    )
    return f"{gpus or 'no GPU'}; RAM: {budget.ram} MiB, {ram_room(budget.ram)} for models"
