"""The roles' system prompts, and the ways in which training varies them.

The prompts are read from the package, so a retraining follows them. They will be reworded now and then, and a
user may send none: training therefore shows shortened, shuffled and reworded prompts too.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from scripts.tiny_model.split import Draw

PROMPTS = Path(__file__).parents[2] / "benchai" / "agents" / "prompts"
_SENTENCE_END = re.compile(r"(?<=[.}])\s+(?=[A-Z{])")

OTHER_WORDINGS: dict[str, tuple[str, ...]] = {
    "react": (
        "You are a helpful assistant.",
        "You are an assistant with tools. Use them when they help.",
        "Answer the user's question. Call a tool when you need one.",
        "You are a careful agent that thinks before it calls a tool.",
    ),
    "planner": (
        'Plan the task. Reply with JSON: {"goal": string, "steps": [string]}.',
        'You are a planner. Answer with a JSON object with "goal" and "steps".',
        "Make a plan with a goal and two to five steps, as JSON only.",
    ),
    "orchestrator": (
        'Split the task. Reply with JSON: {"tasks": [{"id", "role", "task", "depends_on"}]}.',
        'You are an orchestrator. Answer with a JSON object with "tasks", each with a role.',
        "Divide the task into sub-tasks for the roles general, research, code and review, as JSON only.",
    ),
    "merge": (
        "Merge the results into one answer.",
        "You combine the results of the sub-tasks. Use all of them.",
    ),
    "coder": (
        "You are a Python programmer. Answer with one ```python block.",
        "Write Python code in one ```python block and nothing else.",
        "You write and repair Python functions.",
    ),
    "reviewer": (
        "Review the code. Compare it with what it must be, then say APPROVED, or REJECTED: with the fault.",
        "You are a code reviewer. Compare name and body, then write APPROVED or REJECTED: and one sentence.",
        "Review the code. Say what name and body must be and what is found, then APPROVED or REJECTED: with the fault.",
    ),
    "writer": (
        "Write what the task asks for and nothing else.",
        "You are a writer. Answer with the text only.",
    ),
    "evaluator": (
        'Score the text. Reply with JSON: {"checks": [{"criterion", "evidence", "met"}], "score", "feedback"}.',
        "You are an evaluator. Check each criterion, then give a score from 0 to 10 and feedback, as JSON only.",
    ),
    "critic": (
        "Check the draft against the task point by point. Then say APPROVED or what must change.",
        "You are a critic. Say of each requirement whether it is met. If the draft is right, say APPROVED.",
    ),
    "reviser": (
        "Revise the draft as the critique says.",
        "You rewrite a draft so that it meets the critique. Answer with the text only.",
    ),
}


@cache
def prompt(role: str) -> str:
    """The role's system prompt, as the package ships it."""
    return (PROMPTS / f"{role}.md").read_text(encoding="utf-8").strip()


@cache
def sentences(role: str) -> tuple[str, ...]:
    """The sentences of a role's prompt."""
    return tuple(_SENTENCE_END.split(prompt(role)))


def without_one_word(draw: Draw, text: str) -> str:
    """The text with one word left out, as a rewording might."""
    words = text.split(" ")
    del words[draw.rng.randrange(len(words))]
    return " ".join(words)


def system_prompt(draw: Draw, role: str, optional: bool = False) -> str:
    """The role's prompt: as it is for held-out questions, varied now and then in training, "" for none."""
    if draw.held_out or draw.chance(0.62):
        return prompt(role)
    if optional and draw.chance(0.4):
        return ""
    way = draw.rng.random()
    if way < 0.4:
        return draw.rng.choice(OTHER_WORDINGS[role])
    parts = list(sentences(role))
    if way < 0.6:
        draw.rng.shuffle(parts)
    elif way < 0.8 and len(parts) > 2:
        parts.remove(draw.rng.choice(parts[1:]))
    else:
        parts = [without_one_word(draw, part) if draw.chance(0.5) else part for part in parts]
    return draw.rng.choice(" \n").join(parts)
