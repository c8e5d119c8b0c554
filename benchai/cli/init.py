"""``benchai init``: from a bare machine to a running server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.advise import ContextOption, DirOption, ExpertsOption, GpuOption, RamOption, RoleOption

if TYPE_CHECKING:
    from benchai.runtime.advise.advise import Advice
    from benchai.runtime.advise.downloads import Download
    from benchai.runtime.advise.fit import File

MIB, GIB = 1024**2, 1024**3


def init(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without a question.")] = False,
    gpu_mib: GpuOption = None,
    ram_mib: RamOption = None,
    context: ContextOption = None,
    role: RoleOption = None,
    models_dir: DirOption = None,
    experts_in_ram: ExpertsOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The benchai.yaml to write. Default: that of this user.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a benchai.yaml that is there.")] = False,
    download: Annotated[bool, typer.Option("--download/--no-download", help="Fetch the model files.")] = True,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Run 'benchai serve' at the end.")] = True,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Set up the bundled models: to try things, no download.")
    ] = False,
) -> None:
    """Set up this machine: find models that fit it, fetch them, write benchai.yaml, start the server.

    Nothing is fetched or written before you agree. A download that was cut off goes on where it stopped.
    """
    from benchai.cli.advise import budget_of, check_target, make_advice, models_folder, write_config
    from benchai.config import paths

    target = (paths.expand(out) if out is not None else paths.config_dir() / "benchai.yaml").absolute()
    check_target(target, force)
    if tiny:
        _agree(yes, f"write {target}" + " and start the server" * start)
        text, complete = _tiny_text(), True
    else:
        folder = models_folder(models_dir)
        advice, files = make_advice(budget_of(gpu_mib, ram_mib), context, role, folder, experts_in_ram)
        text, complete = _with_models(advice, files, folder, target, yes=yes, download=download, start=start)
    write_config(target, text, force)
    _tell(f"written: {target}")
    _tell_shadow(target)
    if start and complete:
        from benchai.cli.serve import serve

        serve(config=target)
        return
    _tell(("start it with: " if complete else "fetch the missing files, then: ") + f"benchai serve --config {target}")


def _with_models(
    advice: Advice, files: dict[str, File], folder: Path, target: Path, *, yes: bool, download: bool, start: bool
) -> tuple[str, bool]:
    """The text of benchai.yaml once the models are there, and whether they all are."""
    from benchai.cli.advise import print_table
    from benchai.runtime.advise.yaml_text import as_yaml

    print_table(advice)
    for choice in advice.choices:
        _tell(f"licence of {choice.entry.title}: {choice.entry.licence}")
    missing = _missing(advice, files)
    if not download:
        _agree(yes, f"write {target}")
        for name, repo in missing:
            _tell(f"missing: {folder / name} (of {repo})")
        return as_yaml(advice, folder, files), not missing
    needed = _needed(advice, folder, files)
    _check_room(needed, folder)
    _agree(yes, _in_words(needed, folder) + f"write {target}" + " and start the server" * start)
    _fetch(needed)
    advice, files = _with_files(advice, folder)
    return as_yaml(advice, folder, files), True


def _missing(advice: Advice, files: dict[str, File]) -> list[tuple[str, str]]:
    """Name and repository of each file that is not there."""
    named = [(choice.file, choice.entry) for choice in advice.choices]
    named += [(choice.entry.projector_file, choice.entry) for choice in advice.choices if choice.entry.projector]
    return [(name, entry.repo) for name, entry in named if name not in files]


def _needed(advice: Advice, folder: Path, files: dict[str, File]) -> list[Download]:
    from benchai.config.hub_fetch import list_files
    from benchai.errors import ModelFileError
    from benchai.runtime.advise.downloads import downloads

    try:
        return downloads(advice, folder, files, list_files)
    except ModelFileError as error:
        if error.hint and "network" in error.hint:
            hint = "check the network; --no-download writes benchai.yaml alone, --tiny needs no network"
            raise ModelFileError(error.message, hint=hint) from error
        raise


def _check_room(needed: list[Download], folder: Path) -> None:
    """Refuse a folder that cannot be written, or has too little space, before anybody is asked.

    Raises:
        ModelFileError: so.
    """
    import shutil
    import tempfile

    from benchai.errors import ModelFileError

    above = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    missing, hint = sum(one.missing for one in needed), "name another folder with --models-dir"
    try:
        free = shutil.disk_usage(above).free
        if missing:
            tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        raise ModelFileError(f"{str(folder)!r} cannot be written: {error.strerror or error}", hint=hint) from error
    if missing > free:
        message = f"{str(folder)!r} has {_size(free)} free, the models need {_size(missing)}"
        raise ModelFileError(message, hint=f"make room, or {hint}")


def _in_words(needed: list[Download], folder: Path) -> str:
    for one in needed:
        kept = one.file.size - one.missing
        there = f", {_size(kept)} of it there" if kept else ""
        unchecked = "" if one.file.sha256 else ", the hub tells no SHA-256 to check it against"
        _tell(f"to fetch: {one.file.repo}:{one.file.name}, {_size(one.file.size)}{there}{unchecked}")
    if not needed:
        return ""
    _tell(f"into {folder}")
    return f"fetch {_size(sum(one.missing for one in needed))}, "


def _size(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"


def _agree(yes: bool, what: str) -> None:
    """Ask, unless that was done with an option.

    Raises:
        UsageError: there is nobody to ask.
    """
    from benchai.errors import UsageError

    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"this would {what}", hint="say --yes to do it without a question")
    typer.confirm(f"{what[0].upper()}{what[1:]}?", default=True, abort=True, err=True)


def _fetch(needed: list[Download]) -> None:
    from benchai.cli.init_progress import progress_shown
    from benchai.config.hub_fetch import fetch

    try:
        with progress_shown() as show:
            for one in needed:
                fetch(one.file, one.target, show)
    except KeyboardInterrupt:
        _tell("stopped; what was fetched is kept: 'benchai init' goes on there")
        raise typer.Exit(130) from None


def _with_files(advice: Advice, folder: Path) -> tuple[Advice, dict[str, File]]:
    """The same advice with the sizes of the files that are there now."""
    from dataclasses import replace

    from benchai.runtime.advise.at_hand import files_at_hand
    from benchai.runtime.advise.catalogue import catalogue
    from benchai.runtime.advise.fit import Wanted, measured

    files = files_at_hand(catalogue(), [folder])
    wanted = Wanted(files=files)
    return replace(advice, choices=tuple(measured(one, wanted) for one in advice.choices)), files


def _tiny_text() -> str:
    import yaml

    from benchai.config import default_config

    head = "# The bundled demonstration models: everything can be tried, what they write makes little sense.\n"
    data = default_config().model_dump(exclude_defaults=True)
    return head + yaml.safe_dump(data, sort_keys=False)


def _tell_shadow(target: Path) -> None:
    """Say which configuration would be used in place of this one."""
    from benchai.config import find_config
    from benchai.errors import ConfigError

    try:
        used = find_config()
    except ConfigError as error:
        _tell(f"warning: {error.message}; this one with --config {target}")
        return
    if used is not None and not (used.exists() and used.samefile(target)):
        _tell(f"warning: here {used} is used; this one with --config {target}")


def _tell(text: str) -> None:
    from benchai.cli.options import say

    say(text, err=True)
