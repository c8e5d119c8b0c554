"""LangGraph state machines, their registry, guards and checkpoints."""
