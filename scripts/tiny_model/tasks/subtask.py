"""What the agent does with a sub-task that carries the results of the sub-tasks before it."""

from __future__ import annotations

from scripts.tiny_model import words
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks import calculate, planning
from scripts.tiny_model.tasks.coding import numbered
from scripts.tiny_model.tasks.turn import Turn
from scripts.tiny_model.tools import CALCULATOR

ADD = (
    "=Add the results.",
    "[Add|Please add|Now add|Add up|Now add up] [the results|all results|all of them|these|the values|the numbers][.|]",
    "[Add|Please add|Now add] [them|them all|these all|all] up[.|]",
    "[Sum up|Please sum up|Now sum up] [the results|all results|the values][.|]",
)
USE = (
    "=Report the result",
    "[Compare|Please compare|Summarise] {l}[.|]",
    "[Write|Prepare] a [summary|comparison] of {l}[.| for {N}.]",
    "[Report|Tell me|Repeat|Give me] the [result|results][.|]",
    "[Write|Prepare] the [report|answer|letter] about {l}[.| for {N}.]",
    "Check the [report|letter|speech|guide][.|]",
)


def add_results(draw: Draw) -> Turn:
    """Add up the values at the ends of earlier results."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < draw.rng.choice((2, 2, 3)):
        _, wanted = calculate.expression(draw, 0.1)
        value = calculate.evaluated(wanted)
        if "Error" not in value:
            pairs.append((wanted, value))
    results = [f"{wanted} = {value}." for wanted, value in pairs]
    total = " + ".join(value for _, value in pairs)
    value = calculate.evaluated(total)
    turn = Turn(needed=[CALCULATOR])
    turn.talk.user(f"{draw.pick(*ADD)}\n\nResults:\n{numbered(results)}")
    turn.talk.call(f"I need to calculate {total}.", "calculator", {"expression": total}, calculate.shown(total))
    turn.talk.reply(f"{total} = {value}.")
    return turn


def use_results(draw: Draw) -> Turn:
    """Pass on what earlier sub-tasks found."""
    results = [planning.result(draw) for _ in range(draw.rng.choice((1, 2, 2, 3)))]
    listed = " and ".join(words.things(draw, 2))
    text = draw.pick(*USE).format(l=listed, N=words.name(draw))
    turn = Turn()
    turn.talk.user(f"{text}\n\nResults:\n{numbered(results)}")
    turn.talk.reply(planning.joined(results))
    return turn


def subtask(draw: Draw) -> Turn:
    """Either of the two."""
    return add_results(draw) if draw.chance(0.45) else use_results(draw)
