"""Models on the Hugging Face hub: ``owner/name``, ``owner/name:file.gguf`` or ``owner/name:Q5_K_M``."""

from __future__ import annotations

import re
from pathlib import Path

from benchai.config import paths
from benchai.config.hub_errors import told
from benchai.config.hub_fetch import HubFile, Progress, fetch, list_files
from benchai.errors import ConfigError, ModelFileError

DEFAULT_QUANT = "Q4_K_M"
# a model in several files is loaded by its first
_SPLIT = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<total>\d{5})\.gguf", re.IGNORECASE)
_REPO = re.compile(r"[A-Za-z0-9_]([\w.-]*[A-Za-z0-9_])?/[A-Za-z0-9_]([\w.-]*[A-Za-z0-9_])?", re.ASCII)
MAX_REPO = 96


def split_reference(reference: str) -> tuple[str, str]:
    """``owner/name[:what]`` as (repository, what).

    Raises:
        ConfigError: not of that form.
    """
    repo, _, what = reference.partition(":")
    if not _REPO.fullmatch(repo) or len(repo) > MAX_REPO or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise ConfigError(f"hf: {reference!r} is not of the form owner/name[:file or quantisation]")
    return repo, what or DEFAULT_QUANT


def choose_files(files: list[str], what: str) -> list[str]:
    """The GGUF files that ``what`` (a file name or a quantisation) means: one, or all parts of a split one."""
    ggufs = sorted(name for name in files if name.lower().endswith(".gguf"))
    chosen = [name for name in ggufs if name == what] if what.lower().endswith(".gguf") else _of_quant(ggufs, what)
    if not chosen:
        return []
    split = _SPLIT.fullmatch(chosen[0])
    return [name for name in ggufs if _same_model(_SPLIT.fullmatch(name), split)] if split else chosen[:1]


def _of_quant(ggufs: list[str], quant: str) -> list[str]:
    # F16 is not BF16, Q4_K is not Q4_K_M
    named = re.compile(rf"(?<![a-z0-9]){re.escape(quant)}(?![a-z0-9_])", re.IGNORECASE)
    return [name for name in ggufs if named.search(name) and "mmproj" not in name.lower()]


def _same_model(part: re.Match[str] | None, first: re.Match[str]) -> bool:
    return part is not None and (part["stem"], part["total"]) == (first["stem"], first["total"])


def cached_file(reference: str) -> Path | None:
    """The (first) file of a reference where the hub's cache has it whole; no network."""
    repo, what = split_reference(reference)
    for snapshot in _snapshots(repo):
        # a link whose blob is gone is no file
        names = [str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if paths.is_file(file)]
        chosen = choose_files(names, what)
        if chosen and _complete(chosen):
            return snapshot / chosen[0]
    return None


def _snapshots(repo: str) -> list[Path]:
    """The snapshots of a repository in the hub's cache, the newest first."""
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / _folder(repo) / "snapshots"
    if not paths.is_dir(snapshots):
        return []
    return sorted(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)


def _folder(repo: str) -> str:
    return f"models--{repo.replace('/', '--')}"


def _complete(chosen: list[str]) -> bool:
    split = _SPLIT.fullmatch(chosen[0])
    return split is None or len(chosen) == int(split["total"])


def cached_ggufs(repo: str) -> list[Path]:
    """The GGUF files of a repository that the hub's cache has, of the newest snapshot; a split one by its first."""
    for snapshot in _snapshots(repo):
        files = sorted(file for file in snapshot.rglob("*.gguf") if paths.is_file(file))
        names = [str(file.relative_to(snapshot)) for file in files]
        firsts = {chosen[0] for name in names if (chosen := choose_files(names, name)) and _complete(chosen)}
        if firsts:
            return [snapshot / name for name in sorted(firsts)]
    return []


def download(reference: str, progress: Progress | None = None) -> Path:
    """The (first) file of a reference, fetched into the hub's cache where it is not there yet.

    Raises:
        ModelFileError: no such repository or file, the hub cannot be reached, or what comes is not what it promised.
    """
    cached = cached_file(reference)
    if cached is not None:
        return cached
    repo, what = split_reference(reference)
    files = {file.name: file for file in list_files(repo)}
    fetched = [_into_cache(files[name], progress) for name in chosen_files(repo, list(files), what)]
    return fetched[0]


def chosen_files(repo: str, files: list[str], what: str) -> list[str]:
    """The files of a repository that ``what`` means.

    Raises:
        ModelFileError: none of them, with those that are there.
    """
    chosen = choose_files(files, what)
    if not chosen:
        ggufs = ", ".join(name for name in files if name.endswith(".gguf")) or "none"
        message = f"hf: {repo + ':' + what!r}: no GGUF of {repo} matches {what!r}"
        raise ModelFileError(message, hint=f"its GGUF files: {ggufs}")
    return chosen


def _into_cache(file: HubFile, progress: Progress | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE

    if file.sha256 is not None:
        # where the hub's client looks for it: it then only makes the link
        fetch(file, Path(HF_HUB_CACHE) / _folder(file.repo) / "blobs" / file.sha256, progress)
    with told(f"{file.repo}:{file.name}"):
        return Path(hf_hub_download(file.repo, file.name))
