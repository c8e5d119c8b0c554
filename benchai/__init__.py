"""BenchAI: tool-using agent workflows on a fleet of local llama.cpp servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchai.bench import Bench

__version__ = "0.1.0"
__all__ = ["Bench", "__version__"]


def __getattr__(name: str) -> Any:
    # the CLI's --help must not pay for the import of langgraph
    if name == "Bench":
        from benchai.bench import Bench

        return Bench
    raise AttributeError(f"module 'benchai' has no attribute {name!r}")
