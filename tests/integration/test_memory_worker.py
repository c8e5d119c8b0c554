"""The memory's threads: what has begun is finished, and the event loop goes on while they end."""

from __future__ import annotations

import asyncio
import threading

from benchai.memory.worker import Worker


def test_the_event_loop_goes_on_while_a_worker_ends() -> None:
    async def scene() -> bool:
        worker, let_go = Worker("slow"), threading.Event()
        slow = asyncio.create_task(worker.run(let_go.wait, 20))
        closing = asyncio.create_task(worker.aclose())
        # only a loop that goes on gets here before the wait is over
        asyncio.get_running_loop().call_later(0.01, let_go.set)
        await closing
        assert not any(thread.name == "slow" for thread in threading.enumerate())
        return await slow

    assert asyncio.run(scene())


def test_a_worker_that_is_not_waited_for_finishes_what_it_was_given() -> None:
    async def scene() -> bool:
        worker, let_go = Worker("left"), threading.Event()
        given = asyncio.create_task(worker.run(let_go.wait, 20))
        await asyncio.sleep(0)  # it is given to the thread
        worker.close(wait=False)
        let_go.set()
        return await given

    assert asyncio.run(scene())
