import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry.errors import ConfigurationError
from storage import installation
from storage.installation import check_local, migrate, open_stores


def test_an_embedded_installation_makes_itself(tmp_path):
    folder = tmp_path / "new" / "data"
    stores = open_stores(f"sqlite:///{folder / 'catalog.sqlite'}", folder / "blobs")
    try:
        assert stores.blobs.registry_id() == stores.catalog.registry_id()
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        stores.close()


def test_an_older_database_is_copied_before_it_is_migrated(tmp_path):
    file = tmp_path / "catalog.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('unheard-of')")
    with pytest.raises(ConfigurationError, match="newer"):
        migrate(f"sqlite:///{file}")
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite.before-unheard-of")) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [("unheard-of",)]


def test_a_database_server_is_left_for_migrate_to_migrate(postgres_database, tmp_path):
    with pytest.raises(ConfigurationError, match="python -m api migrate"):
        open_stores(postgres_database, tmp_path / "blobs")
    assert migrate(postgres_database)
    assert not migrate(postgres_database)
    open_stores(postgres_database, tmp_path / "blobs").close()


def test_a_blob_store_of_another_registry_is_refused(open_installation, tmp_path):
    open_installation("one")
    open_installation("other")
    with pytest.raises(ConfigurationError, match="another installation's"):
        open_stores(f"sqlite:///{tmp_path / 'one' / 'catalog.sqlite'}", tmp_path / "other" / "blobs")


def test_a_data_folder_on_a_network_file_system_is_refused(monkeypatch):
    # The kernel's table of mounts is the one thing here that a test cannot bring about.
    mounts = [(Path("/"), "ext4"), (Path("/mnt/team"), "nfs4"), (Path("/mnt/team/disk"), "xfs")]
    monkeypatch.setattr(installation, "_mounts", lambda: iter(mounts))
    with pytest.raises(ConfigurationError, match="nfs4"):
        check_local(Path("/mnt/team/models"))
    check_local(Path("/mnt/team/disk/models"))
    check_local(Path("/mnt/teams"))


def test_the_disk_of_this_machine_is_local(tmp_path):
    check_local(tmp_path)


def test_a_database_in_memory_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="needs a file"):
        open_stores("sqlite://", tmp_path / "blobs")
