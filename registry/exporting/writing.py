"""The folder that an export is written to: each file verified as it is written, and finished only at the very end."""

import shutil
import stat
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex

from pydantic import ValidationError

from registry.client.cache import hash_file
from registry.client.verified_writing import FULL_DISK, VerifiedWriter
from registry.digest import sha256_digest
from registry.errors import InvalidRequestError, StorageFullError, WeighbridgeError
from registry.exporting.documents import (
    INFO_NAME,
    MAX_DOCUMENT_BYTES,
    SUMS_NAME,
    ExportInfo,
    ListedModel,
    VersionDocument,
)
from registry.exporting.placing import require_inside
from registry.exporting.reading import ExportFolder
from registry.fields import AnswerModel

_PARTIAL = ".weighbridge-"


class OutputFolder:
    """A folder that becomes an export, or is one that is brought up to date.

    What lies in it already and is right is not written again. A file appears under its name when it is complete, so
    that a process may die at any time.

    Attributes:
        earlier: the finished export that it holds; None where there is none that is sound.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.copied_files = 0
        self.copied_bytes = 0
        self.earlier: ExportFolder | None = None
        self._sums: dict[str, str] = {}
        self._staged: dict[str, Path] = {}

    def begin(self, info: ExportInfo) -> None:
        """Take the folder. It says that it is unfinished, unless it holds a finished export: that stays until `finish`.

        Raises:
            InvalidRequestError: it holds something else, or an export of something else; or it cannot be written.
            StorageFullError: the disk is full.
        """
        with self._translated_errors():
            self.root.mkdir(parents=True, exist_ok=True)
            self._require_own(info)
            for left in self.root.glob(f"{_PARTIAL}*"):
                left.unlink()
        with suppress(WeighbridgeError):
            self.earlier = ExportFolder(self.root)
        if self.earlier is None:
            self._replace(INFO_NAME, _to_json(info))

    def _require_own(self, info: ExportInfo) -> None:
        there = self.root / INFO_NAME
        if not there.is_file():
            if any(not each.name.startswith(_PARTIAL) for each in self.root.iterdir()):
                raise InvalidRequestError(f"{str(self.root)!r} holds other things. Name a folder that is new or empty.")
            return
        with there.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES)
        try:
            found = ExportInfo.model_validate_json(data)
        except ValidationError as error:
            raise InvalidRequestError(
                f"{str(there)!r} is not what an export writes. Name a folder that is new or empty."
            ) from error
        if (found.registry_id, found.team) != (info.registry_id, info.team):
            raise InvalidRequestError(
                f"{str(self.root)!r} is an export of {found.team} from {found.service_url}. Name another folder."
            )
        if set(found.only_models) != set(info.only_models):
            chosen = f"those called {' or '.join(found.only_models)}" if found.only_models else "all models"
            raise InvalidRequestError(
                f"{str(self.root)!r} is an export of {chosen} of {found.team}. Ask for the same, or name another "
                "folder."
            )

    def holds(self, path: str, sha256: str, size_bytes: int) -> bool:
        """Return whether the file is there and is right, which takes reading it; then it belongs to this export."""
        with self._translated_errors():
            place = require_inside(self.root, path)
            try:
                status = place.lstat()
            except FileNotFoundError:
                return False
            if not stat.S_ISREG(status.st_mode) or status.st_size != size_bytes or hash_file(place) != sha256:
                return False
        self._sums[path] = sha256
        return True

    @contextmanager
    def writer(self, path: str, sha256: str, size_bytes: int) -> Generator[VerifiedWriter]:
        """Open a file for writing. At the end of the block it is verified and takes its place; else nothing is left.

        Raises:
            InvalidPathError: a link in the folder leads out of it.
            StorageFullError: there is no room for `size_bytes`.
            SizeMismatchError, DigestMismatchError: what was written is something else.
        """
        partial = self.root / f"{_PARTIAL}{token_hex(8)}"
        with self._translated_errors():
            place = require_inside(self.root, path)
            if size_bytes > shutil.disk_usage(self.root).free:
                raise self._full()
            place.parent.mkdir(parents=True, exist_ok=True)
            file = FileIO(partial, "xb")
        try:
            with file, ThreadPoolExecutor(1, "weighbridge-hash") as hasher:
                writer = VerifiedWriter(file, hasher, self._translated_errors)
                yield writer
                writer.finish(sha256, size_bytes)
            with self._translated_errors():
                partial.replace(place)
        finally:
            with suppress(OSError):
                partial.unlink()
        self._sums[path] = sha256
        self.copied_files += 1
        self.copied_bytes += size_bytes

    def write_document(self, path: str, document: AnswerModel) -> None:
        """Write a JSON document, unless the same is there already. An earlier one stays in its place until `finish`."""
        data = _to_json(document)
        if self.holds(path, sha256_digest(data), len(data)):
            return
        if self.earlier is None:
            self._replace(path, data)
            return
        partial = self.root / f"{_PARTIAL}{token_hex(8)}"
        with self._translated_errors():
            require_inside(self.root, path)
            partial.write_bytes(data)
        self._staged[path] = partial
        self._sums[path] = sha256_digest(data)

    def keep_version(self, model: str, folder: str, number: int) -> VersionDocument | None:
        """Return a version of the earlier export that is complete in the folder, and belongs to this one, too."""
        if self.earlier is None:
            return None
        try:
            document = self.earlier.read_version(ListedModel(name=model, folder=folder), number)
            if not document.files or not all(
                each.file is not None and self.holds(each.file, each.sha256, each.size_bytes) for each in document.files
            ):
                return None
        except WeighbridgeError:
            return None
        self.write_document(f"{folder}/{number}.json", document)
        return document

    def finish(self, info: ExportInfo) -> None:
        """Write the digests of everything, and at last that the export is finished."""
        for path, partial in self._staged.items():
            with self._translated_errors():
                place = require_inside(self.root, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(place)
        data = _to_json(info)
        self._sums[INFO_NAME] = sha256_digest(data)
        lines = [f"{digest.removeprefix('sha256:')}  {path}\n" for path, digest in sorted(self._sums.items())]
        self._replace(SUMS_NAME, "".join(lines).encode())
        self._replace(INFO_NAME, data)

    def count_strangers(self) -> int:
        """Return how many files lie in the folder that do not belong to this export: of versions deleted since."""
        known = {*self._sums, SUMS_NAME, INFO_NAME}
        with self._translated_errors():
            files = (each for each in self.root.rglob("*") if not each.is_dir())
            return sum(each.relative_to(self.root).as_posix() not in known for each in files)

    def _replace(self, path: str, data: bytes) -> None:
        """Write a small file in one step."""
        partial = self.root / f"{_PARTIAL}{token_hex(8)}"
        with self._translated_errors():
            place = require_inside(self.root, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(data)
                partial.replace(place)
            finally:
                partial.unlink(missing_ok=True)
        self._sums[path] = sha256_digest(data)

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in FULL_DISK:
                raise self._full() from error
            raise InvalidRequestError(
                f"{error.filename or str(self.root)!r} cannot be written: {error.strerror or error}."
            ) from error

    def _full(self) -> StorageFullError:
        return StorageFullError(
            f"No room in {str(self.root)!r}. Free some, and run the same command again: it goes on where it stopped."
        )


def _to_json(document: AnswerModel) -> bytes:
    return document.model_dump_json(indent=2).encode() + b"\n"
