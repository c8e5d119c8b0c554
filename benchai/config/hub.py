"""Models on the Hugging Face hub: ``owner/name``, ``owner/name:file.gguf`` or ``owner/name:Q5_K_M``."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

from benchai.errors import ConfigError, ModelFileError

DEFAULT_QUANT = "Q4_K_M"
# a model in several files is loaded by its first
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


def split_reference(reference: str) -> tuple[str, str]:
    """``owner/name[:what]`` as (repository, what).

    Raises:
        ConfigError: not of that form.
    """
    repo, _, what = reference.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ConfigError(f"hf: {reference!r} is not of the form owner/name[:file or quantisation]")
    return repo, what or DEFAULT_QUANT


def choose_files(files: list[str], what: str) -> list[str]:
    """The GGUF files that ``what`` (a file name or a quantisation) means: one, or all parts of a split one."""
    ggufs = sorted(name for name in files if name.lower().endswith(".gguf"))
    if what.lower().endswith(".gguf"):
        chosen = [name for name in ggufs if name == what]
    else:
        pattern = f"*{what.lower()}*.gguf"
        named = [name for name in ggufs if fnmatch.fnmatch(name.lower(), pattern)]
        chosen = [name for name in named if "mmproj" not in name.lower()]
    if not chosen:
        return []
    split = _SPLIT.search(chosen[0])
    if not split:
        return chosen[:1]
    stem = chosen[0][: split.start()]
    return [name for name in ggufs if name.startswith(stem) and _SPLIT.search(name)]


def cached_file(reference: str) -> Path | None:
    """The (first) file of a reference where the hub's cache has it whole; no network."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    repo, what = split_reference(reference)
    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return None
    for cached in cache.repos:
        if cached.repo_id != repo:
            continue
        for revision in sorted(cached.revisions, key=lambda one: one.last_modified, reverse=True):
            names = {str(file.file_path.relative_to(revision.snapshot_path)): file.file_path for file in revision.files}
            chosen = choose_files(list(names), what)
            if chosen and _complete(chosen):
                return names[chosen[0]]
    return None


def _complete(chosen: list[str]) -> bool:
    split = _SPLIT.search(chosen[0])
    return split is None or len(chosen) == int(split.group(2))


def download(reference: str) -> Path:
    """The (first) file of a reference, fetched into the hub's cache where it is not there yet.

    Raises:
        ModelFileError: no such repository or file, or the hub cannot be reached.
    """
    cached = cached_file(reference)
    if cached is not None:
        return cached
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    repo, what = split_reference(reference)
    try:
        files = HfApi().list_repo_files(repo)
        chosen = choose_files(files, what)
        if not chosen:
            ggufs = ", ".join(name for name in files if name.endswith(".gguf")) or "none"
            raise ModelFileError(
                f"hf: {reference!r}: no GGUF of {repo} matches {what!r}", hint=f"its GGUF files: {ggufs}"
            )
        fetched = [Path(hf_hub_download(repo, name)) for name in chosen]
        return fetched[0]
    except RepositoryNotFoundError as error:
        raise ModelFileError(
            f"hf: there is no repository {repo!r}, or it needs a token", hint="check the name, or set HF_TOKEN"
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise ModelFileError(
            f"hf: {reference!r} cannot be fetched: {error}", hint="check the network, or use file:"
        ) from error
