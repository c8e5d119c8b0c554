"""The audit of kept facts: the junk gate once more, on all of them, and how much speaks against each."""

from __future__ import annotations

from benchai.memory.database import Database
from benchai.memory.facts import BY_HAND, Facts, Known
from benchai.memory.gate import Claim, doubts, instruction, secret_in, size
from benchai.memory.ids import number_of
from benchai.memory.namespace import Namespace
from benchai.memory.turns import read_turns
from benchai.memory.types import Value

#: What one reason counts; two are enough to be sure.
_REASON = 0.5


class Doubtful(Value):
    """A fact with its doubt, from 0 (none) to 1, and the reasons."""

    fact: Known
    doubt: float
    reasons: tuple[str, ...]


def audit(database: Database, ns: Namespace, least: float = 0.01) -> list[Doubtful]:
    """The facts that a call sees and that hold, the most doubtful first.

    Args:
        database: Of the memory.
        ns: Whose facts.
        least: Those with less doubt are left out.

    Raises:
        StoreError: the file can't be read.
    """
    found = [_doubtful(fact, texts) for fact, texts in _with_sources(database, ns)]
    shown = [one for one in found if one.doubt >= least]
    return sorted(shown, key=lambda one: (-one.doubt, number_of(one.fact.id, "f")))


def _with_sources(database: Database, ns: Namespace) -> list[tuple[Known, tuple[str, ...]]]:
    facts = Facts(database).holding(ns)
    with database.looking():
        return [
            (fact, tuple(turn.text for turn in read_turns(database, ns, [number_of(one, "t") for one in fact.sources])))
            for fact in facts
        ]


def _doubtful(fact: Known, cited: tuple[str, ...]) -> Doubtful:
    claim = Claim(
        subject=fact.subject,
        relation=fact.relation,
        value=fact.value,
        text=fact.text,
        confidence=fact.confidence,
        cited=cited,
    )
    reasons = _by_hand(claim) if fact.extractor == BY_HAND else doubts(claim)
    # what is not sure is doubtful even where nothing speaks against it
    doubt = min(1.0, _REASON * len(reasons) + (1 - fact.confidence) * _REASON)
    if not reasons and fact.confidence < 1:
        reasons = [f"its confidence is {fact.confidence:g}"]
    return Doubtful(fact=fact, doubt=round(doubt, 3), reasons=tuple(reasons))


def _by_hand(claim: Claim) -> list[str]:
    """Who writes a fact down needs no grounds; but what steers the assistant, and secrets, should be seen."""
    found = secret_in(f"{claim.value}\n{claim.text}")
    checked = [size(claim), instruction(claim), f"it looks like {found}" if found else None]
    return [reason for reason in checked if reason is not None]
