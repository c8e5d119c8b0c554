"""``benchai cache``: what replies are kept, how often similar ones would be wrong, and deleting all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json, say

if TYPE_CHECKING:
    from benchai.runtime.router.cache.shadow import Estimate

app = typer.Typer(help="Look at the replies that are kept.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show how many replies are kept, of which models, and how often they were given."""
    from dataclasses import asdict

    from benchai.config import load_config
    from benchai.runtime.router.cache import overview

    settings = load_config(config).config.cache
    found = overview.status(overview.file())
    if json:
        print_json(asdict(found) | {"settings": settings.model_dump()})
        return
    size = f"{_mib(found.disk)} of {settings.size} MiB"
    typer.echo(f"{found.file}: {size}, {'on' if settings.exact else 'off'}")
    typer.echo(f"hits {found.hits}, misses {found.misses}, requests for similar ones {found.similar}")
    for one in found.sources:
        say(f"{one.source}: replies {one.replies}, {_mib(one.size)} MiB, hits {one.hits}")


@app.command()
def report(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Estimate from shadow runs how many similar hits are false."""
    from benchai.config import load_config
    from benchai.runtime.router.cache import overview

    settings = load_config(config).config.cache.similar
    found = overview.estimates(overview.file())
    if json:
        print_json([_as_json(one, settings.max_false) for one in found])
        return
    if not found:
        hint = "" if settings.enabled else "; cache.similar.enabled is false"
        typer.echo(f"no shadow runs yet{hint}", err=True)
    for one in found:
        low, high = one.bounds
        share = f"false {one.false} of {one.runs} ({low:.1%} to {high:.1%}, allowed {settings.max_false:.1%})"
        typer.echo(f"{one.settings}: {share}: {one.verdict(settings.max_false)}")


@app.command()
def clear() -> None:
    """Delete all replies and everything learnt about them, for a running server too."""
    from benchai.runtime.router.cache import clearing, overview

    count = clearing.clear(overview.file())
    typer.echo(f"deleted {count} {'reply' if count == 1 else 'replies'}", err=True)


def _as_json(one: Estimate, max_false: float) -> dict[str, object]:
    low, high = one.bounds
    verdict = one.verdict(max_false)
    return {"settings": one.settings, "runs": one.runs, "false": one.false, "low": low, "high": high} | {
        "max_false": max_false,
        "verdict": verdict,
    }


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f}"
