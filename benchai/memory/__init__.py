"""Knowledge base and long-term memory: SQLite holds the truth, Chroma an index of it that can be made anew."""
