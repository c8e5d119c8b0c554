"""LangGraph's Python client on `benchai serve`: a thread, a run that streams, a run that is joined, the store.

    python examples/client_python.py [WORKFLOW TASK]

It needs `pip install langgraph-sdk`, nothing of BenchAI. The server's address stands in BENCHAI_URL (default:
http://127.0.0.1:8085), its key, if it wants one, in BENCHAI_KEY.
"""

from __future__ import annotations

import asyncio
import os
import sys

from langgraph_sdk import get_client

URL = os.environ.get("BENCHAI_URL", "http://127.0.0.1:8085")
KEY = os.environ.get("BENCHAI_KEY")


async def main(workflow: str, task: str) -> None:
    """Run a workflow twice on one thread, and keep a note."""
    async with get_client(url=URL, headers={"Authorization": f"Bearer {KEY}"} if KEY else None) as client:
        thread = await client.threads.create(metadata={"of": "client_python"})
        question = {"messages": [{"role": "user", "content": task}]}

        async for part in client.runs.stream(
            thread["thread_id"], workflow, input=question, stream_mode=["updates", "values"], stream_resumable=True
        ):
            if part.event == "updates":
                print("step:", *part.data)
            elif part.event == "error":
                raise SystemExit(f"the run failed: {part.data['message']}")

        run = await client.runs.create(thread["thread_id"], workflow, input=question)
        values = await client.runs.join(thread["thread_id"], run["run_id"])
        print("answer:", values["messages"][-1]["content"])

        state = await client.threads.get_state(thread["thread_id"])
        runs = await client.runs.list(thread["thread_id"])
        print(f"thread: {len(state['values']['messages'])} messages, {len(runs)} runs")

        await client.store.put_item(["examples", "python"], "last", {"task": task})
        item = await client.store.get_item(["examples", "python"], "last")
        print("kept:", item["value"]["task"])
        await client.threads.delete(thread["thread_id"])


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["react", "What is 48 * 52?"])))
