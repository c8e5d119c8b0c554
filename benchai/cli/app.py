"""The command line. Start-up is lazy: a command imports what it needs when it runs."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import io
import os
import sys
from typing import Annotated

import typer

from benchai.cli import (
    advise,
    bench,
    bench_context,
    bench_speculative,
    cache,
    config,
    doctor,
    fleet,
    init,
    keys,
    mcp,
    memory,
    memory_add,
    memory_files,
    memory_learn,
    memory_upkeep,
    models,
    quantize,
    route,
    run,
    serve,
    stats,
    threads,
    tune,
    workflows,
)

#: Objects made, less those gone, at which Python looks for garbage. Modules leave none, and to look for it among what
#: they make, at 700 as Python has it, is a sixth of the time that a command takes to start.
GARBAGE = 1_000_000
FULL = (errno.ENOSPC, errno.EIO, errno.EDQUOT)

app = typer.Typer(
    name="benchai",
    help="Run tool-using agent workflows on a fleet of local llama.cpp servers.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.mcp)
app.command("workflows")(workflows.workflows)
app.command("doctor")(doctor.doctor)
app.command("route")(route.route)
app.command("tune")(tune.tune)
bench.app.command("speculative")(bench_speculative.speculative)
bench.app.command("context")(bench_context.context)
app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")
app.add_typer(config.app, name="config")
app.add_typer(fleet.app, name="fleet")
app.add_typer(keys.app, name="keys")
memory.app.command("add")(memory_add.add)
memory.app.command("add-vault")(memory_add.add_vault)
memory.app.command("learn")(memory_learn.learn)
memory.app.command("distil")(memory_learn.distil)
memory.app.command("audit")(memory_learn.audit)
memory.app.command("label")(memory_learn.label)
memory.app.command("tune")(memory_learn.tune)
memory.app.command("export")(memory_files.export)
memory.app.command("import")(memory_files.import_)
memory.app.command("stats")(memory_upkeep.stats)
memory.app.command("verify")(memory_upkeep.verify)
memory.app.command("rebuild")(memory_upkeep.rebuild)
memory.app.command("vacuum")(memory_upkeep.vacuum)
app.add_typer(memory.app, name="memory")
models.app.command("quantize")(quantize.quantize)
models.app.command("advise")(advise.advise)
app.add_typer(models.app, name="models")
app.add_typer(threads.app, name="threads")
app.add_typer(stats.app, name="stats")
app.command("feedback")(stats.feedback)


def _version(value: bool) -> None:
    if value:
        from benchai import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors of BenchAI become two lines on stderr and their exit code."""
    from benchai.errors import BenchAIError

    gc.set_threshold(GARBAGE)
    # nor is there any that the end of the process would not take
    atexit.register(gc.freeze)
    _mend_streams()
    try:
        app()
    except BenchAIError as error:
        from benchai.cli.render import print_error

        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        sys.stderr.write(f"error: the output cannot be written: {error.strerror}\n")
        # the interpreter's last flush would fail again, with a trace
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _mend_streams() -> None:
    """Let output neither fail for a closed stream nor for a character that the terminal lacks."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - open until the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):
                stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
