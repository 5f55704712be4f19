"""What is done beside the requests: collecting garbage, writing records, telling the audit of failed logins."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from anyio.to_thread import run_sync

from api.measures import Measures
from api.service import Service
from api.tasks import end, to_its_end
from registry.errors import CollectionRefusedError, WeighbridgeError
from storage.access import Caller
from storage.garbage import collect
from storage.recording import write_due_records
from storage.repack import repack
from storage.tokens import note_failed_login

COLLECTOR = Caller("collector", is_administrator=True)

TELL_SECONDS = 60
RECORD_SECONDS = 2
"""How soon what changed is in the records beside the objects."""
MAX_TOLD = 50
"""Addresses that are told of one by one at a time; the others are told of together."""

log = logging.getLogger("weighbridge.garbage")


@asynccontextmanager
async def collecting(service: Service, measures: Measures) -> AsyncGenerator[None]:
    """Collect garbage while the block runs; a collection that fails is tried again. Tell the audit all at its end."""
    forever = (_collect_forever(service, measures), _tell_forever(service), _record_forever(service))
    tasks = [asyncio.create_task(each) for each in forever]
    try:
        yield
    finally:
        await end(*tasks)
        await tell_failed_logins(service)


async def tell_failed_logins(service: Service) -> None:
    """Tell the audit how many failed logins of which address were left out of it."""
    left_out = sorted(service.callers.failed_logins.take_left_out().items(), key=lambda each: -each[1])
    told: list[tuple[str | None, int]] = [*left_out[:MAX_TOLD]]
    if len(left_out) > MAX_TOLD:
        told.append((None, sum(count for _, count in left_out[MAX_TOLD:])))
    for address, count in told:
        await to_its_end(run_sync(note_failed_login, service.stores, "", address, None, count - 1))


async def _tell_forever(service: Service) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        await tell_failed_logins(service)


async def _record_forever(service: Service) -> None:
    while True:
        with suppress(WeighbridgeError):  # the database is away, which everybody else says, too
            await to_its_end(run_sync(write_due_records, service.stores))
        await asyncio.sleep(RECORD_SECONDS)


async def _collect_forever(service: Service, measures: Measures) -> None:
    while True:
        try:
            done = await to_its_end(run_sync(collect, service.stores, COLLECTOR))
            await to_its_end(run_sync(repack, service.stores, COLLECTOR))
        except CollectionRefusedError as error:
            measures.count_collection("refused")
            log.error("Garbage is not collected until somebody looks: %s", error.detail)  # noqa: TRY400 - no traceback
        except WeighbridgeError as error:
            measures.count_collection("failed")
            log.warning("Garbage could not be collected; it is tried again: %s", error.detail)
        else:
            measures.count_collection("done" if done.ran else "left to another")
            if done.removed_locations or done.unused_objects or done.expired_writes:
                log.info("Garbage was collected", extra={"removed_locations": done.removed_locations})
        await asyncio.sleep(service.settings.collect_seconds)
