"""The section ``cache:`` of benchai.yaml: which replies are kept, how many, and for how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from benchai.config.section import Count, Seconds, Section

Likeness = Annotated[float, Field(gt=0, le=1, strict=True)]
Part = Annotated[float, Field(ge=0, le=1, strict=True)]
Bound = Annotated[float, Field(gt=0, lt=1, strict=True)]


class SimilarConfig(Section):
    """Replies to requests that mean the same, found by embeddings."""

    enabled: bool = Field(False, description="Look for similar requests; needs a model of the role embed")
    threshold: Likeness = Field(0.95, description="Cosine of two embeddings from which requests are compared")
    shadow: Part = Field(0.1, description="Share of the hits that the model answers all the same, to compare")
    max_false: Bound = Field(
        0.05, description="Share of false hits (upper bound, 95 %) above which no hit is given; at first none is"
    )


class CacheConfig(Section):
    """Replies that are given again without asking the model."""

    exact: bool = Field(True, description="Keep replies of requests with temperature 0 or a fixed seed")
    size: Count = Field(256, description="MiB of replies on the disk")
    max_age: Seconds = Field(7 * 24 * 3600, description="Replies are given again for so long")
    similar: SimilarConfig = Field(default_factory=SimilarConfig)
