"""Objects that are gathered from parts, on every backend and server."""

import threading
import time

import pytest

from registry.errors import IncompleteUploadError, SizeMismatchError, UploadEndedError
from storage.blobs.base import new_location
from storage.blobs.local import LocalBlobStore

PART = 5 << 20
DATA = bytes(range(256)) * (2 * PART // 256) + b"the end"
PLACES = {1: (0, PART), 2: (PART, PART), 3: (2 * PART, len(DATA) - 2 * PART)}


def send(store, location, gathered, number, data=DATA, body=None):
    offset, length = PLACES[number]
    body = body or data[offset : offset + length]
    with store.open_part(location, gathered, number, offset, length) as writer:
        for start in range(0, len(body), 1_000_003):
            writer.write([body[start : start + 500_000], body[start + 500_000 : start + 1_000_003]])
        writer.keep()


def numbers(store, location, gathered):
    return [part.number for part in store.list_parts(location, gathered)]


def test_parts_in_any_order_and_some_of_them_again_become_the_object(store, location):
    gathered = store.begin_multipart(location, len(DATA))
    send(store, location, gathered, 3)
    send(store, location, gathered, 1, bytes(len(DATA)))
    assert numbers(store, location, gathered) == [1, 3]
    send(store, location, gathered, 2)
    send(store, location, gathered, 1)

    parts = store.list_parts(location, gathered)
    store.complete_multipart(location, gathered, parts)
    store.complete_multipart(location, gathered, parts)

    assert b"".join(store.stream(location)) == DATA
    assert store.size_bytes(location) == len(DATA)


def test_a_part_that_was_not_kept_is_not_there(store, location):
    gathered = store.begin_multipart(location, len(DATA))
    with store.open_part(location, gathered, 1, *PLACES[1]) as writer:
        writer.write([DATA[:1000]])
    assert numbers(store, location, gathered) == []
    store.abort_multipart(location, gathered)


@pytest.mark.parametrize("size", [PART - 1, PART + 1])
def test_a_part_of_another_size_is_refused(store, location, size):
    gathered = store.begin_multipart(location, len(DATA))
    with pytest.raises(SizeMismatchError):
        send(store, location, gathered, 1, body=bytes(size))
    assert numbers(store, location, gathered) == []
    store.abort_multipart(location, gathered)


def test_what_is_complete_or_given_up_takes_no_part_any_more(backend_elsewhere):
    store = backend_elsewhere.store  # moto breaks down when it is asked
    for end in ("complete", "abort"):
        location = new_location()
        gathered = store.begin_multipart(location, len(DATA))
        for number in PLACES:
            send(store, location, gathered, number)
        if end == "complete":
            store.complete_multipart(location, gathered, store.list_parts(location, gathered))
        else:
            store.abort_multipart(location, gathered)
        with pytest.raises(UploadEndedError):
            send(store, location, gathered, 1)
        with pytest.raises(UploadEndedError):
            store.list_parts(location, gathered)
        store.abort_multipart(location, gathered)


def test_an_object_of_which_a_part_is_missing_is_not_completed(store, location):
    gathered = store.begin_multipart(location, len(DATA))
    send(store, location, gathered, 1)
    (first,) = store.list_parts(location, gathered)
    with pytest.raises(IncompleteUploadError):
        store.complete_multipart(location, gathered, [first, type(first)(2, '"' + "0" * 32 + '"', PART)])
    store.abort_multipart(location, gathered)


def test_clearing_a_location_drops_what_was_gathered(store, location):
    gathered = store.begin_multipart(location, len(DATA))
    send(store, location, gathered, 1)
    store.clear(location)
    assert location not in store.iter_locations()


@pytest.fixture
def folder(tmp_path):
    return LocalBlobStore(tmp_path / "blobs", reserve_bytes=0)


def test_a_part_that_is_begun_again_counts_as_missing_until_it_is_kept(folder, location):
    gathered = folder.begin_multipart(location, len(DATA))
    send(folder, location, gathered, 1)
    assert not folder.is_rewritten(location, gathered)
    with folder.open_part(location, gathered, 1, *PLACES[1]) as writer:
        writer.write([b"x" * 10])
        assert numbers(folder, location, gathered) == []
    assert folder.is_rewritten(location, gathered)


def test_completing_waits_for_whoever_still_writes_a_part(folder, location):
    gathered = folder.begin_multipart(location, len(DATA))
    for number in PLACES:
        send(folder, location, gathered, number)
    parts = folder.list_parts(location, gathered)
    late = folder.open_part(location, gathered, 2, *PLACES[2])
    completing = threading.Thread(target=folder.complete_multipart, args=(location, gathered, parts))
    folder.list_parts = lambda *_: parts  # it was complete when completing began
    completing.start()
    time.sleep(0.3)
    assert completing.is_alive()
    assert location not in folder.iter_locations()
    late.close()
    completing.join(10)
    assert location in folder.iter_locations()


def test_bytes_that_are_there_can_be_read_before_the_object_is_complete(folder, location):
    gathered = folder.begin_multipart(location, len(DATA))
    send(folder, location, gathered, 2)
    assert b"".join(folder.iter_gathered(location, *PLACES[2])) == DATA[PART : 2 * PART]
