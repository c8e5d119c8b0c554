"""One script of calls, played to two servers on the agent wire, and what they answer differently."""
