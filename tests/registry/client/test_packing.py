"""State_dicts put together from a cached file and a pack, with torch as the judge of what they are."""

import io
import itertools
import tempfile
from pathlib import Path

import pytest
import torch
from equality import assert_same
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from random_modules import modules, saved

from registry.client.cache import Cache
from registry.client.described_files import DescribedFile
from registry.client.packing import ALIGNMENT_BYTES, GAP_BYTES, GAPS_SHARE, PartialPack, lay_out
from registry.client.storage_index import Held, StorageIndex, hold
from registry.digest import StreamDigests, blake3_digest
from registry.errors import DigestMismatchError
from registry.formats.head import read_head
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.manifest import build_manifest, iter_digested_ranges
from registry.pieces import Pieces
from registry.torch.load import load_state_dict

HEAD = "blake3:" + "f" * 64


def saved_bytes(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def describe(data):
    inspection = read(BytesSource(data)).inspection
    digests = StreamDigests(list(iter_digested_ranges(inspection)), len(data))
    digests.update(data)
    return DescribedFile.find(build_manifest(inspection, digests))


def keep(cache, data):
    """Put a whole file into the cache, with its index."""
    digest = blake3_digest(data)
    file = cache.temporary_folder() / "file"
    file.write_bytes(data)
    path = cache.adopt(file, digest)
    described = describe(data)
    StorageIndex(cache).add(digest, len(data), hold(path, described.storages if described else []))


def fetch(cache, data, held):
    """Fetch ranges of a file as a pack, as a download does; return its layout."""
    layout = lay_out(held, frozenset({HEAD}))
    pack = PartialPack(cache, blake3_digest(data), layout)
    for offset, length in pack.missing():
        pack.write(offset, memoryview(data)[offset : offset + length])
        pack.note(offset, length)
    pack.finish()
    return layout


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_what_is_put_together_is_what_torch_loads(data):
    module = data.draw(modules)
    base, tuned = saved_bytes(data.draw(saved(module))), saved_bytes(data.draw(saved(module)))
    truth = torch.load(io.BytesIO(tuned), weights_only=True)
    described = describe(tuned)
    if described is None:  # it has no bytes
        return
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        keep(cache, base)
        names = described.find_names(None)
        held = described.find_held(set().union(*names.values()))
        assert not described.has_opaque(None, names)
        head = Held(HEAD, *described.head)
        wanted = {each.digest: each for each in (head, *held.values())}
        there = StorageIndex(cache).find({digest: each.length for digest, each in wanted.items()})
        fetch(cache, tuned, [each for digest, each in wanted.items() if digest not in there])

        places = StorageIndex(cache).find({digest: each.length for digest, each in wanted.items()})
        start = places[HEAD].offset
        document = read_head(places[HEAD].file.read_bytes()[start : start + head.length], described.inspection)
        found = load_state_dict([Pieces("x", document, {key: places[each.digest] for key, each in held.items()})])

        assert list(names) == [str(name) for name in truth]
        assert_same(found, truth)


@given(
    st.lists(st.tuples(st.integers(0, 50_000), st.integers(1, 9_000)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 9_000_000), st.integers(1, 3_000_000)), max_size=20),
)
@example([(0, 4 << 20)], [((4 << 20) + place * 50_000, 1) for place in range(1, 50)])
def test_a_layout_covers_what_is_wanted_in_order_aligned_and_reads_few_bytes_in_vain(short, long):
    ranges = short + long
    layout = lay_out([Held(f"blake3:{number:064x}", *each) for number, each in enumerate(ranges)])

    runs = list(zip(layout.runs, layout.places, strict=True))
    assert all(offset % ALIGNMENT_BYTES == place % ALIGNMENT_BYTES for (offset, _), place in runs)
    for (before, first), (after, second) in itertools.pairwise(runs):
        assert after[0] - sum(before) > GAP_BYTES
        assert second > first + before[1]
    for offset, length in ranges:
        assert any(start <= offset and offset + length <= start + size for start, size in layout.runs)
        assert layout.find_in_artifact(layout.find(offset)) == offset
        assert layout.find(offset + length - 1) == layout.find(offset) + length - 1
    wanted = sum(length for _, length in ranges)
    assert layout.wanted_bytes <= wanted + wanted // GAPS_SHARE + GAP_BYTES * len(ranges)


