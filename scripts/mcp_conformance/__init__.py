"""The conformance package of the Model Context Protocol against BenchAI's MCP server and client."""
