"""The agent wire: LangGraph's Agent Server API over BenchAI's workflows."""