def test_storages_with_little_between_them_come_in_one_run():
    weights = [Held(f"blake3:{number:064x}", number * 1_000_000, 970_000) for number in range(10)]
    assert lay_out(weights).runs == ((0, 9_970_000),)
    apart = [weights[0], weights[1]._replace(offset=970_000 + 970_000 // GAPS_SHARE + 1)]
    assert len(lay_out(apart).runs) == 2


def test_whoever_comes_next_goes_on_with_a_pack(tmp_path):
    cache, data = Cache(tmp_path), bytes(range(256)) * 4096
    held = [Held(blake3_digest(data[at : at + 5000]), at, 5000) for at in (100, 300_000, 900_001)]
    first = PartialPack(cache, "blake3:x", lay_out(held))
    assert first.missing() == [(each.offset, each.length) for each in held]
    for start, end in ((100, 5100), (300_000, 301_000)):
        first.write(start, memoryview(data)[start:end])
        first.note(start, end - start)
    first.leave()

    second = PartialPack(cache, "blake3:x", lay_out(held))

    assert second.missing() == [(301_000, 4000), (900_001, 5000)]
    for start, length in second.missing():
        second.write(start, memoryview(data)[start : start + length])
        second.note(start, length)
    path = second.finish()
    places = StorageIndex(cache).find({each.digest: each.length for each in held})
    assert {place.file for place in places.values()} == {path}
    assert all(blake3_digest(path.read_bytes()[p.offset : p.offset + 5000]) == digest for digest, p in places.items())


def test_a_pack_with_another_storage_in_it_never_enters(tmp_path):
    cache, data = Cache(tmp_path), bytes(100_000)
    held = [Held(blake3_digest(b"x" * 5000), 100, 5000)]

    with pytest.raises(DigestMismatchError):
        fetch(cache, data, held)

    assert list(cache.iter_entries()) == []
    assert list(cache.temporary_folder().iterdir()) == []


def test_an_index_says_what_the_bytes_are_whatever_somebody_says_of_them(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(1000) + b"x" * 1000)

    assert hold(file, [(0, 1000), (500, 1000)]) == [
        Held(blake3_digest(bytes(1000)), 0, 1000),
        Held(blake3_digest(bytes(500) + b"x" * 500), 500, 1000),
    ]


def test_the_file_that_was_used_last_is_looked_at_first_and_one_that_is_gone_or_cut_not_at_all(tmp_path):
    cache, state_dict = Cache(tmp_path), {"weight": torch.ones(1000)}
    one, other = saved_bytes(state_dict), saved_bytes(state_dict | {"bias": torch.zeros(10)})
    digest, wanted = blake3_digest(state_dict["weight"].numpy().tobytes()), 4000
    index = StorageIndex(cache)
    for data in (one, other):
        keep(cache, data)
    paths = {data: cache.path_of(blake3_digest(data)) for data in (one, other)}

    assert index.find({digest: wanted})[digest].file in paths.values()
    paths[one].unlink()
    assert index.find({digest: wanted})[digest].file == paths[other]
    assert index.find({digest: wanted + 1}) == {}
    paths[other].chmod(0o644)
    paths[other].write_bytes(other[:-1])
    assert index.find({digest: wanted}) == {}
    assert not paths[other].exists()


def test_files_without_an_index_are_read_once_and_as_much_as_is_asked_for(tmp_path):
    cache, data = Cache(tmp_path), saved_bytes({"weight": torch.ones(1000)})
    digest = blake3_digest(data)
    (cache.temporary_folder() / "file").write_bytes(data)
    cache.adopt(cache.temporary_folder() / "file", digest)
    (cache.temporary_folder() / "other").write_bytes(b"no weights")
    cache.adopt(cache.temporary_folder() / "other", blake3_digest(b"no weights"))
    index = StorageIndex(cache)

    assert not index.read_more(5)
    assert index.read_more(100_000)
    assert not index.read_more(100_000)
    assert len(index.find({blake3_digest(torch.ones(1000).numpy().tobytes()): 4000})) == 1
