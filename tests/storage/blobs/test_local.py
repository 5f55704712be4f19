"""What only a folder can do wrong: permissions, a full disk, a disk that went away, links, leftovers."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from registry.errors import BlobNotFoundError, BlobStoreUnavailableError, StorageFullError
from storage.blobs.base import new_location
from storage.blobs.local import LocalBlobStore

WRITE_UNTIL_THE_FILE_IS_TOO_LARGE = """
import resource, sys
from pathlib import Path
from registry.errors import StorageFullError
from storage.blobs.base import new_location
from storage.blobs.local import LocalBlobStore

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
store = LocalBlobStore(Path(sys.argv[1]), 0)
try:
    with store.create(new_location()) as writer:
        for _ in range(3):
            writer.write(bytes(700_000))
        writer.commit()
except StorageFullError as error:
    print(error.detail)
"""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "deep" / "blobs"


@pytest.fixture
def store(root):
    return LocalBlobStore(root)


def write(store, data=b"data"):
    location = new_location()
    with store.create(location) as writer:
        writer.write(data)
        writer.commit()
    return location


def list_files(root):
    return [path for path in root.rglob("*") if path.is_file()]


def test_only_the_owner_may_read(root, store):
    write(store)
    store.claim("registry-one")

    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_the_bytes_are_the_file(root, store):
    location = write(store, b"as it is")

    assert (root / "objects" / location).read_bytes() == b"as it is"


def test_a_write_into_the_reserve_is_refused_and_leaves_nothing(root):
    store = LocalBlobStore(root, reserve_bytes=1 << 62)

    with pytest.raises(StorageFullError, match="nothing was kept"):
        write(store)
    assert list_files(root) == []


def test_deleting_and_reading_work_inside_the_reserve(root, store):
    location = write(store)
    full = LocalBlobStore(root, reserve_bytes=1 << 62)

    assert full.read_many(location, [(0, 4)]) == [b"data"]
    full.delete(location)
    assert list_files(root) == []


def test_a_write_that_the_system_refuses_for_room_leaves_nothing(root):
    answer = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_THE_FILE_IS_TOO_LARGE, root],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "No room left" in answer.stdout
    assert list_files(root) == []


def test_a_location_is_written_once(store):
    location = write(store, b"first")

    writer = store.create(location)
    writer.write(b"second")
    with pytest.raises(BlobStoreUnavailableError, match="exists"):
        writer.commit()
    assert b"".join(store.stream(location)) == b"first"


def test_two_writers_do_not_share_a_location(store):
    location = new_location()

    with store.create(location), pytest.raises(BlobStoreUnavailableError, match="exists"):
        store.create(location)


def test_a_folder_that_went_away_is_named_and_not_made_again(root, store):
    location = write(store)
    shutil.rmtree(root)

    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        store.check()
    with pytest.raises(BlobStoreUnavailableError, match="not there"):
        store.create(new_location())
    with pytest.raises(BlobNotFoundError) as caught:
        store.size_bytes(location)
    assert str(root) not in caught.value.detail
    assert not root.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "a-file").write_bytes(b"")

    with pytest.raises(BlobStoreUnavailableError, match="a-file"):
        LocalBlobStore(tmp_path / "a-file" / "blobs")


def test_a_link_at_a_location_is_not_followed(root, store, tmp_path):
    (tmp_path / "secret").write_bytes(b"not yours")
    location = write(store)
    (root / "objects" / location).unlink()
    (root / "objects" / location).symlink_to(tmp_path / "secret")

    with pytest.raises(BlobStoreUnavailableError):
        b"".join(store.stream(location))


def test_a_file_cut_behind_its_back_raises_in_the_middle(root, store):
    location = write(store, bytes(3 << 20))
    stream = store.stream(location)
    next(stream)
    os.truncate(root / "objects" / location, 1 << 20)

    with pytest.raises(BlobStoreUnavailableError, match="shorter"):
        b"".join(stream)


def test_foreign_files_are_no_locations(root, store):
    location = write(store)
    for name in ("objects/ab/cd/notes.txt", "objects/lost+found/x/y", "objects/ab/README", "objects/.hidden"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"foreign")

    assert list(store.iter_locations()) == [location]


def test_no_descriptor_is_left_open(store):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    location = write(store, bytes(3 << 20))
    store.create(new_location()).abort()
    next(store.stream(location))
    with pytest.raises(ValueError, match="outside"):
        store.read_many(location, [(0, 4 << 20)])

    assert len(list(descriptors.iterdir())) == before
