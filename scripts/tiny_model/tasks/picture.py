"""Questions about a picture that another model has described in words."""

from __future__ import annotations

from scripts.tiny_model import words
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.prompts import system_prompt
from scripts.tiny_model.split import Draw, pool

COLOURS = pool("red green blue yellow black white orange purple pink brown grey")
FORMS = pool("circle square triangle star cross ring box line arrow heart")
WHAT = (
    "=What is in the picture?",
    "[What is|What's] [in|on|shown in] [the|this] [picture|image|photo|drawing]?",
    "[What do you see|What can you see] [in|on] [the|this] [picture|image|photo|drawing]?",
    "[Describe|Please describe|Tell me about] [the|this] [picture|image|photo|drawing].",
    "What does [the|this] [picture|image|photo|drawing] show?",
)
COLOUR = (
    "=What colour is the {f}?",
    "[What|Which] [colour|color] [is|has] the {f}[| in the picture| in the image]?",
    "[Tell me|Name] the [colour|color] of the {f}[.|]",
)
NUMBER = (
    "=What number is in the picture?",
    "[What|Which] number [is|do you see|can you see] [in|on] [the|this] [picture|image|photo|drawing]?",
    "[Read|Please read|Tell me] the number[| in the picture| in this picture| in the image| on the photo][.|!]",
)


def picture(draw: Draw) -> Conversation:
    """A question and a description; the answer uses the description alone."""
    if draw.chance(0.25):
        number = draw.digits(1, 5)
        description = draw.rng.choice(("The number {n}.", "It shows the number {n}.")).format(n=number)
        question, answer = draw.pick(*NUMBER), f"The number is {number}."
    else:
        forms = dict.fromkeys(form(draw) for _ in range(draw.rng.choice((1, 2, 2, 3))))
        shapes = [(draw.rng.choice(COLOURS), what) for what in forms]
        text = " and ".join(f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {what}" for colour, what in shapes)
        description = text[0].upper() + text[1:] + "."
        question, answer = draw.pick(*WHAT), description
        if draw.chance(0.5):
            colour, what = draw.rng.choice(shapes)
            question, answer = draw.pick(*COLOUR).format(f=what), f"The {what} is {colour}."
            if len(shapes) > 1:
                # which word stands before another is not learnt at this size: what follows one is
                text = " and ".join(f"the {what} is {colour}" for colour, what in shapes)
                description = text[0].upper() + text[1:] + "."
    made = Conversation("picture")
    made.user(f"{question}\n\nImage:\n{description}")
    made.reply(answer)
    made.system(system_prompt(draw, "react", optional=True))
    return made


def form(draw: Draw) -> str:
    """What is painted: a shape or another thing."""
    return draw.rng.choice(FORMS) if draw.chance(0.6) else words.thing(draw)
