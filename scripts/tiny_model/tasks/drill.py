"""Repeating a text word for word, the skill that all other tasks rest on.

Shown often at the beginning of training, it brings copying forward by many hundred steps. It also puts words that
other tasks only use in fixed phrases into copied places.
"""

from __future__ import annotations

import re
from functools import cache

from scripts.tiny_model import prompts, words
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks.files import FILLER, odd
from scripts.tiny_model.tasks.functions import FAMILIES

ASK = ("[Repeat|Say|Copy|Please repeat|Please say][:| after me:] {t}", "[Repeat|Copy] the text[:| after me:] {t}")


@cache
def phrase_words() -> tuple[str, ...]:
    """Words of prompts and of descriptions, which are rarely values."""
    texts = [prompts.prompt(role) for role in prompts.OTHER_WORDINGS]
    texts += [text for family in FAMILIES for text in family.does]
    return tuple(sorted(set(re.findall(r"[A-Za-z]+", " ".join(texts)))))


def piece(draw: Draw) -> str:
    """One word, number or sign."""
    kind = draw.rng.random()
    if kind < 0.15:
        return words.token_word(draw)
    if kind < 0.3:
        return draw.invented()
    if kind < 0.5:
        # one in eight as long as what the calculator rounds
        return f"0.{draw.digits(10, 13)}" if draw.chance(0.125) else draw.digits(1, 8)
    if kind < 0.6:
        return words.name(draw)
    if kind < 0.75:
        return draw.rng.choice(phrase_words() if draw.chance(0.5) else FILLER)
    return odd(draw) if kind < 0.85 else words.thing(draw) if kind < 0.95 else words.path(draw)


def repeat(draw: Draw) -> Conversation:
    """The user gives a text and gets it back."""
    glue = draw.rng.choice((" ", " ", " ", ", ", "\n", "/", "_", ""))
    text = glue.join(piece(draw) for _ in range(draw.rng.randint(2, 14)))
    made = Conversation("repeat")
    made.user(draw.pick(*ASK).format(t=text))
    made.reply(text)
    return made
