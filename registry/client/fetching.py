"""Into the cache: a whole artifact, or a pack of it; one process of a machine fetches, the others wait."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.client.connection import Connection
from registry.client.growing_copy import GrowingCopy
from registry.client.holding import beating, holding
from registry.client.packing import PackLayout, PartialPack
from registry.client.partial import Partial
from registry.client.progress import Bar
from registry.client.reading import Download, Shown
from registry.errors import StorageFullError
from registry.formats.source import ByteRange
from registry.schema import ArtifactInfo, VersionInfo


def download_artifact(  # noqa: PLR0917 - what is fetched of what, and who gets what of it
    connection: Connection,
    version: VersionInfo,
    artifact: ArtifactInfo,
    bar: Bar,
    storages: Sequence[ByteRange] = (),
    copy: GrowingCopy | None = None,
) -> Path:
    """Bring an artifact into the cache and return its file there, verified by BLAKE3.

    Where another process of this machine fetches it already, it is waited for. What breaks is taken up again.

    Args:
        connection: the way to the service.
        version: whose artifact it is.
        artifact: what to bring.
        bar: shows how far it is.
        storages: where they lie in it, so that they can be found in the cache afterwards.
        copy: grows while it comes; where another process fetches it, it does not.

    Raises:
        ServerUnreachableError: it broke too often; the next call goes on where it stopped.
        DigestMismatchError: the bytes are not the artifact's; nothing entered the cache.
        StorageFullError: the cache has no room.
        WeighbridgeError: the error that the service named.
    """
    cache, digest, size_bytes = connection.cache, artifact.blake3, artifact.size_bytes
    goal = _Goal(
        cache.lock_of(digest),
        cache.path_of(digest).exists,
        lambda: cache.find(digest, size_bytes) is not None,
        lambda: Partial(cache, digest, size_bytes, storages, copy),
        size_bytes,
    )
    _bring(connection, version, artifact, goal, Shown(bar))
    return cache.path_of(digest)


def download_apart(connection: Connection, version: VersionInfo, artifact: ArtifactInfo, bar: Bar) -> Path:
    """Bring an artifact into a file that nobody else sees and return it, verified by BLAKE3, for the caller to move.

    It lies among what is on its way into the cache. What a process that died left of the artifact is gone on with.

    Raises:
        WeighbridgeError: as `download_artifact`.
    """
    partial = Partial(connection.cache, artifact.blake3, artifact.size_bytes, keeps=False)
    return _fetch(connection, version, artifact, partial, Shown(bar), partial.beat)


def download_pack(  # noqa: PLR0917 - what is fetched of what, and who shows it
    connection: Connection,
    version: VersionInfo,
    artifact: ArtifactInfo,
    layout: PackLayout,
    bar: Bar,
    is_there: Callable[[], bool],
) -> None:
    """Bring ranges of an artifact into the cache as a pack, each storage verified by BLAKE3.

    Args:
        connection: the way to the service.
        version: whose artifact it is.
        artifact: what to bring ranges of.
        layout: which ones.
        bar: shows how far it is.
        is_there: whether the cache holds them by now: other processes may be about to fetch the same.

    Raises:
        WeighbridgeError: as `download_artifact`.
    """
    cache, digest = connection.cache, artifact.blake3
    lock = cache.lock_of(f"blake3:{layout.name(digest)}")
    goal = _Goal(lock, is_there, is_there, lambda: PartialPack(cache, digest, layout), layout.wanted_bytes)
    _bring(connection, version, artifact, goal, Shown(bar))


@dataclass(frozen=True, slots=True)
class _Goal:
    """What shall be in the cache.

    Attributes:
        lock: of whoever fetches it.
        looks_done: whether it seems to be there; asked often while somebody else fetches it.
        is_done: whether it is there.
        begin: begins it, or goes on with what was left of it.
        size_bytes: how many bytes are fetched for it.
    """

    lock: Path
    looks_done: Callable[[], bool]
    is_done: Callable[[], bool]
    begin: Callable[[], Partial | PartialPack]
    size_bytes: int


def _bring(connection: Connection, version: VersionInfo, artifact: ArtifactInfo, goal: _Goal, shown: Shown) -> None:
    with holding(goal.lock, goal.looks_done, shown.reach) as tell:
        if goal.is_done():
            shown.reach(goal.size_bytes)
            return
        partial = goal.begin()

        def beat() -> None:
            partial.beat()
            if tell is not None:
                tell(partial.size_bytes)

        _fetch(connection, version, artifact, partial, shown, beat)


def _fetch(  # noqa: PLR0917 - what is fetched of what, and who is told
    connection: Connection,
    version: VersionInfo,
    artifact: ArtifactInfo,
    partial: Partial | PartialPack,
    shown: Shown,
    beat: Callable[[], None],
) -> Path:
    try:
        with beating(beat):
            return Download(connection, version, artifact, partial, shown).run()
    except StorageFullError:
        partial.discard()
        raise
    finally:
        partial.leave()
