import hashlib
import os
import resource
import stat
import subprocess
import sys
import threading
import time

import pytest

from registry.client.cache import Cache
from registry.errors import ConfigurationError, DigestMismatchError, SizeMismatchError, StorageFullError

DATA = b"weights" * 1000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def put(cache, data=DATA, digest=DIGEST):
    with cache.writer(len(data)) as writer:
        writer.write(data)
        return writer.commit(digest, len(data))


def temporary_files(cache):
    return list((cache.root / "tmp").iterdir())


def test_a_committed_file_is_read_only_and_lies_under_its_digest(cache):
    path = put(cache)

    digits = DIGEST.removeprefix("sha256:")
    assert path == cache.folder / "v1" / "objects" / "sha256" / digits[:2] / digits
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert path.read_bytes() == DATA
    assert temporary_files(cache) == []


def test_bytes_with_another_digest_never_enter(cache):
    with pytest.raises(DigestMismatchError):
        put(cache, DATA[:-1] + b"X")
    assert cache.find(DIGEST, len(DATA)) is None
    assert temporary_files(cache) == []


def test_too_few_bytes_never_enter(cache):
    with cache.writer() as writer:
        writer.write(DATA[:10])
        with pytest.raises(SizeMismatchError):
            writer.commit(DIGEST, len(DATA))
    assert cache.find(DIGEST, len(DATA)) is None


def test_a_restarted_write_forgets_what_came_before(cache):
    with cache.writer() as writer:
        writer.write(b"half of something else")
        writer.restart()
        writer.write(DATA)
        assert writer.commit(DIGEST, len(DATA)).read_bytes() == DATA


def test_an_interrupted_write_leaves_nothing(cache):
    def write_and_stop() -> None:
        with cache.writer() as writer:
            writer.write(DATA)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
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
    damaged = put(cache, b"abc", f"sha256:{hashlib.sha256(b'abc').hexdigest()}")
    damaged.chmod(0o644)
    damaged.write_bytes(b"abd")

    assert {entry.path: intact for entry, intact in cache.verify()} == {sound: True, damaged: False}
    assert sound.exists()
    assert not damaged.exists()


def test_pruning_takes_what_was_not_used_and_what_dead_processes_left(cache):
    old, used = put(cache), put(cache, b"abc", f"sha256:{hashlib.sha256(b'abc').hexdigest()}")
    long_ago = time.time() - 100 * 86400
    os.utime(old, (long_ago, long_ago))
    os.utime(used, (long_ago, long_ago))
    cache.find(f"sha256:{hashlib.sha256(b'abc').hexdigest()}", 3)
    left = cache.temporary_folder() / "left-behind"
    left.write_bytes(b"x")
    os.utime(left, (long_ago, long_ago))

    assert [entry.path for entry in cache.prune(30 * 86400)] == [old]
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
    with pytest.raises(StorageFullError, match="weighbridge cache prune"), cache.writer(1 << 60):
        raise AssertionError("nothing may be written")


def test_a_disk_that_fills_up_is_a_named_error_and_nothing_stays(cache):
    script = (
        "import sys; from pathlib import Path; from registry.client.cache import Cache\n"
        "from registry.errors import StorageFullError\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "try:\n"
        "    with cache.writer() as writer:\n"
        "        while True: writer.write(bytes(1 << 16))\n"
        "except StorageFullError as error: print(error.detail)\n"
    )
    # A limit on the size of files stands for a full disk: the kernel cuts the write and then refuses.
    done = subprocess.run(
        [sys.executable, "-c", script, cache.folder],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        capture_output=True,
        text=True,
        check=True,
    )

    assert "No room in the cache folder" in done.stdout
    assert temporary_files(cache) == []


def test_a_cache_folder_that_cannot_be_made_is_a_named_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigurationError, match="WEIGHBRIDGE_CACHE"), Cache(tmp_path / "file" / "cache").writer():
        raise AssertionError("nothing may be written")
