"""Tasks beside the requests, and their end: no thread is left that works on what is closed next."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def to_its_end(work: Awaitable[ResultT]) -> ResultT:
    """Return what work in a thread comes to. Whoever is cancelled meanwhile waits for it: no thread can be stopped."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # nobody is left who could be told
        raise


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
