"""``benchai bench speculative``: does drafting pay for this model, on these prompts, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json, say

if TYPE_CHECKING:
    from benchai.config import LoadedConfig, ModelConfig
    from benchai.runtime.measure.prompts import Prompts
    from benchai.runtime.measure.speculative import Comparison

RoleArgument = Annotated[str, typer.Argument(help="A role, or a model of the configuration.")]
DraftOption = Annotated[
    str | None, typer.Option("--draft", help="Measure this draft model (GGUF) in place of what is configured.")
]
NgramOption = Annotated[bool, typer.Option("--ngram", help="Measure drafting from n-grams.")]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts", help="Your prompts: text with an empty line between two, or .jsonl; else a standard mix."
    ),
]
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, max=1000, help="How often each prompt is asked.")]
TokensOption = Annotated[int, typer.Option("--max-tokens", min=1, max=100_000, help="Tokens of a reply at most.")]
ApplyOption = Annotated[
    bool, typer.Option("--apply", help="Change benchai.yaml: drafting off where it loses, on where it wins.")
]


def speculative(
    role: RoleArgument,
    draft: DraftOption = None,
    ngram: NgramOption = False,
    prompts: PromptsOption = None,
    repeats: RepeatsOption = 3,
    max_tokens: TokensOption = 128,
    apply: ApplyOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a model with and without drafting: acceptance, speed, memory, and whether the replies are the same.

    Without --draft and --ngram, what the configuration says is measured, and n-grams where it says nothing.
    """
    from benchai.config import load_config
    from benchai.config.edit import refuse_unwritable
    from benchai.runtime.measure.prompts import read_prompts
    from benchai.runtime.measure.rig import launched_model
    from benchai.runtime.measure.speculative import change, drafting

    loaded = load_config(config)
    name = launched_model(loaded, role)
    model = loaded.config.models[name]
    wanted, asked = drafting(model, draft, ngram), read_prompts(prompts)
    if apply:
        for verdict in ("slower", "faster"):
            refuse_unwritable(loaded, name, change(model, wanted, verdict))
    found = _measured(loaded, name, wanted, asked, repeats, max_tokens)
    keys = change(model, wanted, found.verdict)
    report = _report(role, name, wanted, asked, found) | {"repeats": repeats, "max_tokens": max_tokens, "change": keys}
    if not json:
        _print(report)
    applied = False
    try:
        if keys and (apply or (not json and _offered(loaded, name, keys))):
            _apply(loaded, name, keys)
            applied = True
    finally:
        # what was measured is told also where the file cannot be changed
        if json:
            print_json(report | {"applied": applied})


def _measured(
    loaded: LoadedConfig, name: str, wanted: ModelConfig, asked: Prompts, repeats: int, max_tokens: int
) -> Comparison:
    from benchai.cli.asyncrun import run_async
    from benchai.cli.memory_progress import bar
    from benchai.runtime.measure.speculative import measure

    with bar() as show:
        return run_async(
            measure(
                loaded,
                name,
                wanted,
                asked,
                repeats=repeats,
                max_tokens=max_tokens,
                progress=lambda done, total: show(done, total, "rounds"),
            )
        )


def _report(role: str, name: str, wanted: ModelConfig, asked: Prompts, found: Comparison) -> dict[str, Any]:
    from benchai.runtime.measure.speculative import sentence

    ngram = wanted.ngram if isinstance(wanted.ngram, bool) else wanted.ngram.model_dump()
    measured = {"draft": wanted.draft.model_dump() if wanted.draft else None, "ngram": ngram}
    prompts = {"prompts": asked.source, "prompt_count": len(asked.messages)}
    return {"role": role, "model": name, **measured, **prompts, **found.as_json(), "summary": sentence(found, wanted)}


def _print(report: dict[str, Any]) -> None:
    kinds = [report["draft"]["file"]] if report["draft"] else []
    kinds += ["n-grams"] if report["ngram"] else []
    say(f"{report['model']} on {report['engine']}, drafting with {' and '.join(kinds)}")
    say(f"prompts: {report['prompt_count']} ({report['prompts']}), pairs of replies: {report['pairs']}\n")
    _print_table(report)
    for line in _lines(report):
        say(line)


def _print_table(report: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None)
    for number, column in enumerate(("", "plain", "drafting")):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    sides = [report["plain"], report["drafting"]]
    rates = [one["generation_tokens_per_second"] for one in sides]
    table.add_row("generation, tokens/s", *("-" if rate is None else f"{rate:.1f}" for rate in rates))
    table.add_row("all requests, s", *(f"{one['request_seconds']:.2f}" for one in sides))
    for device in sorted({*sides[0]["memory_mib"], *sides[1]["memory_mib"]}):
        table.add_row(f"memory {device}, MiB", *(str(one["memory_mib"].get(device, 0)) for one in sides))
    console.print(table)


def _lines(report: dict[str, Any]) -> list[str]:
    share = f"{report['accepted_tokens']} of {report['drafted_tokens']} drafted tokens"
    lines = [
        f"accepted: {share} ({report['acceptance']:.0%})" if report["drafted_tokens"] else "accepted: none drafted"
    ]
    which = ", ".join(map(str, report["differing_prompts"]))
    lines.append("replies: identical" if report["identical"] else f"replies: differ at the prompts {which}")
    if not report["plain_steady"]:
        lines[-1] += "; but the plain engine does not repeat itself either"
    return [*lines, report["summary"]]


def _in_words(keys: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {_setting(value)}" for key, value in keys.items())


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {one}" for key, one in value.items()) + "}"
    return {None: "off", True: "true"}.get(value, str(value))


def _offered(loaded: LoadedConfig, name: str, keys: dict[str, Any]) -> bool:
    """Say what --apply would change, or ask on a terminal; whether the answer is yes."""
    import sys

    from benchai.config.edit import refuse_unwritable
    from benchai.errors import ConfigError

    try:
        refuse_unwritable(loaded, name, keys)
    except ConfigError as error:
        typer.echo(f"worth a change of models.{name}, by hand: {_in_words(keys)} ({error.message})", err=True)
        return False
    if sys.stdin.isatty() and sys.stdout.isatty():
        return typer.confirm(f"Change benchai.yaml: {_in_words(keys)}?", default=True, err=True)
    typer.echo(f"--apply would change models.{name} in {loaded.name}: {_in_words(keys)}", err=True)
    return False


def _apply(loaded: LoadedConfig, name: str, keys: dict[str, Any]) -> None:
    from datetime import UTC, datetime

    from benchai.config.edit import write_edit

    today = datetime.now(UTC).astimezone().date()
    path = write_edit(loaded, name, keys, f"benchai bench speculative, {today}")
    say(f"{path}: models.{name}: {_in_words(keys)}", err=True)
