"""Pushes that broke off, remembered in the cache folder so that the same push goes on where it stopped.

v1/uploads/<digest of what is pushed where>.json    the `Idempotency-Key` of the push
"""

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from registry.client.connection import Connection
from registry.client.transfer import OutgoingFile, announce
from registry.errors import ServerUnreachableError, UnavailableError
from registry.names import Reference
from registry.schema import VersionCreate

RESUMED_SECONDS = 20 * 3600
"""A little less than the service keeps an upload without a sign of life."""


@contextmanager
def remembered_key(
    connection: Connection,
    reference: Reference,
    metadata: VersionCreate,
    files: Sequence[OutgoingFile],
    given: str | None,
) -> Generator[str]:
    """Give the key of a push: that of the same push when it broke off before, else a new one, or the one given.

    The key is forgotten when the block ends well, and when the service refused what was pushed.
    """
    if given is not None:
        yield given
        return
    file = _file(connection, reference, announce(metadata, files), files)
    key = _read(file) or str(uuid.uuid4())
    _write(file, key)
    try:
        yield key
    except (ServerUnreachableError, UnavailableError, KeyboardInterrupt, SystemExit):
        raise  # the same push may go on from here
    except BaseException:
        _forget(file)
        raise
    _forget(file)


def _file(connection: Connection, reference: Reference, metadata: VersionCreate, files: Sequence[OutgoingFile]) -> Path:
    tiles = [each.tiles for each in files if not each.digest]
    what = [connection.settings.url, reference.team, reference.model, metadata.model_dump(mode="json"), tiles]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return connection.cache.root / "uploads" / f"{digest}.json"


def _read(file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if time.time() - file.stat().st_mtime < RESUMED_SECONDS:
            key = json.loads(file.read_bytes())["key"]
            return key if isinstance(key, str) else None
    return None


def _write(file: Path, key: str) -> None:
    # A cache that cannot be written must not break a push: it is only not resumed.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(json.dumps({"key": key}).encode())


def _forget(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
