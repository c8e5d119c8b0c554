"""The OpenAI wire: what clients send, and bytes passed between them and the engines."""
