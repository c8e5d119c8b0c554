"""What all sections of benchai.yaml share: their base class, kinds of values, and the names of the roles."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ROLES = ("general", "planner", "code", "research", "vision", "embed", "rerank")
TEXT_ROLES = ("general", "planner", "code", "research")
CORE_ROLES = ("general", "planner", "code")
REASONING_ROLES = ("planner", "research")

# numbers are strict: YAML's yes and true are no numbers
INT_MAX = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=INT_MAX, strict=True)]
Natural = Annotated[int, Field(ge=0, le=INT_MAX, strict=True)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$")]
Port = Annotated[int, Field(ge=0, le=65535, strict=True)]
Host = Annotated[str, Field(pattern=r"^[^\s,]+$")]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are kept as they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
