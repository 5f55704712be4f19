import errno
import hashlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from registry.client.cache import Cache
from registry.client.partial import Partial
from registry.digest import blake3_digest
from registry.errors import ConfigurationError, DigestMismatchError, StorageFullError

DATA = b"weights" * 1000
DIGEST = blake3_digest(DATA)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def put(cache, data=DATA, digest=DIGEST):
    partial = Partial(cache, digest, len(data))
    partial.write(0, memoryview(data))
    partial.note(0, len(data))
    return partial.finish()


def temporary_files(cache):
    return list((cache.root / "tmp").iterdir())


def test_a_committed_file_is_read_only_and_lies_under_its_digest(cache):
    path = put(cache)

    digits = DIGEST.removeprefix("blake3:")
    assert path == cache.folder / "v1" / "objects" / "blake3" / digits[:2] / digits
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert path.read_bytes() == DATA
    assert temporary_files(cache) == []


def test_bytes_with_another_digest_never_enter(cache):
    with pytest.raises(DigestMismatchError):
        put(cache, DATA[:-1] + b"X")
    assert cache.find(DIGEST, len(DATA)) is None
    assert temporary_files(cache) == []


def test_a_file_of_another_size_counts_as_absent_and_goes(cache):
    path = put(cache)
    path.unlink()
    path.write_bytes(DATA[:-1])

    assert cache.find(DIGEST, len(DATA)) is None
    assert not path.exists()


def test_changed_bytes_of_the_same_size_are_found_by_verifying(cache):
    path = put(cache)
    path.chmod(0o644)
    path.write_bytes(bytes(len(DATA)))

    assert cache.find(DIGEST, len(DATA)) == path
    assert cache.find(DIGEST, len(DATA), verify=True) is None
    assert not path.exists()


def test_verify_reports_and_unlinks_damaged_files_only(cache):
    sound = put(cache)
    damaged = put(cache, b"abc", blake3_digest(b"abc"))
    damaged.chmod(0o644)
    damaged.write_bytes(b"abd")

    assert {entry.path: intact for entry, intact in cache.verify()} == {sound: True, damaged: False}
    assert sound.exists()
    assert not damaged.exists()


def test_pruning_takes_what_was_not_used_and_what_dead_processes_left(cache):
    old, used = put(cache), put(cache, b"abc", blake3_digest(b"abc"))
    long_ago = time.time() - 100 * 86400
    os.utime(old, (long_ago, long_ago))
    os.utime(used, (long_ago, long_ago))
    cache.find(blake3_digest(b"abc"), 3)
    left = cache.temporary_folder() / "left-behind"
    left.write_bytes(b"x")
    os.utime(left, (long_ago, long_ago))

    assert [entry.path for entry in cache.prune(unused_seconds=30 * 86400)] == [old]
    assert not old.exists()
    assert used.exists()
    assert temporary_files(cache) == []


def test_many_writers_of_the_same_bytes_do_not_disturb_each_other(cache):
    failures = []

    def write() -> None:
        try:
            put(cache)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert cache.find(DIGEST, len(DATA), verify=True) is not None
    assert temporary_files(cache) == []


def test_more_than_the_disk_has_free_is_refused_before_the_first_byte(cache):
    with pytest.raises(StorageFullError, match="weighbridge cache prune"):
        Partial(cache, DIGEST, 1 << 60)
    assert temporary_files(cache) == []


def test_a_cache_folder_that_cannot_be_made_is_a_named_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert Cache(tmp_path / "file" / "cache").find(DIGEST, 1) is None
    with pytest.raises(ConfigurationError, match="WEIGHBRIDGE_CACHE"):
        Partial(Cache(tmp_path / "file" / "cache"), DIGEST, 1)


def test_a_damaged_file_that_cannot_be_removed_is_a_named_error_and_never_handed_out(cache, monkeypatch):
    path = put(cache, DATA, DIGEST)
    path.chmod(0o600)
    path.write_bytes(DATA[:-1] + b"?")

    def refuse(self, **_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ConfigurationError, match="Read-only"):
        cache.find(DIGEST, len(DATA), verify=True)


def test_what_was_used_longest_ago_goes_first_until_the_rest_is_small_enough(cache):
    paths = [put(cache, data, blake3_digest(data)) for data in (b"oldest", b"older!", b"newest")]
    for age, path in zip((300, 200, 100), paths, strict=True):
        os.utime(path, (time.time() - age, time.time() - age))

    planned = cache.prune(max_bytes=12, dry_run=True)
    assert all(path.exists() for path in paths)
    gone = cache.prune(max_bytes=12)

    assert [entry.path for entry in planned] == [entry.path for entry in gone] == paths[:1]
    assert [path.exists() for path in paths] == [False, True, True]


def test_what_an_older_client_left_is_listed_verified_and_pruned(cache):
    digits = hashlib.sha256(DATA).hexdigest()
    left = cache.root / "objects" / "sha256" / digits[:2] / digits
    left.parent.mkdir(parents=True)
    left.write_bytes(DATA)

    assert [(entry.digest, sound) for entry, sound in cache.verify()] == [(f"sha256:{digits}", True)]
    assert cache.find(DIGEST, len(DATA)) is None
    assert [entry.path for entry in cache.prune(unused_seconds=0)] == [left]


def test_pruning_leaves_what_is_being_written(cache):
    partial = Partial(cache, DIGEST, len(DATA))
    partial.beat()

    cache.prune(unused_seconds=0, max_bytes=0)

    partial.write(0, memoryview(DATA))
    partial.note(0, len(DATA))
    assert partial.finish() == cache.find(DIGEST, len(DATA), verify=True)
