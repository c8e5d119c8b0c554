"""The section ``routing:`` of benchai.yaml: what is added to the words and limits by which requests are routed."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from benchai.config.section import Section

Intent = Literal["code", "planner", "research", "vision", "general"]
Phrase = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\w")]
Role = Annotated[str, Field(min_length=1, max_length=100)]
Points = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Penalty = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False, strict=True)]


class SignalConfig(Section):
    """Words, or a regex, that speak for an intent, or against it with negative points."""

    intent: Intent = Field(description="What they speak for")
    points: Points = Field(2, description="Points of the first match, and of a second, different one; 1.5 are clear")
    words: list[Phrase] = Field(default_factory=list, description="Words and phrases; case makes no difference")
    regex: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="A regular expression (Python), searched in both ends of the text; case makes no difference"
    )
    opening: bool = Field(False, description="The words count only where a sentence begins")
    name: Annotated[str, Field(min_length=1, max_length=60)] | None = Field(
        None, description="What the reason of a route calls it; default: the config"
    )

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            found = re.compile(value, re.IGNORECASE)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"no regular expression: {error}") from error
        if found.search("") is not None:
            raise ValueError("the regular expression matches the empty text, so every request")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> SignalConfig:
        if not self.words and self.regex is None:
            raise ValueError("words or regex is needed")
        if self.opening and not self.words:
            raise ValueError(r"opening goes with words; a regex says it by itself: (?:\A|[.!?]\s)")
        if any("|" in one or "(" in one or "[" in one for one in self.words):
            raise ValueError("words are plain text; brackets and | go into regex")
        return self


class ThresholdsConfig(Section):
    """Complexities, from 0 to 1, at which another role answers where no intent is clear."""

    simple: Share = Field(0.3, description="Below it, general answers at once, whatever the weak signs say")
    planner: Share = Field(0.4, description="Above it, planner answers")
    research: Share = Field(0.7, description="Above it, research answers")

    @model_validator(mode="after")
    def _rise(self) -> ThresholdsConfig:
        if not self.simple <= self.planner <= self.research:
            raise ValueError(
                f"simple <= planner <= research is needed, not {self.simple}, {self.planner}, {self.research}"
            )
        return self


class RoutingConfig(Section):
    """How ``model: auto`` finds the role that answers."""

    signals: list[SignalConfig] = Field(default_factory=list, description="Further words and expressions of intents")
    technical_terms: list[Phrase] = Field(
        default_factory=list, description="Further terms of a trade; each different one adds 0.1 to the complexity"
    )
    thresholds: ThresholdsConfig = Field(default_factory=ThresholdsConfig)
    roles: dict[Intent, Role] = Field(default_factory=dict, description="Intent -> role that answers it")
    fallbacks: dict[Intent, dict[Role, Penalty]] = Field(
        default_factory=dict,
        description="Intent -> roles that may answer in its role's place -> seconds that its own is worth waiting for",
    )
