"""What lies in several objects reads as one, in few requests."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from registry.errors import BlobDamagedError
from storage import run_reading
from storage.assembled import AssembledBlobs
from storage.blobs.base import new_location
from storage.blobs.local import LocalBlobStore
from storage.metadata.records import Extent

OBJECTS = [bytes((7 * number + 3 * place) % 251 for place in range(5_000)) for number in range(3)]
PLACES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4_000), st.integers(1, 1_000)), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store with the objects, and their locations."""
    blobs = LocalBlobStore(tmp_path_factory.mktemp("blobs"))
    locations = [new_location() for _ in OBJECTS]
    for location, content in zip(locations, OBJECTS, strict=True):
        with blobs.create(location) as writer:
            writer.write(content)
            writer.commit()
    return blobs, locations


@given(places=PLACES, start=st.floats(0, 1), share=st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_any_range_of_any_extents_is_what_lies_there(stored, monkeypatch, places, start, share):
    monkeypatch.setattr(run_reading, "WINDOW_BYTES", 700)
    blobs, locations = stored
    whole = b"".join(OBJECTS[number][offset : offset + length] for number, offset, length in places)
    view = AssembledBlobs(blobs, {"a": [Extent(locations[number], *place) for number, *place in places]})
    offset = int(start * (len(whole) - 1))
    length = int(share * (len(whole) - offset))

    assert b"".join(view.stream("a")) == whole
    assert b"".join(view.stream("a", offset, length)) == whole[offset : offset + length]
    assert view.read_many("a", [(offset, length), (0, 1)]) == [whole[offset : offset + length], whole[:1]]


def test_each_object_is_asked_once_for_all_ranges(stored, monkeypatch):
    blobs, locations = stored
    asked = []
    read_many = blobs.read_many
    monkeypatch.setattr(blobs, "read_many", lambda *args: asked.append(args[0]) or read_many(*args))
    extents = [Extent(locations[each % 2], 10 * each, 5) for each in range(100)]
    list(AssembledBlobs(blobs, {"a": extents}).stream("a"))
    assert sorted(asked) == sorted(locations[:2])


def test_an_object_that_became_shorter_is_damaged(stored):
    blobs, locations = stored
    view = AssembledBlobs(blobs, {"a": [Extent(locations[0], 0, 10), Extent(locations[1], 4_999, 10)]})
    with pytest.raises(BlobDamagedError):
        list(view.stream("a"))
    with pytest.raises(BlobDamagedError):
        view.read_many("a", [(5, 10)])
