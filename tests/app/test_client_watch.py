"""Whether a waiting client is still connected."""

from __future__ import annotations

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Message

from app.dependencies import ClientWatch


def test_a_connection_is_watched_from_the_first_question_on() -> None:
    received: list[Message] = []

    async def receive() -> Message:
        received.append({"type": "http.disconnect"})
        return received[-1]

    async def scenario() -> None:
        watch = ClientWatch(Request({"type": "http"}, receive))
        await asyncio.sleep(0.7)
        assert not received
        assert not await run_in_threadpool(watch.left)
        for _ in range(100):
            if await run_in_threadpool(watch.left):
                break
            await asyncio.sleep(0.1)
        assert await run_in_threadpool(watch.left)
        await asyncio.sleep(0.7)
        assert len(received) == 1  # the watch has ended

    asyncio.run(scenario())
