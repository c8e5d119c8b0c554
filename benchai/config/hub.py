"""Models on the Hugging Face hub: ``owner/name``, ``owner/name:file.gguf`` or ``owner/name:Q5_K_M``."""

from __future__ import annotations

import re
from pathlib import Path

from benchai.config import paths
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
    from huggingface_hub.constants import HF_HUB_CACHE

    repo, what = split_reference(reference)
    snapshots = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"
    if not paths.is_dir(snapshots):
        return None
    newest_first = sorted(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for snapshot in newest_first:
        # a link whose blob is gone is no file
        names = [str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if paths.is_file(file)]
        chosen = choose_files(names, what)
        if chosen and _complete(chosen):
            return snapshot / chosen[0]
    return None


def _complete(chosen: list[str]) -> bool:
    split = _SPLIT.fullmatch(chosen[0])
    return split is None or len(chosen) == int(split["total"])


def download(reference: str) -> Path:
    """The (first) file of a reference, fetched into the hub's cache where it is not there yet.

    Raises:
        ModelFileError: no such repository or file, or the hub cannot be reached.
    """
    cached = cached_file(reference)
    if cached is not None:
        return cached
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import RepositoryNotFoundError

    repo, what = split_reference(reference)
    try:
        files = HfApi().list_repo_files(repo)
        chosen = choose_files(files, what)
        fetched = [Path(hf_hub_download(repo, name)) for name in chosen]
    except RepositoryNotFoundError as error:
        raise ModelFileError(
            f"hf: there is no repository {repo!r}, or it needs a token", hint="check the name, or set HF_TOKEN"
        ) from error
    except Exception as error:  # the errors of the hub's HTTP client have no common base that it makes public
        hint = "check the network, or use file:"
        raise ModelFileError(f"hf: {reference!r} cannot be fetched: {error}", hint=hint) from error
    if not fetched:
        ggufs = ", ".join(name for name in files if name.endswith(".gguf")) or "none"
        hint = f"its GGUF files: {ggufs}"
        raise ModelFileError(f"hf: {reference!r}: no GGUF of {repo} matches {what!r}", hint=hint)
    return fetched[0]
