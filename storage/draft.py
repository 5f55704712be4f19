"""A push on its way: an intent row before the first byte of every file, and nothing left of it when it fails."""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from blake3 import blake3

from registry.errors import (
    EmptyArtifactError,
    InvalidPathError,
    SizeMismatchError,
    TooLargeError,
    WeighbridgeError,
)
from registry.formats.reader import HEAD_BYTES
from registry.names import check_name, check_path, check_team, fold_path
from storage.access import Caller
from storage.admission import admit_to_push
from storage.blobs.base import BlobWriter, new_location
from storage.garbage import sweep_locations
from storage.metadata.records import Replay
from storage.push import LEASE, Push, Received
from storage.room import Room
from storage.stores import Stores

log = logging.getLogger("weighbridge.publish")


class Incoming:
    """One file being received. One thread at a time; memory does not grow with the file."""

    def __init__(self, path: str, location: str | None, writer: BlobWriter | None, max_bytes: int, room: Room) -> None:
        self.path = path
        self.location = location
        self._writer = writer
        self._max_bytes = max_bytes
        self._room = room
        self._sha256 = hashlib.sha256() if writer is None else None
        self._blake3 = blake3()
        self._head = b""
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`.

        Raises:
            TooLargeError: the file is larger than the service takes.
            QuotaExceededError: the push is larger than the team has room for.
            StorageFullError, BlobStoreUnavailableError: it could not be stored.
        """
        self._size_bytes += len(data)
        check_size(self._size_bytes, self._max_bytes, self.path)
        self._room.take(len(data), self._size_bytes)
        if len(self._head) < HEAD_BYTES:
            self._head += bytes(data[: HEAD_BYTES - len(self._head)])
        if self._writer is not None:
            self._writer.write(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        self._blake3.update(data)

    def close(self, size_bytes: int | None = None) -> Received:
        """Commit the bytes and return what they are.

        Args:
            size_bytes: how many were announced.

        Raises:
            EmptyArtifactError: there were none.
            SizeMismatchError: there were more or fewer than announced.
            DigestMismatchError: they are not those that were announced.
        """
        if size_bytes not in (None, self._size_bytes):
            raise SizeMismatchError(
                f"{self.path!r} was announced with {size_bytes} bytes and came with {self._size_bytes}. "
                "Nothing was stored; send it again.",
                expected=size_bytes,
                actual=self._size_bytes,
            )
        if not self._size_bytes:
            raise EmptyArtifactError(f"{self.path!r} has no bytes. Was it still being written?")
        if self._writer is not None:
            sha256 = self._writer.commit().sha256
        else:
            sha256 = f"sha256:{self._sha256.hexdigest()}" if self._sha256 is not None else ""
        digest = f"blake3:{self._blake3.hexdigest()}"
        return Received(self.path, self.location or "", self._size_bytes, sha256, digest, self._head)

    def abort(self) -> None:
        """Drop what was written."""
        if self._writer is not None:
            self._writer.abort()


class Draft(Push):
    """A push between its first byte and its version. `storage.publish.publish` ends it well, `abandon` badly.

    Attributes:
        room: what the team has room for; everything where nothing will be stored.
        replay: set when the same `Idempotency-Key` led to a version before: files are digested, not stored.
    """

    def __init__(
        self,
        stores: Stores,
        caller: Caller,
        team: str,
        model: str,
        room: Room,
        *,
        key: str | None,
        replay: Replay | None,
    ) -> None:
        super().__init__(stores, caller, team, model)
        self.key = key
        self.replay = replay
        self.room = room if replay is None else Room(None)
        self._incoming: list[Incoming] = []
        self._paths: dict[str, str] = {}

    def open_file(self, path: str, *, sha256: str | None = None) -> Incoming:
        """Return where the bytes of one file go.

        Args:
            path: the artifact's path.
            sha256: `sha256:…` that was announced; other bytes are refused when the file is closed.

        Raises:
            InvalidPathError: the path is invalid or taken.
            TooLargeError: there are too many files.
        """
        path = check_path(path)
        taken = self._paths.setdefault(fold_path(path), path)
        if len(self._paths) == len(self._incoming):
            raise InvalidPathError(
                f"{taken!r} and {path!r} are one name on file systems that ignore case. Rename one, or send it once."
            )
        limits = self.stores.limits
        if len(self._paths) > limits.max_artifacts:
            raise TooLargeError(
                f"A version has at most {limits.max_artifacts} files. Push an archive, or several models."
            )
        location, writer = self._open_location(sha256)
        incoming = Incoming(path, location, writer, limits.max_artifact_bytes, self.room)
        self._incoming.append(incoming)
        return incoming

    def _open_location(self, sha256: str | None) -> tuple[str | None, BlobWriter | None]:
        if self.replay is not None:
            return None, None
        location = new_location()
        self.stores.catalog.begin_write(location, self.team, self.caller.name, _lease_end())
        try:
            return location, self.stores.blobs.create(location, expected_sha256=sha256)
        except BaseException:
            sweep_locations(self.stores, [location], cancel=True)
            raise

    def close_file(self, incoming: Incoming, *, size_bytes: int | None = None) -> Received:
        """Commit one file; see `Incoming.close` for what it raises."""
        received = incoming.close(size_bytes)
        self.received.append(received)
        return received

    @property
    def locations(self) -> Sequence[str]:
        """Where its bytes are."""
        return [each.location for each in list(self._incoming) if each.location is not None]

    def renew(self) -> None:
        """Renew the intents and the key."""
        if self.locations:
            self.stores.catalog.extend_write(self.locations, _lease_end())
        if self.key is not None and self.replay is None:
            self.stores.catalog.extend_push(self.caller.name, self.team, self.model, self.key, _lease_end())

    def abandon(self) -> None:
        """Leave nothing behind: no bytes, no rows, the key free again. What is away now is collected later."""
        for incoming in self._incoming:
            incoming.abort()
        try:
            sweep_locations(self.stores, self.locations, cancel=True)
        except WeighbridgeError as error:
            log.warning("A failed push is cleaned up later, by the collector: %s", error)
        if self.key is not None and self.replay is None:
            with suppress(WeighbridgeError):  # the key frees itself when its lease ends
                self.stores.catalog.abandon_push(self.caller.name, self.team, self.model, self.key)


def begin(stores: Stores, caller: Caller, team: str, model: str, key: str | None = None) -> Draft:
    """Admit a push: may they, are the names good, did the same push come before.

    Args:
        stores: where it goes.
        caller: who pushes.
        team: the model's team.
        model: the model, which need not exist.
        key: the `Idempotency-Key`.

    Raises:
        PermissionDeniedError, InvalidNameError: no.
        PublishInProgressError: the first push with the key is still running.
        InvalidRequestError: the key is too long.
    """
    check_team(team)
    check_name(model, "model name")
    admit_to_push(stores, caller, team, model)
    room = Room(stores.catalog.find_team(team))
    replay = None
    if key is not None:
        replay = stores.catalog.begin_push(caller.name, team, model, key, _lease_end())
    return Draft(stores, caller, team, model, room, key=key, replay=replay)


def check_size(size_bytes: int, max_bytes: int, path: str) -> None:
    """Raise `TooLargeError` if a file has more bytes than the service takes."""
    if size_bytes > max_bytes:
        raise TooLargeError(f"{path!r} has more than the {max_bytes} bytes that this service takes of one file.")


def _lease_end() -> datetime:
    return datetime.now(UTC) + LEASE
