"""``benchai models quantize``: a smaller file of a model, and what it loses, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.cli.memory_progress import Show
    from benchai.config import LoadedConfig, ModelConfig
    from benchai.runtime.engine.quantize import Job, Told
    from benchai.runtime.measure.quality import Measured
    from benchai.runtime.placement.model_info import ModelInfo

# so little less than was asked for is no news: the windows of a text are whole
ENOUGH = 0.9

SourceArgument = Annotated[
    str, typer.Argument(metavar="IN", help="The GGUF to quantise, or a model of the configuration.")
]
TargetArgument = Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")]
TypeOption = Annotated[str, typer.Option("--type", "-t", help="Q8_0, Q5_K_M, Q4_K_M, ...: see llama-quantize --help.")]
TextOption = Annotated[
    Path | None, typer.Option("--text", help="A text of yours to measure on; default: a bundled one.")
]
TokensOption = Annotated[int, typer.Option("--tokens", min=32, max=100_000, help="Tokens that count.")]
PerplexityOption = Annotated[
    bool, typer.Option("--perplexity/--no-perplexity", help="Measure both files on the text, before and after.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")]
AgainOption = Annotated[bool, typer.Option("--requantize", help="Take an IN that is quantised already.")]
MatrixOption = Annotated[
    Path | None, typer.Option("--imatrix", help="Importance matrix (llama-imatrix), for very small types.")
]


def quantize(
    source: SourceArgument,
    target: TargetArgument,
    type_: TypeOption,
    text: TextOption = None,
    tokens: TokensOption = 512,
    perplexity: PerplexityOption = True,
    force: ForceOption = False,
    requantize: AgainOption = False,
    imatrix: MatrixOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write a quantised copy of a model with llama-quantize, and print size and perplexity before and after."""
    from benchai.cli.asyncrun import run_async
    from benchai.cli.memory_progress import bar
    from benchai.cli.models import find_model
    from benchai.config import load_config, paths
    from benchai.runtime.engine.quantize import find_quantizer, plan
    from benchai.runtime.measure.perplexity import read_text

    path, loaded, settings = find_model(source, config)
    loaded = loaded or load_config(config)
    words, origin = read_text(paths.expand(text) if text is not None else None)
    program = find_quantizer(loaded.config.engine, loaded.folder)
    matrix = paths.expand(imatrix) if imatrix is not None else None
    job = plan(program, path, paths.expand(target), type_, force=force, requantise=requantize, imatrix=matrix)
    with bar() as show:
        work = _Work(loaded, settings, job, words, tokens, show)
        before, made, after = run_async(work.run(perplexity))
    report = _report(job, made, before, after) | {"text": origin if after else None}
    if after and report["tokens"] < ENOUGH * tokens:
        _warn(f"the text is short: {report['tokens']} of its tokens count, not {tokens}")
    if json:
        print_json(report)
    else:
        _print(report)


class _Work:
    """Measure the source, quantise, measure the target."""

    def __init__(
        self,
        loaded: LoadedConfig,
        settings: ModelConfig | None,
        job: Job,
        text: str,
        tokens: int,
        show: Show,
    ) -> None:
        self._loaded, self._settings, self._job = loaded, settings, job
        self._text, self._tokens, self._show = text, tokens, show

    async def run(self, perplexity: bool) -> tuple[Measured | None, ModelInfo, Measured | None]:
        from benchai.runtime.engine.quantize import quantise
        from benchai.runtime.measure.quality import predicts

        job = self._job
        if perplexity and not predicts(job.source):
            _warn("this model predicts no text: its perplexity is not measured")
            perplexity = False
        before = await self._before() if perplexity else None
        made = await quantise(job, self._told(f"quantising to {job.type}"))
        after = await self._after(made) if perplexity else None
        return before, made, after

    async def _before(self) -> Measured | None:
        from benchai.errors import DoesNotFit, OutOfMemory

        try:
            return await self._measure("original", self._job.source)
        except (DoesNotFit, OutOfMemory) as error:
            # the very reason to quantise it
            _warn(f"{error.message}: only the new file is measured")
            return None

    async def _after(self, made: ModelInfo) -> Measured:
        from benchai.errors import BenchAIError

        try:
            return await self._measure("quantised", made)
        except BenchAIError:
            _warn(f"{str(made.path)!r} is written, but could not be measured")
            raise

    async def _measure(self, name: str, info: ModelInfo) -> Measured:
        from benchai.runtime.measure.quality import measure

        told = self._told(f"measuring the {name} model")
        return await measure(self._loaded, name, info, self._text, self._tokens, self._settings, told)

    def _told(self, what: str) -> Told:
        """Shows how far a stage has come; a pipe is told once that it begins."""
        import sys

        if not sys.stderr.isatty():
            typer.echo(what, err=True)
        return lambda done, total: self._show(done, total, what)


def _warn(text: str) -> None:
    from benchai.cli.options import say

    say(f"warning: {text}", err=True)


def _report(job: Job, made: ModelInfo, before: Measured | None, after: Measured | None) -> dict[str, Any]:
    from dataclasses import asdict

    from benchai.runtime.measure.perplexity import change
    from benchai.runtime.measure.quality import verdict

    saved = 100 * (1 - made.file_bytes / job.source.file_bytes)
    loss = change(before.perplexity, after.perplexity) if before and after else None
    return {
        "type": job.type,
        "before": _side(job.source, before),
        "after": _side(made, after),
        "saved_percent": saved,
        "perplexity_ratio": asdict(loss) if loss else None,
        "tokens": len(after.perplexity.logprobs) if after else None,
        "engine": after.engine if after else None,
        "verdict": verdict(job.type, saved, loss),
    }


def _side(info: ModelInfo, measured: Measured | None) -> dict[str, Any]:
    found = measured.perplexity if measured else None
    return {
        "path": str(info.path),
        "quantisation": info.quantisation,
        "file_bytes": info.file_bytes,
        "perplexity": found.value if found else None,
        "perplexity_error": found.error if found else None,
    }


def _print(report: dict[str, Any]) -> None:
    from benchai.cli.options import say

    sides = (report["before"], report["after"])
    rows = [
        ("", "before", "after"),
        ("quantisation", *(one["quantisation"] for one in sides)),
        ("size, MiB", *(f"{one['file_bytes'] / 2**20:,.1f}" for one in sides)),
        ("perplexity", *(_figure(one) for one in sides)),
    ]
    width = max(len(row[1]) for row in rows)
    for name, old, new in rows:
        say(f"{name:<13} {old:<{width}}  {new}".rstrip())
    if report["text"] is not None:
        say(f"on {report['tokens']} tokens of {report['text']}, by {report['engine']}", err=True)
    say(f"\n{report['verdict']}")
    say(f"written: {report['after']['path']}", err=True)


def _figure(side: dict[str, Any]) -> str:
    if side["perplexity"] is None:
        return "-"
    return f"{side['perplexity']:,.2f} ± {side['perplexity_error']:,.2f}"
