"""The section ``memory:`` of benchai.yaml: what is kept, who finds it, and what a run recalls by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from benchai.config.section import Count, Seconds, Section

Weight = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+/?$")]


class MemoryConfig(Section):
    """Knowledge base and long-term memory."""

    enabled: bool = Field(True, description="Keep the turns of runs, and recall what belongs to a task")
    path: str | None = Field(None, description="Folder of the memory; default: in the user's data folder")
    wait: Seconds = Field(20, description="Wait so long for another process that owns the memory")
    project: str = Field("", description="Project whose namespace runs use; default: the user's own level")
    scope: Literal["user", "project", "thread"] = Field("project", description="Level at which runs keep their turns")
    embedder: str = Field(
        "auto",
        description="auto (the role embed, where a model is configured for it), none (words alone), role, "
        "or the folder or hub name of a sentence-transformers model",
    )
    chroma: Url | None = Field(None, description="A Chroma server for the vectors; default: a folder of the memory")
    rerank: str = Field("none", description="none, role (the role rerank), or folder or hub name of a CrossEncoder")
    lexical_weight: Weight = Field(0.8, description="Weight of the words beside that of the vectors, before tuning")
    vault: str | None = Field(None, description="Obsidian vault in which agents may write notes (note_create, ...)")
    recall: bool = Field(True, description="Begin a run with what the memory holds on its task")
    recall_tokens: Count = Field(512, description="Tokens that recalled passages may take")
    learn: Literal["off", "after_run"] = Field("off", description="Take facts from what was said, by a model call")
