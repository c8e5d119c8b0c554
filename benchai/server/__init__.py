"""The HTTP face of BenchAI."""
