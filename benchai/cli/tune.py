"""``benchai tune``: find faster settings for a role's model, prove them, and put them into benchai.yaml."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchai.config import LoadedConfig
    from benchai.runtime.tune.finish import Progress
    from benchai.runtime.tune.recommend import Recommendation
    from benchai.runtime.tune.tuner import Options, Tuner

#: What is tried by --apply before the work, to see that the file can be changed.
HARMLESS = {"threads": 2}


class GoalOption(StrEnum):
    """What is to be short."""

    latency = "latency"
    throughput = "throughput"
    first = "first-token"


RoleArgument = Annotated[str, typer.Argument(help="A role, or a model of the configuration.")]
TrialsOption = Annotated[
    int, typer.Option("--trials", min=1, max=1000, help="Settings to try, those of an earlier tune counted.")
]
MinutesOption = Annotated[
    float, typer.Option("--minutes", min=0.01, max=10000, help="For search and proof; a proof that began is ended.")
]
GoalChoice = Annotated[
    GoalOption, typer.Option("--goal", help="The time of a reply, of a token under load, or to the first token.")
]
PromptsOption = Annotated[
    Path | None,
    typer.Option("--prompts", help="Your prompts: text or JSON lines. Default: a standard mix.", show_default=False),
]
TokensOption = Annotated[int, typer.Option("--max-tokens", min=2, max=4096, help="Tokens of a reply.")]
RepeatsOption = Annotated[
    int, typer.Option("--repeats", min=1, max=100, help="How often each prompt is asked in a trial.")
]
ConcurrentOption = Annotated[
    int, typer.Option("--concurrent", min=2, max=64, help="Requests at once, for the goal throughput.")
]
LossyOption = Annotated[
    bool, typer.Option("--lossy", help="Also try a KV cache of q8_0, which changes replies a little.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of the proposals.")]
ApplyOption = Annotated[bool, typer.Option("--apply", help="Put what is proved into benchai.yaml.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--fresh", help="Go on with the trials of an earlier tune, or forget them.")
]
PlotOption = Annotated[Path | None, typer.Option("--plot", help="Draw the trials into this PNG.", show_default=False)]


def tune(
    role: RoleArgument,
    trials: TrialsOption = 30,
    minutes: MinutesOption = 10,
    goal: GoalChoice = GoalOption.latency,
    prompts: PromptsOption = None,
    max_tokens: TokensOption = 64,
    repeats: RepeatsOption = 2,
    concurrent: ConcurrentOption = 4,
    lossy: LossyOption = False,
    seed: SeedOption = 1,
    apply: ApplyOption = False,
    resume: ResumeOption = True,
    plot: PlotOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Find faster settings for a role's model by trials on real engines.

    What is recommended was measured beside your settings at the end, seven times on fresh engines, and was faster each
    time; otherwise the recommendation is to keep them. Trials are kept: a tune that was ended goes on where it was.
    """
    from benchai.config import load_config
    from benchai.runtime.measure.prompts import read_prompts
    from benchai.runtime.tune.tuner import Options, Tuner

    options = Options(
        goal=goal.value,
        trials=trials,
        minutes=minutes,
        max_tokens=max_tokens,
        repeats=repeats,
        concurrent=concurrent,
        seed=seed,
        lossy=lossy,
        fresh=not resume,
    )
    tuner = Tuner(load_config(config), role, read_prompts(prompts), options)
    _check_targets(tuner, apply, plot)
    found = _tuned(tuner, options)
    _tell(found, json=json)
    if plot is not None:
        _draw(found, plot)
    if apply:
        _apply(tuner.loaded, found)


def _check_targets(tuner: Tuner, apply: bool, plot: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    from benchai.config.edit import refuse_unwritable

    if apply:
        refuse_unwritable(tuner.loaded, tuner.name, HARMLESS)
    if plot is not None:
        _check_folder(plot)


def _check_folder(plot: Path) -> None:
    from benchai.config import paths
    from benchai.errors import UsageError

    if not paths.is_dir(plot.absolute().parent) or paths.is_dir(plot):
        raise UsageError(f"the picture {str(plot)!r} cannot be written: no such folder", hint="check the path")


def _tuned(tuner: Tuner, options: Options) -> Recommendation:
    from benchai.cli.asyncrun import Interrupted, run_async

    _greet(tuner, options)
    with _shown() as listen:
        tuner.listen = listen
        try:
            return run_async(tuner.run())
        except Interrupted as error:
            ended = error
    # outside of the bar, which would draw over it
    _tell_interrupted(tuner)
    raise typer.Exit(ended.exit_code)


def _greet(tuner: Tuner, options: Options) -> None:
    from benchai.runtime.serving import running_server

    count, every = len(tuner.load.prompts), len(tuner.prompts.messages)
    of = f"{count} of {every}" if count < every else str(count)
    say(
        f"tuning {tuner.name} for {options.goal}: up to {options.trials} trials, {options.minutes:g} minutes,"
        f" {of} prompts of {tuner.prompts.source}",
        err=True,
    )
    server = running_server()
    if server is not None:
        say(
            f"warning: 'benchai serve' runs at {server.url}: what it holds and does is missing for the trials", err=True
        )


@contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line for each step anywhere."""
    from rich import progress
    from rich.console import Console

    from benchai.cli.render import safe

    console = Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def listen(told: Progress) -> None:
            bar.update(task, description=told.phase, completed=told.done, total=told.total)
            console.print(f"{told.phase} {told.done}/{told.total}  {safe(told.text)}")

        yield listen


def _tell_interrupted(tuner: Tuner) -> None:
    measured = sorted((one for one in tuner.attempts if one.cost is not None), key=lambda one: one.cost or 0.0)
    # before the first one those of an earlier tune may not have been read yet
    kept = f", trials kept: {len(tuner.attempts)}" if tuner.attempts else " before a trial was measured"
    say(f"interrupted{kept}; the same command goes on where it was", err=True)
    if measured and measured[0].change:
        from benchai.runtime.tune.space import said

        say(f"the best so far, not proved: {said(measured[0].change)}", err=True)


def _tell(found: Recommendation, *, json: bool) -> None:
    from benchai.errors import BenchAIError
    from benchai.runtime.tune.recommend import headline, save, yaml_lines

    report = None
    try:
        report = save(found)
    except BenchAIError as error:
        # minutes of measuring are not lost for a page of text
        say(f"warning: {error.message}", err=True)
    if json:
        print_json(found.as_json() | {"report": report and str(report)})
        return
    say(headline(found))
    if not found.keep:
        say(yaml_lines(found))
    if report:
        say(f"report: {report}", err=True)


def _draw(found: Recommendation, plot: Path) -> None:
    from benchai.runtime.tune.plot import save_png

    save_png(found, plot)
    say(f"wrote {plot}", err=True)


def _apply(loaded: LoadedConfig, found: Recommendation) -> None:
    import time

    from benchai.config.edit import write_edit
    from benchai.runtime.serving import running_server

    if found.keep:
        say(f"{loaded.path} stays as it is", err=True)
        return
    written = write_edit(loaded, found.model, found.change, f"benchai tune, {time.strftime('%Y-%m-%d')}")
    say(f"changed models.{found.model} in {written}; the old values stand beside the new ones", err=True)
    if running_server() is not None:
        say("restart 'benchai serve' to use it", err=True)
