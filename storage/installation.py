"""Opening an installation: its database migrated, its bytes on a disk that is fit, both of one registry."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import make_url

from registry.errors import CatalogUnavailableError, ConfigurationError
from registry.schema import Limits
from storage.blobs import open_blob_store
from storage.blobs.base import BlobStore
from storage.metadata.catalog import Catalog
from storage.metadata.migrate import upgrade
from storage.scanner import Scanner
from storage.stores import DEFAULT_LIMITS, Stores

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "ncpfs"}
    | {"davfs", *(f"fuse.{name}" for name in ("sshfs", "s3fs", "glusterfs", "rclone", "goofys", "juicefs", "davfs2"))}
)

log = logging.getLogger("weighbridge.installation")


def open_stores(
    catalog_url: str,
    blobs_url: str | Path,
    *,
    access_key: str | None = None,
    secret_key: SecretStr | None = None,
    reserve_bytes: int = 64 << 20,
    pool_size: int = 10,
    limits: Limits = DEFAULT_LIMITS,
    allow_code: bool = True,
    grace: timedelta = timedelta(days=30),
    adopts_registry: bool = False,
    direct: bool = True,
) -> Stores:
    """Return the stores of an installation, ready for use.

    A SQLite database is made, or copied and migrated; PostgreSQL is for `migrate` to migrate. With
    `adopts_registry` an empty database becomes that of the registry that the bytes belong to.

    Raises:
        ConfigurationError: the schema is older, the disk is unfit, or database and bytes belong to two registries.
        CatalogUnavailableError, BlobStoreUnavailableError: one does not answer.
    """
    file = database_file(catalog_url)
    if file is not None:
        _make_folder(file.parent)  # before the blob store makes it, open to other users, on its way to its own
    blobs = open_blob_store(blobs_url, access_key=access_key, secret_key=secret_key, reserve_bytes=reserve_bytes)
    if file is not None:
        _prepare_file(file, catalog_url)
    catalog = Catalog.open(catalog_url, pool_size=pool_size)
    try:
        _check_schema(catalog)
        if adopts_registry:
            _adopt(catalog, blobs)
        _match(catalog, blobs)
    except BaseException:
        catalog.close()
        raise
    return Stores(catalog, blobs, Scanner(), limits, allow_code, grace, direct)


def migrate(catalog_url: str) -> bool:
    """Bring the database to this version's schema; return whether there was something to do.

    Raises:
        ConfigurationError: a newer version migrated it already.
        CatalogUnavailableError: it does not answer.
    """
    file = database_file(catalog_url)
    if file is not None:
        return _prepare_file(file, catalog_url)
    catalog = Catalog.open(catalog_url, pool_size=1)
    try:
        needed = catalog.needs_migration()
    finally:
        catalog.close()
    if needed:
        upgrade(catalog_url)
    return needed


def database_file(catalog_url: str) -> Path | None:
    """Return where a SQLite database lies, None for a database server."""
    if not catalog_url.startswith("sqlite"):
        return None
    name = make_url(catalog_url).database
    if not name or name == ":memory:":
        raise ConfigurationError("A SQLite database needs a file: write sqlite:///PATH.")
    return Path(name).absolute()


def check_local(folder: Path) -> None:
    """Return when a folder is on a disk of this machine.

    Raises:
        ConfigurationError: it is on a network file system, where SQLite's locks do not hold.
    """
    resolved = folder.resolve()
    best = max(
        ((point, kind) for point, kind in _mounts() if resolved.is_relative_to(point)),
        key=lambda mount: len(mount[0].parts),
        default=None,
    )
    if best is not None and best[1] in NETWORK_FILE_SYSTEMS:
        raise ConfigurationError(
            f"{folder} is on a network file system ({best[1]}), where SQLite's locks do not hold. Choose a folder on a "
            "local disk, or set WEIGHBRIDGE_DATABASE_URL to a PostgreSQL server."
        )


def _mounts() -> Iterator[tuple[Path, str]]:
    try:
        lines = Path("/proc/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        # The kernel writes blanks of a path as octal escapes.
        yield Path(point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")), kind


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CatalogUnavailableError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def _prepare_file(file: Path, catalog_url: str) -> bool:
    """Make or migrate a SQLite database, after a copy; return whether it was migrated."""
    _make_folder(file.parent)
    check_local(file.parent)
    catalog = Catalog.open(catalog_url, pool_size=1)
    try:
        if not catalog.needs_migration():
            return False
        revision = catalog.schema_revision()
    finally:
        catalog.close()
    if revision is not None:
        copy = file.with_name(f"{file.name}.before-{revision}")
        log.info("The database is copied to %s and migrated", copy)
        copy_database(file, copy)
    upgrade(catalog_url)
    return True


def copy_database(file: Path, copy: Path) -> None:
    """Copy a SQLite database that may be in use; the copy appears whole or not at all."""
    temporary = copy.with_name(f"{copy.name}.new")
    temporary.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(temporary)) as target:
        source.backup(target)
    os.replace(temporary, copy)  # noqa: PTH105 - Path.replace reads as if the text were changed


def _check_schema(catalog: Catalog) -> None:
    if catalog.needs_migration():
        raise ConfigurationError(
            "The database has another schema than this version of Weighbridge needs. Run `python -m api migrate` with "
            "the same settings, then start again."
        )


def _adopt(catalog: Catalog, blobs: BlobStore) -> None:
    blobs.check()
    theirs = blobs.registry_id()
    if theirs is None:
        raise ConfigurationError(
            "The blob store belongs to no registry: there are no records to rebuild from. Look at "
            "WEIGHBRIDGE_BLOBS_URL and WEIGHBRIDGE_DATA."
        )
    catalog.adopt_registry(theirs)


def _match(catalog: Catalog, blobs: BlobStore) -> None:
    """Bind an empty blob store to the database, or find that both belong together."""
    blobs.check()
    ours = catalog.registry_id()
    theirs = blobs.registry_id() or blobs.claim(ours)
    if theirs != ours:
        raise ConfigurationError(
            f"The blob store belongs to the registry {theirs}, the database is that of {ours}: one of "
            "WEIGHBRIDGE_DATABASE_URL, WEIGHBRIDGE_BLOBS_URL and WEIGHBRIDGE_DATA is another installation's."
        )
