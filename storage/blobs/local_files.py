"""Files and folders of the local blob store: durable names, room on the disk, and what the system's errors mean."""

import errno
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.errors import BlobNotFoundError, BlobStoreUnavailableError, StorageFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = logging.getLogger("weighbridge.blobs")


@contextmanager
def translated(
    path: Path, *, missing: type[BlobNotFoundError | BlobStoreUnavailableError] = BlobNotFoundError
) -> Generator[Path, None, None]:
    """Turn what the operating system says about `path` into the registry's errors."""
    try:
        yield path
    except FileNotFoundError as error:
        if missing is BlobNotFoundError:  # readers are told, and where the service keeps its files is not for them
            log.warning("%s is not there", error.filename or path)
            raise BlobNotFoundError(
                "Stored bytes are not there: they were removed, or their disk is away. The service's log says which."
            ) from error
        raise missing(f"{error.filename or path} is not there: it was removed, or its disk is away.") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(_full_sentence(path)) from error
        raise BlobStoreUnavailableError(
            f"{path} cannot be used: {error.strerror}. Look at the disk and at who may write there."
        ) from error


def _full_sentence(path: Path) -> str:
    return f"No room left on the disk of {path}; nothing was kept. Delete or purge versions, or enlarge the disk."


def require_room(folder: Path, descriptor: int, needed_bytes: int) -> None:
    """Raise `StorageFullError` when the disk of an open file has less room than that."""
    room = os.fstatvfs(descriptor)
    if room.f_bavail * room.f_frsize < needed_bytes:
        raise StorageFullError(_full_sentence(folder))


def put_in_place(descriptor: int, temporary: Path, place: Path) -> None:
    """Give a complete file its name, durably: after a power cut it has it with all its bytes, or not at all.

    Raises:
        StorageFullError, BlobStoreUnavailableError: it could not be; the name is not there.
    """
    with translated(place, missing=BlobStoreUnavailableError):
        os.fsync(descriptor)
        for folder in (place.parent.parent, place.parent):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                sync_folder(folder.parent)
        os.link(temporary, place)
        try:
            sync_folder(place.parent)
        except OSError:
            place.unlink()
            raise


def sync_folder(folder: Path) -> None:
    """Make names that were added to `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
