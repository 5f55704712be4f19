"""Garbage collection beside the requests: at start, then now and then."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync

from api.service import Service
from registry.errors import WeighbridgeError
from storage.access import Caller
from storage.garbage import collect

COLLECTOR = Caller("collector", is_administrator=True)

log = logging.getLogger("weighbridge.garbage")


@asynccontextmanager
async def collecting(service: Service) -> AsyncGenerator[None]:
    """Collect garbage while the block runs; a collection that fails is tried again."""
    task = asyncio.create_task(_collect_forever(service))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _collect_forever(service: Service) -> None:
    while True:
        try:
            done = await run_sync(collect, service.stores, COLLECTOR)
        except WeighbridgeError as error:
            log.warning("Garbage could not be collected; it is tried again: %s", error.detail)
        else:
            if done.removed_locations or done.unused_objects or done.expired_writes:
                log.info("Garbage was collected", extra={"removed_locations": done.removed_locations})
        await asyncio.sleep(service.settings.collect_seconds)
