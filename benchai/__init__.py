"""BenchAI: tool-using agent workflows on a fleet of local llama.cpp servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchai.bench import Bench
    from benchai.graphs.declared import workflow

# LangGraph reads it when it is imported: only known types come back from a checkpoint, a forged one runs no code
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")

__version__ = "0.1.0"
__all__ = ["Bench", "__version__", "workflow"]


def __getattr__(name: str) -> Any:
    # the CLI's --help must not pay for the import of langgraph
    if name == "Bench":
        from benchai.bench import Bench

        return Bench
    if name == "workflow":
        from benchai.graphs.declared import workflow

        return workflow
    raise AttributeError(f"module 'benchai' has no attribute {name!r}")
