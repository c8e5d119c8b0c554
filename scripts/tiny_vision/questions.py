"""Questions about a picture, in many phrasings, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scripts.tiny_model.conversation import Conversation, Schema
from scripts.tiny_model.prompts import prompt, system_prompt
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tools import SHIPPED, shipped_box, toolbox
from scripts.tiny_vision.scene import Scene, Shape, scene

# Stands for the picture in a text that is to be cut into tokens; no phrasing holds it.
MARKER = "<__media__>"
NO_NUMBER = "There is no number."
NO_PICTURE = "There is no picture."
WHAT = (
    "=What is in the picture?",
    "=What is in this image?",
    "[What is|What's] [in|on|shown in] [the|this] [picture|image|photo|drawing]?",
    "[What do you see|What can you see] [in|on] [the|this] [picture|image|photo|drawing]?",
    "[Describe|Please describe|Tell me about] [the|this] [picture|image|photo|drawing].",
    "What does [the|this] [picture|image|photo|drawing] show?",
)
READ = (
    "=What number is in the picture?",
    "=Read the number.",
    "[What|Which] number [is|do you see|can you see] [in|on] [the|this] [picture|image|photo|drawing]?",
    "[Read|Please read|Tell me] the number[| in the picture| in this picture| in the image| on the photo][.|!]",
    "What is the number[| in the picture| in this picture| in the image| on the photo]?",
    "What number does [the|this] [picture|image|photo|drawing] show?",
)


@dataclass(frozen=True)
class Question:
    """A question with its picture, if any, and the answer; the picture stands before the text or after it."""

    task: str
    scene: Scene | None
    text: str
    answer: str
    picture_first: bool
    system: str
    tools: list[Schema]

    def conversation(self, picture: str = "") -> Conversation:
        """As the OpenAI wire has it, with `picture` as the URL; without one the MARKER stands for the picture."""
        talk = Conversation(self.task, tools=self.tools)
        content: Any = self.text
        if self.scene and not picture:
            content = MARKER + self.text if self.picture_first else self.text + MARKER
        elif self.scene:
            parts = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": self.text}]
            content = parts if self.picture_first else parts[::-1]
        talk.messages.append({"role": "user", "content": content})
        talk.reply(self.answer)
        talk.system(self.system)
        return talk


def described(shape: Shape) -> str:
    """The shape in words: "a red circle"."""
    return f"{'an' if shape.colour[0] in 'aeiou' else 'a'} {shape.colour} {shape.form}"


def description(picture: Scene) -> str:
    """The answer to "What is in the picture?"."""
    if picture.number:
        return f"The number {picture.number.text}."
    text = " and ".join(described(shape) for shape in picture.shapes)
    return f"{text[0].upper()}{text[1:]}."


def reading(picture: Scene) -> str:
    """The answer to "What number is in the picture?"."""
    return f"The number is {picture.number.text}." if picture.number else NO_NUMBER


def surroundings(draw: Draw, agent: bool | None) -> tuple[str, list[Schema]]:
    """System prompt and tools: the agent's (True), none (False), or in training any of many."""
    if agent is not None:
        return (prompt("react"), list(SHIPPED)) if agent else ("", [])
    way = draw.rng.random()
    if way < 0.42:
        return "", []
    if way < 0.56:
        return system_prompt(draw, "react", optional=True), []
    tools = shipped_box(draw) if way < 0.9 else toolbox(draw, [])
    return system_prompt(draw, "react", optional=True), tools


def _careless(draw: Draw, text: str) -> str:
    """The text as a hasty person writes it, now and then in training."""
    if draw.held_out or not draw.chance(0.1):
        return text
    return (text[0].lower() + text[1:]).rstrip("?.!")


def question(draw: Draw, kind: str, agent: bool | None = None) -> Question:
    """A question about a picture of a kind of `scene.KINDS`, or about none for the kind "no picture"."""
    picture = None if kind == "no picture" else scene(draw, kind)
    # A picture without a number is asked for one now and then, so that "number" is not a thing to invent.
    read = draw.chance(0.55 if kind == "number" else 0.0 if draw.held_out else 0.04)
    text = _careless(draw, draw.pick(*(READ if read else WHAT)))
    answer = NO_PICTURE if picture is None else reading(picture) if read else description(picture)
    system, tools = surroundings(draw, agent)
    return Question(kind, picture, text, answer, draw.chance(0.5), system, tools)
