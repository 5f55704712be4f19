"""What every blob store promises, on every backend and server."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.digest import sha256_digest
from registry.errors import BlobNotFoundError, BlobStoreUnavailableError, DigestMismatchError
from storage.blobs.base import READ_PIECE_BYTES, new_location

MIB = 1 << 20
SEVERAL_PARTS = bytes(range(256)) * (6 * MIB // 256) + b"the end"
SIZES = {
    "empty": b"",
    "small": b"a few bytes",
    "one full part": SEVERAL_PARTS[: 5 * MIB],
    "three parts": SEVERAL_PARTS * 2,
}


def write(store, location, data, **options):
    with store.create(location, **options) as writer:
        for start in range(0, len(data), 700_001):
            writer.write(data[start : start + 700_001])
        return writer.commit()


def read(store, location, *arguments):
    return b"".join(store.stream(location, *arguments))


def is_missing(store, location):
    with pytest.raises(BlobNotFoundError):
        store.size_bytes(location)
    with pytest.raises(BlobNotFoundError):
        read(store, location)
    with pytest.raises(BlobNotFoundError):
        store.read_many(location, [(0, 1)])
    return location not in store.iter_locations()


@pytest.mark.parametrize("data", SIZES.values(), ids=SIZES)
def test_what_was_written_is_read(store, location, data):
    written = write(store, location, data, expected_sha256=sha256_digest(data))

    assert written.sha256 == sha256_digest(data)
    assert written.size_bytes == store.size_bytes(location) == len(data)
    assert read(store, location) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_buffer_may_be_used_again_after_it_was_written(store, location, kind):
    buffer = bytearray(b"first")
    with store.create(location) as writer:
        writer.write(kind(buffer))
        buffer[:] = b"other"
        writer.write(kind(buffer))
        writer.commit()

    assert read(store, location) == b"firstother"


def test_a_wide_memoryview_counts_by_bytes(store, location):
    with store.create(location) as writer:
        writer.write(memoryview(b"12345678" * 4).cast("Q"))
        assert writer.commit().size_bytes == 32

    assert read(store, location) == b"12345678" * 4


@pytest.mark.parametrize("data", [b"small", SEVERAL_PARTS], ids=["small", "two parts"])
def test_nothing_is_readable_before_the_commit(store, location, data):
    with store.create(location) as writer:
        writer.write(data)
        assert is_missing(store, location)


@pytest.mark.parametrize("data", [b"small", SEVERAL_PARTS], ids=["small", "two parts"])
def test_an_abort_leaves_nothing(backend, location, data):
    writer = backend.store.create(location)
    writer.write(data)
    writer.abort()
    writer.abort()

    assert is_missing(backend.store, location)
    assert backend.list_leftovers() == []
    with pytest.raises(ValueError, match="committed or aborted"):
        writer.commit()


def test_an_exception_in_the_block_leaves_nothing(backend, location):
    def write_half():
        with backend.store.create(location) as writer:
            writer.write(SEVERAL_PARTS)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        write_half()

    assert is_missing(backend.store, location)
    assert backend.list_leftovers() == []


@pytest.mark.parametrize("data", [b"small", SEVERAL_PARTS], ids=["small", "two parts"])
def test_a_wrong_expected_digest_stores_nothing(backend, location, data):
    with pytest.raises(DigestMismatchError, match="Nothing was stored") as raised:
        write(backend.store, location, data, expected_sha256=sha256_digest(b"something else"))

    assert raised.value.extra["actual"] == sha256_digest(data)
    assert is_missing(backend.store, location)
    assert backend.list_leftovers() == []


def test_an_abort_after_the_commit_keeps_the_bytes(store, location):
    writer = store.create(location)
    writer.write(b"kept")
    writer.commit()
    writer.abort()

    assert read(store, location) == b"kept"
    with pytest.raises(ValueError, match="committed or aborted"):
        writer.write(b"more")


def test_pieces_are_at_most_a_mebibyte(store, location):
    write(store, location, SEVERAL_PARTS)

    assert max(map(len, store.stream(location))) <= READ_PIECE_BYTES


def test_a_range_is_read_exactly(store, location):
    write(store, location, SEVERAL_PARTS)
    size = len(SEVERAL_PARTS)
    ranges = [(0, 10), (5, 0), (7, None), (MIB - 1, 2), (3, 4 * MIB), (size - 7, None), (size - 1, 1), (0, size)]
    expected = [SEVERAL_PARTS[offset : size if length is None else offset + length] for offset, length in ranges]

    assert [read(store, location, *each) for each in ranges] == expected


def test_the_range_behind_the_last_byte_is_empty(store, location):
    write(store, location, b"12345")

    assert read(store, location, 5) == read(store, location, 5, 0) == b""
    assert store.read_many(location, [(5, 0)]) == [b""]


@pytest.mark.parametrize(("offset", "length"), [(3, 3), (5, 1), (6, 0), (6, None), (-1, 2), (1, -1)])
def test_a_range_outside_raises(store, location, offset, length):
    write(store, location, b"12345")

    with pytest.raises(ValueError, match=r"range|outside"):
        read(store, location, offset, length)


def test_a_stream_that_is_dropped_early_leaves_the_store_usable(store, location):
    write(store, location, SEVERAL_PARTS)
    for _ in range(5):
        stream = store.stream(location)
        next(stream)
        stream.close()

    assert read(store, location, 0, 3) == SEVERAL_PARTS[:3]


def test_several_ranges_come_in_the_order_asked(store, location):
    write(store, location, SEVERAL_PARTS)
    ranges = [
        (6 * MIB - 100, 50),
        (0, 16),
        (100, 0),
        (8, 16),
        (0, 16),
        (3 * MIB, 2 * MIB + 1),
        (40, 1),
        (6 * MIB - 105, 20),
    ]

    assert store.read_many(location, ranges) == [SEVERAL_PARTS[offset : offset + size] for offset, size in ranges]


def test_no_ranges_give_nothing(store, location):
    write(store, location, b"12345")

    assert store.read_many(location, []) == []


@pytest.mark.parametrize("outside", [(3, 3), (5, 1), (6, 0), (2 * MIB, 1), (-1, 2), (1, -1)])
def test_one_range_outside_fails_the_whole_call(store, location, outside):
    write(store, location, b"12345")

    with pytest.raises(ValueError, match=r"range|outside"):
        store.read_many(location, [(0, 2), outside])


def test_what_was_never_written_is_missing(store, location):
    assert is_missing(store, location)


def test_deleting_twice_is_fine(store, location):
    write(store, location, b"gone soon")
    store.delete(location)
    store.delete(location)

    assert is_missing(store, location)


def test_clearing_removes_bytes_and_what_an_interrupted_write_left(backend, location):
    interrupted = backend.store.create(location)
    interrupted.write(SEVERAL_PARTS)
    assert len(backend.list_leftovers()) == 1
    bystander = new_location()
    write(backend.store, bystander, b"stays")

    backend.plant(location, b"committed, but its row was lost")
    backend.store.clear(location)
    backend.store.clear(location)

    assert is_missing(backend.store, location)
    assert backend.list_leftovers() == []
    assert read(backend.store, bystander) == b"stays"
    interrupted.abort()


def test_a_write_that_was_cleared_under_way_cannot_be_committed(backend, location):
    writer = backend.store.create(location)
    writer.write(SEVERAL_PARTS)
    backend.store.clear(location)

    with pytest.raises(BlobStoreUnavailableError):
        writer.commit()

    assert is_missing(backend.store, location)


def test_bytes_planted_behind_its_back_are_read_as_they_are(backend, location):
    backend.plant(location, b"planted")

    assert read(backend.store, location) == b"planted"
    assert backend.store.size_bytes(location) == 7
    assert list(backend.store.iter_locations()) == [location]


def test_every_location_is_iterated_and_nothing_else(store):
    locations = [new_location() for _ in range(5)]
    for location in locations:
        write(store, location, b"x")
    store.claim("registry-one")
    writer = store.create(new_location())
    writer.write(b"not committed")

    assert sorted(store.iter_locations()) == sorted(locations)
    writer.abort()


def test_concurrent_writes_to_distinct_locations_do_not_mix(store):
    contents = {new_location(): bytes([number]) * 400_000 for number in range(8)}
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda item: write(store, *item), contents.items()))

    assert [each.sha256 for each in written] == [sha256_digest(data) for data in contents.values()]
    assert all(read(store, location) == data for location, data in contents.items())


def test_a_claim_is_not_overwritten(store):
    assert store.registry_id() is None
    assert store.claim("registry-one") == "registry-one"
    assert store.claim("registry-two") == "registry-one"
    assert store.registry_id() == "registry-one"


def test_a_store_that_answers_passes_its_check(store):
    store.check()


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "/etc/passwd", "ab/cd/" + "0" * 32, "", "00/00/" + "0" * 32 + "/x"]
)
def test_what_is_no_location_is_refused(store, text):
    for use in (store.create, store.size_bytes, store.delete, store.clear, lambda text: list(store.stream(text))):
        with pytest.raises(ValueError, match="location"):
            use(text)


def test_memory_does_not_grow_with_the_object(backend_elsewhere, location):
    piece, pieces = bytes(MIB), 48
    tracemalloc.start()
    try:
        with backend_elsewhere.store.create(location) as writer:
            for _ in range(pieces):
                writer.write(piece)
            writer.commit()
        size = sum(map(len, backend_elsewhere.store.stream(location)))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size == pieces * MIB
    assert peak_bytes < 16 * MIB


def test_a_folder_says_that_it_cannot_presign(backend):
    presigns = backend.name != "local"
    assert backend.store.can_presign is presigns
