"""Engines that serve a GGUF: found, given their flags, started."""
