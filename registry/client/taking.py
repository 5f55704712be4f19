"""One artifact for whoever reads weights: as a whole, or the storages that are wanted and that no cached file holds."""

import warnings
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3

from registry.client.connection import Connection
from registry.client.described_files import DescribedFile
from registry.client.fetching import download_artifact, download_pack
from registry.client.packing import PackLayout, lay_out
from registry.client.progress import Bar, progress_bar
from registry.client.storage_index import Held, StorageIndex
from registry.errors import MalformedArtifactError, OfflineError, UnsafeArtifactError
from registry.formats.head import read_head
from registry.formats.inspection import Document
from registry.formats.plain_pickle import PlainPickle
from registry.formats.source import FileSource
from registry.pieces import Pieces, Place, WeightFile
from registry.schema import ArtifactInfo, VersionInfo
from registry.state_dict import EmaPartWarning, choose_part

SAVED_BYTES = 64 << 10
"""What taking storages saves at least; else the whole file is fetched, which is good for everything."""
READ_TIMES, READ_BYTES = 4, 256 << 20
"""How many times the missing bytes, and how many at least, are read of cached files that nobody has looked into yet."""


class Take:
    """How one artifact is taken. Until `choose` says otherwise, as a whole.

    Args:
        connection: the way to the service.
        version: whose artifact it is.
        artifact: what is taken.
        part: the state_dict inside a checkpoint.
        verify: read what is used of the cache again, and compare its digests first.
    """

    def __init__(
        self, connection: Connection, version: VersionInfo, artifact: ArtifactInfo, part: str | None, *, verify: bool
    ) -> None:
        self._connection, self._version, self._part, self._verify = connection, version, part, verify
        self._cache, self._index = connection.cache, StorageIndex(connection.cache)
        self.artifact = artifact
        self._file = self._cache.find(artifact.blake3, artifact.size_bytes, verify=verify)
        self._described: DescribedFile | None = None
        self._needed: dict[str, set[str]] | None = None
        self._held: dict[str, Held] | None = None
        self._head = Held(_digest_of_head(artifact, connection.settings.url), 0, 0)
        self._places: dict[str, Place] = {}
        self._layout: PackLayout | None = None
        self._plain: PlainPickle | None = None

    @property
    def is_cached(self) -> bool:
        """Whether the cache holds the whole file."""
        return self._file is not None

    @property
    def is_small(self) -> bool:
        """Whether nothing could be saved."""
        return self.artifact.size_bytes <= SAVED_BYTES

    @property
    def missing_bytes(self) -> int:
        """How many bytes have to be fetched."""
        if self._file is not None:
            return 0
        if self._held is None:
            return self.artifact.size_bytes
        return self._layout.wanted_bytes if self._layout is not None else 0

    def find_names(self) -> list[str] | None:
        """Return the names of the state_dict; None where only the file itself tells.

        Raises:
            NoWeightsError, AmbiguousWeightsError: it is a checkpoint without that part, or with several.
        """
        if self.artifact.manifest is None:
            return None
        try:
            found = self._connection.resolver.manifest(self._version, self.artifact.path)
        except OfflineError:
            return None
        self._described = DescribedFile.find(found.manifest)
        if self._described is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmaPartWarning)  # whoever opens the file says it
            self._part = choose_part(self._described.inspection, self._part)
        self._needed = self._described.find_names(self._part)
        return None if self._needed is None else list(self._needed)

    def choose(self, names: Collection[str]) -> None:
        """Take the storages of these names only, where that saves something, and look which ones are missing."""
        if self._described is None or self._needed is None or self._file is not None:
            return
        keys = {key for name, needed in self._needed.items() if name in names for key in needed}
        self._held = None if self._described.has_opaque(self._part, names) else self._described.find_held(keys)
        if self._held is None:
            return
        self._head = self._head._replace(length=self._described.head[1])
        missing = self._look()
        size_bytes = sum(each.length for each in missing)
        if missing and self._index.read_more(max(READ_BYTES, READ_TIMES * size_bytes)):
            missing = self._look()
        if not missing:
            return
        self._layout = lay_out(missing, frozenset({self._head.digest}))
        if self.artifact.size_bytes - self._layout.wanted_bytes <= SAVED_BYTES:
            self._held = self._layout = None

    def bring(self, bar: Bar) -> None:
        """Fetch what is missing.

        Raises:
            WeighbridgeError: as `download_artifact`.
        """
        if self._file is not None:
            return
        if self._held is None:
            storages = self._described.storages if self._described is not None else ()
            self._file = download_artifact(self._connection, self._version, self.artifact, bar, storages)
        elif self._layout is not None:
            with ThreadPoolExecutor(1, "weighbridge-head") as beside:
                plain = None if self._described is None else beside.submit(PlainPickle, self._described.inspection)
                download_pack(self._connection, self._version, self.artifact, self._layout, bar, self._is_there)
                self._look()
            self._plain = None if plain is None else plain.result()

    def open(self) -> WeightFile:
        """Return the file, or where its storages lie.

        Raises:
            FileNotFoundError: the cache lost some of it meanwhile.
            WeighbridgeError: as `bring`.
        """
        document = self._read_head() if self._held is not None and self._described is not None else None
        if document is None or self._held is None:
            with progress_bar(
                f"pull {self._version.reference}", self.missing_bytes, wanted=self._connection.progress
            ) as bar:
                self.bring(bar)
            if self._file is None:
                raise AssertionError
            return self._file
        places = {key: self._places.get(each.digest) for key, each in self._held.items()}
        found = {key: place for key, place in places.items() if place is not None}
        if len(found) != len(places):
            raise FileNotFoundError(self.artifact.path)
        return Pieces(self.artifact.path, document, found)

    def _read_head(self) -> Document | None:
        """Return what the file holds; None, and the whole file is to be taken, where its head alone does not tell."""
        place = self._places.get(self._head.digest)
        if place is None or self._described is None:
            raise FileNotFoundError(self.artifact.path)
        with FileSource(place.file) as source:
            (head,) = source.read_many([(place.offset, self._head.length)])
        try:
            return read_head(head, self._described.inspection, plain=self._plain)
        except (MalformedArtifactError, UnsafeArtifactError):
            self._held = self._layout = None
            return None

    def _look(self) -> list[Held]:
        """Look where the cache holds what is wanted; return what it does not."""
        wanted = {each.digest: each for each in (self._head, *(self._held or {}).values())}
        lengths = {digest: each.length for digest, each in wanted.items()}
        self._places = self._index.find(lengths)
        while self._verify and not self._are_sound():
            self._places = self._index.find(lengths)
        return [each for digest, each in wanted.items() if digest not in self._places]

    def _is_there(self) -> bool:
        """Return whether the cache holds by now what has to be fetched."""
        missing = {each.digest: each.length for each in self._layout.held} if self._layout is not None else {}
        return len(self._index.find(missing)) == len(missing)

    def _are_sound(self) -> bool:
        files = {each.file: each.file_bytes for each in self._places.values()}
        return all(
            self._cache.find(f"blake3:{file.name}", size_bytes, verify=True) is not None
            for file, size_bytes in files.items()
        )


def _digest_of_head(artifact: ArtifactInfo, url: str) -> str:
    """Return what names the structure of an artifact in the cache, apart for each service.

    It is no digest of those bytes, so what one service sends must never be found for another.
    """
    return f"blake3:{blake3(f'the head of {artifact.blake3} at {url}'.encode()).hexdigest()}"
