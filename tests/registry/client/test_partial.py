"""Files on their way into the cache: found again by whoever comes next, believed only when they are hashed."""

import os
import subprocess
import sys
import time

import pytest

from registry.client.cache import Cache
from registry.client.partial import ABANDONED_SECONDS, Partial
from registry.digest import blake3_digest
from registry.errors import DigestMismatchError

DATA = bytes(range(256)) * 4096
DIGEST = blake3_digest(DATA)
HALF = len(DATA) // 2


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def fill(partial, start, end, data=DATA):
    partial.write(start, memoryview(data)[start:end])
    partial.note(start, end - start)


def missing_when_opened(cache):
    partial = Partial(cache, DIGEST, len(DATA))
    missing = partial.missing()
    partial.discard()
    return missing


def leftovers(cache):
    return list(cache.temporary_folder().iterdir())


def test_pieces_in_any_order_make_the_file(cache):
    partial = Partial(cache, DIGEST, len(DATA))
    for start, end in ((HALF, len(DATA)), (1000, HALF), (0, 1000)):
        fill(partial, start, end)

    assert partial.missing() == []
    assert partial.finish().read_bytes() == DATA
    assert leftovers(cache) == []


def test_whoever_comes_next_goes_on_with_what_was_left(cache):
    first = Partial(cache, DIGEST, len(DATA))
    fill(first, 0, 5000)
    fill(first, HALF, HALF + 10)
    first.leave()

    second = Partial(cache, DIGEST, len(DATA))

    assert second.missing() == [(5000, HALF - 5000), (HALF + 10, len(DATA) - HALF - 10)]
    for start, length in second.missing():
        fill(second, start, start + length)
    assert second.finish().read_bytes() == DATA
    assert leftovers(cache) == []


def test_whoever_comes_while_somebody_is_at_work_begins_a_file_of_their_own(cache):
    first, second = Partial(cache, DIGEST, len(DATA)), Partial(cache, DIGEST, len(DATA))
    fill(first, 0, 5000)

    assert second.missing() == [(0, len(DATA))]
    for partial in (first, second):
        fill(partial, 0, len(DATA))
        assert partial.finish() == cache.path_of(DIGEST)
    assert leftovers(cache) == []


def test_what_a_dead_process_left_is_taken_over(cache):
    script = (
        "import os, sys; from pathlib import Path; from registry.client.cache import Cache\n"
        "from registry.client.partial import Partial\n"
        "partial = Partial(Cache(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]))\n"
        "partial.write(0, memoryview(bytes(range(256)))); partial.note(0, 256)\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, cache.folder, DIGEST, str(len(DATA))], check=False, timeout=60)

    assert missing_when_opened(cache) == [(256, len(DATA) - 256)]


def test_what_nobody_worked_at_for_long_is_taken_over_wherever_its_owner_is(cache):
    first = Partial(cache, DIGEST, len(DATA))
    fill(first, 0, 5000)
    long_ago = time.time() - ABANDONED_SECONDS - 1
    elsewhere = first.folder.with_name(first.folder.name.replace(first.folder.name.split("-")[-3], "0" * 12))
    first.folder.rename(elsewhere)

    assert missing_when_opened(cache) == [(0, len(DATA))]
    os.utime(elsewhere, (long_ago, long_ago))
    assert missing_when_opened(cache) == [(5000, len(DATA) - 5000)]
    first.discard()


@pytest.mark.parametrize("journal", [b"0 1048576\n", b"0 99999999999\n0 x\n7\n\xff\n", b"0 10", b""])
def test_a_wrong_journal_costs_a_second_download_and_nothing_else(cache, journal):
    first = Partial(cache, DIGEST, len(DATA))
    first.leave()
    (left,) = leftovers(cache)
    (left / "journal").write_bytes(journal)

    second = Partial(cache, DIGEST, len(DATA))
    while True:
        for start, length in second.missing():
            fill(second, start, start + length)
        path = second.finish()
        if path is not None:
            break

    assert path.read_bytes() == DATA
    assert leftovers(cache) == []


def test_other_bytes_never_enter_and_are_not_kept(cache):
    partial = Partial(cache, DIGEST, len(DATA))
    fill(partial, 0, len(DATA), bytes(len(DATA)))

    with pytest.raises(DigestMismatchError):
        partial.finish()
    assert cache.find(DIGEST, len(DATA)) is None
    assert leftovers(cache) == []
