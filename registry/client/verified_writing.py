"""A file that is hashed as it is written, and believed only when it is what was announced."""

import errno
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from io import FileIO

from registry.errors import DigestMismatchError, SizeMismatchError

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class VerifiedWriter:
    """Writes a stream to a file and digests it meanwhile.

    Args:
        file: unbuffered: a buffer would try to write again, and fail again, when the file is closed on a full disk.
        hasher: one thread. SHA-256 takes longer than everything else here; beside the writing it costs little.
        translated_errors: turns the system's errors about the place into named ones.
    """

    def __init__(
        self, file: FileIO, hasher: Executor, translated_errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._file = file
        self._hasher = hasher
        self._translated_errors = translated_errors
        self._hashing: Future[None] | None = None
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            StorageFullError: there is no room for them.
        """
        self._finish_hashing()
        self._hashing = self._hasher.submit(self._hash.update, data)
        view = memoryview(data)
        with self._translated_errors():
            while view:  # an unbuffered file may take less than it is given
                view = view[self._file.write(view) :]
        self.size_bytes += len(data)

    def restart(self) -> None:
        """Forget what was written."""
        self._finish_hashing()
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def finish(self, sha256: str, size_bytes: int) -> None:
        """Bring everything to the disk when it is what was expected.

        Raises:
            SizeMismatchError, DigestMismatchError: it is not.
            StorageFullError: the disk filled up.
        """
        if self.size_bytes != size_bytes:
            raise SizeMismatchError(f"Expected {size_bytes} bytes, received {self.size_bytes}. Try again.")
        self._finish_hashing()
        found = f"sha256:{self._hash.hexdigest()}"
        if found != sha256:
            raise DigestMismatchError(
                f"What arrived has the digest {found}, not {sha256}: it was damaged on its way or in the store. "
                "Try again; if it stays, what is stored is damaged: tell the operator of the service."
            )
        with self._translated_errors():
            self._file.flush()
            os.fsync(self._file.fileno())

    def _finish_hashing(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None
