"""``benchai bench context``: what of a conversation is evaluated again at each turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.bench import PromptsOption
from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from benchai.runtime.measure.context import ContextReport, Layout


def context(
    role: Annotated[str, typer.Argument(help="A role or a model.")] = "general",
    prompts: PromptsOption = None,
    turns: Annotated[int, typer.Option("--turns", min=3, max=200, help="Turns of each conversation.")] = 5,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=100_000, help="Tokens of each reply.")] = 32,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Replay conversations and count the tokens that are evaluated again, before and after.

    The engine is started for it three times, beside what runs. Prompts are the questions of the conversations.
    """
    from benchai.cli.asyncrun import run_async
    from benchai.cli.bench import downloads, progress
    from benchai.config import load_config
    from benchai.runtime.measure.context import measure_context
    from benchai.runtime.measure.prompts import read_prompts
    from benchai.runtime.measure.rig import launched_model
    from benchai.runtime.measure.texts import text_of

    texts = [text_of(one) for one in read_prompts(prompts).messages] if prompts is not None else []
    loaded = load_config(config)
    name = launched_model(loaded, role)
    with progress() as say:
        report = run_async(measure_context(loaded, name, texts, turns, max_tokens, say, downloads(say)))
    if json:
        print_json(report.as_json())
    else:
        print_context(report)


def print_context(report: ContextReport, console: Console | None = None) -> None:
    """All layouts, a table each."""
    from rich.text import Text

    from benchai.cli.bench_view import stdout
    from benchai.runtime.usage.targets import counted

    console = console or stdout()
    slots = counted(report.slots, "slot")
    console.print(Text(f"{report.model}: {slots}, context {report.context:,}, {report.engine}", "bold"))
    if report.cache_ram_tokens is not None:
        held = f"--cache-ram {report.cache_ram} keeps about {report.cache_ram_tokens:,} tokens of other conversations"
        console.print(Text(held))
    for layout in report.layouts:
        console.print()
        console.print(Text(f"{layout.name}: {layout.before} -> {layout.after}"))
        _print_layout(console, layout)


def _print_layout(console: Console, layout: Layout) -> None:
    from benchai.cli.bench_view import plain_table, seconds
    from benchai.runtime.measure.context import saved

    table = plain_table(["turn", "prompt tokens", "evaluated before", "after", "saved", "first token before", "after"])
    for number, (one, two) in enumerate(layout.turns, 1):
        alike = one.prompt_tokens == two.prompt_tokens
        prompt = f"{one.prompt_tokens:,}" if alike else f"{one.prompt_tokens:,} -> {two.prompt_tokens:,}"
        share = _percent(saved(one.evaluated_tokens, two.evaluated_tokens))
        waits = (seconds(one.first_token_seconds), seconds(two.first_token_seconds))
        table.add_row(str(number), prompt, f"{one.evaluated_tokens:,}", f"{two.evaluated_tokens:,}", share, *waits)
    before, after = layout.evaluated
    table.add_row("all", "", f"{before:,}", f"{after:,}", _percent(saved(before, after)), style="bold")
    console.print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
