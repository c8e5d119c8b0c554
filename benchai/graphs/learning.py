"""Facts and summaries by calls of a model: asked here, judged and kept by the memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage, SystemMessage

from benchai.agents.messages import text_of
from benchai.agents.repair import read_object
from benchai.agents.role import Agents, Request
from benchai.errors import BadStructure
from benchai.memory import distil as summaries
from benchai.memory.distil import Distiller, Summary
from benchai.memory.extract import Extraction, Extractor
from benchai.memory.namespace import Namespace
from benchai.memory.types import Value

if TYPE_CHECKING:
    from benchai.memory.facts import Added
    from benchai.memory.service import MemoryService
    from benchai.memory.turns import Turn

Ask = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]
ROLE = "general"
MOST_TOKENS = 1024


class Taken(Value):
    """What came of an extraction: ids of facts by what became of them, and claims that were refused, with reasons."""

    new: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def asks(agents: Agents, role: str = ROLE) -> Ask:
    """Asks the model of a role for a JSON object of a schema.

    The function raises BadStructure for a reply that is none, and what the endpoint raises.
    """

    async def ask(system: str, user: str, schema: dict[str, Any]) -> dict[str, Any]:
        request = Request([SystemMessage(system), HumanMessage(user)], schema=schema, max_tokens=MOST_TOKENS)
        said = text_of(await agents.role(role).answer(request))
        found = read_object(said)
        if found is None:
            raise BadStructure(f"the model answers no JSON object: {said[:100]!r}", hint="try again, or another model")
        return found.value

    return ask


async def learn(memory: MemoryService, ns: Namespace, turns: Sequence[Turn], ask: Ask, model: str) -> Taken:
    """Keep the facts that turns of one thread hold; "nothing to save" is an answer.

    Raises:
        BadStructure: a reply is no JSON.
        EndpointError: the model failed.
        StoreError: they can't be kept.
    """
    extractor = Extractor(ask, model)
    return await keep(memory, ns, await extractor.extract(turns), extractor.name)


async def keep(memory: MemoryService, ns: Namespace, found: Extraction, extractor: str) -> Taken:
    """Keep what an extraction found.

    Raises:
        StoreError: it can't be kept.
    """
    by: dict[str, list[str]] = {"new": [], "known": [], "superseded": []}
    for one in found.learned:
        added: Added = await memory.learn(ns, one.fact, one.sources, extractor)
        by[added.how].append(added.id)
    refused = [f"{one.text}: {'; '.join(one.reasons)}" for one in found.refused]
    return Taken(**{name: tuple(ids) for name, ids in by.items()}, refused=tuple(refused))


async def distil(memory: MemoryService, ns: Namespace, budget: int, ask: Ask, model: str) -> list[Summary]:
    """Summarise what threads have beyond a budget of tokens, and make anew what lost one of its turns.

    Raises:
        BadStructure: a reply is not of the form; what was summarised before is kept.
        EndpointError: the model failed.
        StoreError: they can't be kept.
    """
    distiller = Distiller(ask, model)
    kept = SimpleNamespace(due=memory.due, stale=memory.stale, keep=memory.summarised, drop=memory.drop_summary)
    again = await summaries.rederive(_asked, kept, distiller, ns)
    return again + await summaries.distil(_asked, kept, distiller, ns, budget)


async def _asked(call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return await call(*args)
