"""Objects that are gathered from parts: sent in any order, some of them again, joined when all are there."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from storage.blobs.signed import SignedRequest


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an object that is gathered.

    Attributes:
        number: counted from 1.
        etag: by which a bucket knows it; empty in a folder.
        size_bytes: as a bucket lists it; None in a folder, which keeps no part of another size than planned.
    """

    number: int
    etag: str = ""
    size_bytes: int | None = None


class PartWriter(ABC):
    """One part on its way through the service. As a context manager it leaves nothing of a part that is not kept."""

    @abstractmethod
    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append bytes.

        Raises:
            SizeMismatchError: there are more than the part has.
            StorageFullError, BlobStoreUnavailableError: they could not be stored.
        """

    @abstractmethod
    def keep(self) -> None:
        """Make it a part of the object that is gathered.

        Raises:
            SizeMismatchError: it is too short.
            StorageFullError, BlobStoreUnavailableError: it could not be stored.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Gathering(ABC):
    """The part of a blob store that gathers objects. Nothing is readable at a location before it is complete.

    Attributes:
        reads_gathered: whether `iter_gathered` works.
    """

    reads_gathered: bool = False

    @abstractmethod
    def begin_multipart(self, location: str, size_bytes: int) -> str:
        """Begin to gather an object of this size from parts that come in any order; return the gathering's id.

        Raises:
            StorageFullError: there is no room for it.
        """

    @abstractmethod
    def open_part(self, location: str, multipart_id: str, number: int, offset: int, length: int) -> PartWriter:
        """Return where the bytes of a part go that comes through the service.

        Raises:
            UploadEndedError: the object is not gathered any more.
        """

    def presign_part(self, location: str, multipart_id: str, number: int, ttl_seconds: int) -> SignedRequest:
        """Return a PUT for part `number` (1 to 10,000); it is dead once the object is complete or given up."""
        raise NotImplementedError(f"{type(self).__name__} takes no parts: bytes go through the service")

    @abstractmethod
    def list_parts(self, location: str, multipart_id: str) -> list[Part]:
        """Return the parts that are there, by number.

        Raises:
            UploadEndedError: the object is not gathered any more.
        """

    def is_rewritten(self, location: str, multipart_id: str) -> bool:
        """Return whether some part may have changed since `iter_gathered` gave its bytes.

        Raises:
            UploadEndedError: the object is not gathered any more.
        """
        del location, multipart_id
        return True

    def iter_gathered(self, location: str, offset: int, length: int) -> Iterator[memoryview]:
        """Yield bytes of parts that are there, before the object is complete, each good until the next is asked for.

        Raises:
            UploadEndedError: the object is not gathered any more.
            NotImplementedError: this store cannot (`reads_gathered`).
        """
        raise NotImplementedError(f"{type(self).__name__} reads no parts before they are joined")

    @abstractmethod
    def complete_multipart(self, location: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Join the parts into the object at `location`; again is fine, when the first answer was lost.

        Nothing is written to it any more once this returns.

        Raises:
            IncompleteUploadError: the store does not hold these parts in this order, or does not gather it.
        """

    @abstractmethod
    def abort_multipart(self, location: str, multipart_id: str) -> None:
        """Drop what was gathered; nothing there is fine."""
