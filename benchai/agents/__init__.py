"""Role-typed callers of models: prompts, messages, streamed replies."""
