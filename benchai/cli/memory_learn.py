"""``benchai memory learn|distil|audit|label|tune``: what models and users teach the memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from benchai.cli.memory import NamespaceOption, in_memory
from benchai.cli.options import ConfigOption, JsonOption, print_json, say

if TYPE_CHECKING:
    from benchai.graphs.learning import Ask
    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService

T = TypeVar("T")


def learn(
    thread: Annotated[str | None, typer.Option(help="Of this thread; default: all.")] = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take facts from what was said, by calls of the role general; claims that no turn holds up are refused."""
    from benchai.graphs.learning import learn as learned

    async def work(memory: MemoryService, ns: Namespace, ask: Ask, model: str) -> list[Any]:
        threads = [one.thread for one in await memory.threads(ns)] if thread is None else [thread]
        return [await learned(memory, ns, await memory.turns_of(ns, one), ask, model) for one in threads]

    taken = _with_model(work, config, namespace)
    if json:
        print_json([one.model_dump(mode="json") for one in taken])
        return
    for one in taken:
        for reason in one.refused:
            say(f"refused: {reason}")
    counts = {name: sum(len(getattr(one, name)) for one in taken) for name in ("new", "known", "superseded", "refused")}
    typer.echo(", ".join(f"{name}: {count}" for name, count in counts.items()), err=True)


def distil(
    tokens: Annotated[int, typer.Option(min=1, help="Threads with more tokens are summarised.")] = 4000,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Summarise long threads, by calls of the role general; the turns stay."""
    from benchai.graphs.learning import distil as distilled

    async def work(memory: MemoryService, ns: Namespace, ask: Ask, model: str) -> list[Any]:
        return await distilled(memory, ns, tokens, ask, model)

    summaries = _with_model(work, config, namespace)
    if json:
        print_json([one.model_dump(mode="json") for one in summaries])
        return
    for one in summaries:
        say(f"{one.id}  thread {one.thread}, {len(one.sources)} turns\n    {one.text}")
    typer.echo(f"summaries written: {len(summaries)}", err=True)


def audit(namespace: NamespaceOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List facts that are doubtful, the most doubtful first, with the reasons."""
    found = in_memory(lambda memory, ns: memory.audit(ns), config, namespace)
    if json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    for one in found:
        say(f"{one.fact.id}  {one.doubt:.2f}  {one.fact.text}\n    {'; '.join(one.reasons)}")
    typer.echo(f"doubtful facts: {len(found)}", err=True)


def label(
    question: Annotated[str, typer.Argument(help="The question that was asked.")],
    passage: Annotated[str, typer.Argument(help="Id of a passage that was found, such as p7.")],
    bad: Annotated[bool, typer.Option("--bad", help="It does not answer the question.")] = False,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
) -> None:
    """Note that a passage answers a question: from 20 such questions on, tune can learn."""
    in_memory(lambda memory, ns: memory.label(ns, question, passage, not bad), config, namespace)


def tune(
    metric: Annotated[str, typer.Option(help="ndcg, or mrr where one good passage is enough.")] = "ndcg",
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Learn the weights of words, vectors and reranker from labelled questions; a leg that does not help is off."""
    from benchai.errors import UsageError

    if metric not in ("ndcg", "mrr"):
        raise UsageError(f"--metric {metric!r} is unknown", hint="ndcg or mrr")
    chosen: Literal["ndcg", "mrr"] = "mrr" if metric == "mrr" else "ndcg"
    tuned = in_memory(lambda memory, ns: memory.tune(ns, chosen), config, namespace)
    if json:
        print_json(tuned.model_dump(mode="json"))
        return
    typer.echo(f"{tuned.metric} on {tuned.examples} questions: {tuned.before:.3f} before, {tuned.after:.3f} now")
    for name, leg in tuned.legs.items():
        state = f"weight {tuned.weights[name]:.2f}" if leg.on else "off"
        typer.echo(f"{name}: {state}, alone {leg.alone:.3f}; {leg.reason}")


Work = Callable[["MemoryService", "Namespace", "Ask", str], Awaitable[T]]


def _with_model(work: Work[T], config: Path | None, namespace: str | None) -> T:
    """The result of work that asks the role general: of a running server's fleet, or one of its own."""
    from benchai.cli.asyncrun import run_async

    async def done() -> T:
        from benchai.agents.model import Models
        from benchai.agents.role import Agents
        from benchai.cli.opening import opened_endpoints, opened_memory
        from benchai.config import load_config
        from benchai.graphs.learning import ROLE, asks

        loaded = load_config(config)
        async with opened_memory(loaded, namespace) as (memory, ns), Models() as models:
            async with opened_endpoints(loaded) as endpoints:
                model, _ = loaded.model_for(ROLE)
                return await work(memory, ns, asks(Agents(endpoints, lambda _: None, models)), model)

    return run_async(done())
