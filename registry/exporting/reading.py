"""An export folder as an import reads it. Who made it is not trusted: every file is bounded, checked, and inside."""

import re
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from registry.client.cache import hash_file
from registry.client.transfer import OutgoingFile
from registry.digest import sha256_digest
from registry.errors import (
    ArtifactNotFoundError,
    DigestMismatchError,
    InvalidPathError,
    InvalidRequestError,
    MalformedArtifactError,
    TooLargeError,
)
from registry.exporting.documents import (
    FORMAT_VERSION,
    INFO_NAME,
    MAX_DOCUMENT_BYTES,
    MODEL_NAME,
    SUMS_NAME,
    ExportInfo,
    FileDocument,
    ListedModel,
    ModelDocument,
    VersionDocument,
)
from registry.exporting.placing import require_inside
from registry.fields import AnswerModel
from registry.names import check_name, check_path, check_team
from registry.paths import expand_home

DocumentT = TypeVar("DocumentT", bound=AnswerModel)

MAX_SUMS_BYTES = 256 << 20
MAX_SUMS = 1_000_000
"""Files of an export: some 300 MB of names and digests in memory."""
_MAX_LINE_BYTES = 8 << 10
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\n?")


def is_export(text: str) -> bool:
    """Return whether a text is the path of a folder that says it is an export, and not just one of weights."""
    try:
        return (expand_home(text) / INFO_NAME).is_file()
    except (OSError, ValueError):  # a URL longer than a file's name, a NUL: then it is none
        return False


class ExportFolder:
    """A finished export. Making one reads what it says of itself and the list of digests, and no more.

    Attributes:
        info: what the folder says of itself.

    Raises:
        InvalidRequestError: it is no export, an unfinished one, or one of a newer format.
        MalformedArtifactError, DigestMismatchError: it is damaged, or made up.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        data = self._read(INFO_NAME)
        self.info = _parse(ExportInfo, data, INFO_NAME)
        if self.info.format_version > FORMAT_VERSION:
            raise InvalidRequestError(
                f"{str(root)!r} was written by a newer Weighbridge (format {self.info.format_version}; this one reads "
                f"{FORMAT_VERSION}). Upgrade the client."
            )
        if not self.info.finished:
            raise InvalidRequestError(
                f"{str(root)!r} is an export of {self.info.team} that was broken off. Run `weighbridge export "
                f"{self.info.team} -o {root}` again: it goes on where it stopped."
            )
        check_team(self.info.team)
        for named in ([each.name for each in self.info.models], [each.folder for each in self.info.models]):
            if len(set(named)) != len(named):
                raise MalformedArtifactError(f"{INFO_NAME} names a model or a folder twice.")
        self._sums = self._read_sums()
        self._require_sum(INFO_NAME, sha256_digest(data))

    def read_model(self, listed: ListedModel) -> ModelDocument:
        """Return the document of a model.

        Raises:
            MalformedArtifactError, DigestMismatchError: it is damaged, or made up.
            ArtifactNotFoundError: it is not there, or no document of a version that it names.
            InvalidPathError: it is behind a link, or outside of the folder.
        """
        path = f"{listed.folder}/{MODEL_NAME}"
        document = self._read_document(ModelDocument, path)
        if (document.team, document.name) != (self.info.team, check_name(listed.name, "model name")):
            raise MalformedArtifactError(f"{path} is of {document.team}/{document.name}, and not of {listed.name}.")
        if len(set(document.versions)) != len(document.versions):
            raise MalformedArtifactError(f"{path} names a version twice.")
        lost = next((each for each in document.versions if f"{listed.folder}/{each}.json" not in self._sums), None)
        if lost is not None:
            raise ArtifactNotFoundError(f"{path} names version {lost}, of which {SUMS_NAME} has no document.")
        return document

    def read_version(self, listed: ListedModel, number: int) -> VersionDocument:
        """Return the document of a version; raises as `read_model`."""
        path = f"{listed.folder}/{number}.json"
        document = self._read_document(VersionDocument, path)
        if (document.team, document.model, document.number) != (self.info.team, listed.name, number):
            raise MalformedArtifactError(f"{path} is of {document.reference}, and not of {listed.name}:{number}.")
        return document

    def verify(self, document: FileDocument) -> OutgoingFile:
        """Return a file of a version, which is what the export says; that takes reading it.

        Raises:
            InvalidPathError: it is behind a link, or outside of the folder.
            ArtifactNotFoundError: it is not there.
            DigestMismatchError: it is another file than was exported.
        """
        path = document.file or ""
        with self._translated_errors(path):
            place = self._find(path)
            size_bytes = place.stat().st_size
            digest = hash_file(place)
        self._require_sum(path, digest)
        if digest != document.sha256 or size_bytes != document.size_bytes:
            raise DigestMismatchError(f"{path} is not the {document.path!r} that its version names.")
        return OutgoingFile(check_path(document.path), place, size_bytes, digest)

    def read_file(self, path: str, limit_bytes: int) -> bytes:
        """Return a small file of the folder; raises as `verify`, and `TooLargeError`."""
        data = self._read(path, limit_bytes)
        self._require_sum(path, sha256_digest(data))
        return data

    def _read_document(self, shape: type[DocumentT], path: str) -> DocumentT:
        return _parse(shape, self.read_file(path, MAX_DOCUMENT_BYTES), path)

    def _read(self, path: str, limit_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        with self._translated_errors(path), self._find(path).open("rb") as file:
            data = file.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise TooLargeError(f"{path} of the export has more than {limit_bytes} bytes, which no export writes.")
        return data

    def _read_sums(self) -> dict[str, str]:
        sums: dict[str, str] = {}
        with self._translated_errors(SUMS_NAME):
            place = self._find(SUMS_NAME)
            if place.stat().st_size > MAX_SUMS_BYTES:
                raise TooLargeError(f"{SUMS_NAME} of the export has more than {MAX_SUMS_BYTES} bytes.")
            with place.open("rb") as file:
                while line := file.readline(_MAX_LINE_BYTES):
                    found = _LINE.fullmatch(line.decode("utf-8", "replace"))
                    if found is None:
                        raise MalformedArtifactError(
                            f"{SUMS_NAME} of the export has a line that is no digest and file."
                        )
                    sums[found[2]] = f"sha256:{found[1]}"
                    if len(sums) > MAX_SUMS:
                        raise TooLargeError(f"{SUMS_NAME} of the export names more than {MAX_SUMS:,} files.")
        return sums

    def _require_sum(self, path: str, digest: str) -> None:
        expected = self._sums.get(path)
        if digest != expected:
            told = f"should have the digest {expected}" if expected else f"is not named in {SUMS_NAME}"
            raise DigestMismatchError(
                f"{path} of the export has the digest {digest} and {told}: it was damaged or exchanged. Copy the "
                "folder again, or export again into it."
            )

    def _find(self, path: str) -> Path:
        """Return a regular file of the folder that no link leads to."""
        place = require_inside(self.root, path)
        if not stat.S_ISREG(place.lstat().st_mode):
            raise InvalidPathError(f"{path!r} of the export is no plain file.")
        return place

    @contextmanager
    def _translated_errors(self, path: str) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ArtifactNotFoundError(f"{str(self.root)!r} has no file {path!r}. Copy the folder again.") from error
        except OSError as error:
            raise InvalidRequestError(f"{path!r} of the export cannot be read: {error.strerror or error}.") from error


def _parse(shape: type[DocumentT], data: bytes, path: str) -> DocumentT:
    try:
        return shape.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise MalformedArtifactError(f"{path} is not what an export writes ({where}: {first['msg']}).") from error
