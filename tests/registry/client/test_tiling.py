"""What the client claims of its files, and which of their bytes make a part."""

import os
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
from blake3 import blake3
from deltas import claim, net, saved
from hypothesis import given

from registry.client import range_digests, tiling
from registry.client.cache import blake3_file
from registry.client.outgoing import ranges_of_part
from registry.client.tiling import claim_tiles, with_digest
from registry.client.transfer import OutgoingFile, announce
from registry.digest import blake3_digest, sha256_digest
from registry.errors import InvalidRequestError, SizeMismatchError
from registry.schema import Limits, ServiceInfo, VersionCreate
from registry.uploads import UploadCreate


def service(*capabilities, max_metadata_bytes=1 << 20):
    limits = Limits(max_artifact_bytes=1 << 40, max_artifacts=100, max_metadata_bytes=max_metadata_bytes, max_page=100)
    return ServiceInfo(version="1", registry_id="r", capabilities=list(capabilities), limits=limits)


@pytest.fixture
def files(tmp_path):
    """A state_dict, a file that is no weights, and one too small to be looked up."""
    contents = {"model.pt": saved(net(3)), "words.txt": b"word " * 1_000, "small.json": b"{}"}
    found = []
    for path, content in contents.items():
        (tmp_path / path).write_bytes(content)
        found.append(OutgoingFile(path, tmp_path / path, len(content), blake3_file(tmp_path / path)))
    return contents, found


@pytest.mark.parametrize("read_bytes", [1_000, 50_000, 4 << 20])
def test_files_are_claimed_as_the_service_cuts_them(files, monkeypatch, read_bytes):
    monkeypatch.setattr(range_digests, "READ_BYTES", read_bytes)
    contents, outgoing = files
    claimed = claim_tiles(service("delta-uploads"), VersionCreate(), outgoing)
    assert [list(tile) for tile in claimed["model.pt"].tiles] == claim(contents["model.pt"])
    assert claimed["words.txt"].tiles == ((5_000, blake3(contents["words.txt"]).hexdigest()),)
    assert "small.json" not in claimed


@pytest.fixture
def read(monkeypatch):
    """How many bytes each look at a file read to digest it."""
    monkeypatch.setattr(tiling, "TILED_BYTES", 1)
    monkeypatch.setattr(range_digests, "READ_BYTES", 10_000)
    monkeypatch.setattr(range_digests, "BATCH_BYTES", 100_000)
    counts, iter_pieces, digest_batch = [], tiling.iter_pieces, range_digests._digest_batch

    def count_pieces(*arguments):
        for piece in iter_pieces(*arguments):
            counts.append(len(piece))
            yield piece

    def count_batch(path, ranges, share):
        counts.extend(length for _, length in ranges)
        return digest_batch(path, ranges, share)

    monkeypatch.setattr(tiling, "iter_pieces", count_pieces)
    monkeypatch.setattr(range_digests, "_digest_batch", count_batch)
    return counts


@pytest.mark.parametrize("save", [torch.save, safetensors.torch.save_file], ids=["pt", "safetensors"])
@pytest.mark.parametrize("digests", [["delta-uploads"], ["delta-uploads", "claimed-tiles"]], ids=["both", "tiles"])
def test_a_large_file_is_read_once_for_its_tiles_and_where_it_needs_one_its_digest(tmp_path, read, save, digests):
    file = tmp_path / "model"
    save(net(3), file)
    size, needs_digest = file.stat().st_size, len(digests) == 1

    claimed = claim_tiles(service(*digests), VersionCreate(), [OutgoingFile("model", file, size)])["model"]

    assert sum(read) == size
    assert claimed.announcement.blake3 == claimed.blake3 == (blake3_file(file) if needs_digest else None)
    assert [list(tile) for tile in claimed.tiles] == claim(file.read_bytes())
    named = with_digest(claimed)
    assert named.announcement.blake3 == blake3_file(file)
    assert claim_tiles(service(*digests), VersionCreate(), [named])["model"] == named
    assert sum(read) == size  # no tile is digested twice


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 300), max_size=9), st.integers(1, 90))
def test_ranges_have_their_digests_whoever_reads_them(data, cuts, at_a_time):
    ends = sorted({*(cut for cut in cuts if cut < len(data)), len(data)})
    ranges = [(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(range_digests, "BATCH_BYTES", at_a_time)
        patch.setattr(range_digests, "READ_BYTES", at_a_time)
        (file := Path(folder) / "file").write_bytes(data)
        found = range_digests.digest_ranges(file, ranges)
    assert found == [blake3_digest(data[offset : offset + length]) for offset, length in ranges]


@pytest.mark.parametrize("digests", [["delta-uploads"], ["delta-uploads", "claimed-tiles"]], ids=["both", "tiles"])
def test_a_file_that_becomes_shorter_while_it_is_read_is_not_pushed(tmp_path, monkeypatch, digests):
    file = tmp_path / "model.pt"
    file.write_bytes(saved(net(3)))
    outgoing = OutgoingFile("model.pt", file, file.stat().st_size)
    monkeypatch.setattr(tiling, "_cut", lambda path, size, _: os.truncate(path, 100) or [(0, 50), (50, size - 50)])
    with pytest.raises(SizeMismatchError, match="shorter"):
        claim_tiles(service(*digests), VersionCreate(), [outgoing])


@pytest.mark.skipif(sys.platform != "linux", reason="root reads every file but this one, which only Linux has")
@pytest.mark.parametrize("size_bytes", [1, 10 << 20])
def test_a_file_that_cannot_be_read_is_a_named_error(size_bytes):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        with_digest(OutgoingFile("mem", Path("/proc/self/mem"), size_bytes))


def test_a_file_that_is_gone_is_named(tmp_path):
    gone = OutgoingFile("model.pt", tmp_path / "gone.pt", 10 << 20)
    with pytest.raises(InvalidRequestError, match=r"gone\.pt.* cannot be read"):
        with_digest(gone)
    with pytest.raises(InvalidRequestError, match=r"gone\.pt.* cannot be read"):
        claim_tiles(service("delta-uploads", "claimed-tiles"), VersionCreate(), [gone])


def test_of_a_file_known_by_its_sha256_the_blake3_that_tiles_need_is_announced_too(tmp_path):
    data = saved(net(3))
    (tmp_path / "model.pt").write_bytes(data)
    outgoing = OutgoingFile("model.pt", tmp_path / "model.pt", len(data), sha256_digest(data))
    announced = claim_tiles(service("delta-uploads"), VersionCreate(), [outgoing])["model.pt"].announcement
    assert (announced.sha256, announced.blake3) == (sha256_digest(data), blake3_digest(data))


def test_a_service_of_before_is_told_nothing(files):
    assert claim_tiles(service("planned-uploads"), VersionCreate(), files[1]) == {}


@pytest.mark.parametrize("most", [0, 1_000, 2_000, 3_000])
def test_claims_fit_into_a_request(files, most):
    claimed = claim_tiles(service("delta-uploads", max_metadata_bytes=most), VersionCreate(), files[1])
    assert sum(len(each.tiles) for each in claimed.values()) * 90 <= most
    for path, each in claimed.items():
        assert sum(length for length, _ in each.tiles) == len(files[0][path])


@pytest.mark.parametrize("most", [6_000, 20_000, 60_000])
def test_a_request_with_many_files_and_their_claims_is_within_the_limit(files, tmp_path, most):
    small = [OutgoingFile(f"{'folder/' * 9}words{number}.txt", tmp_path / "small.json", 2) for number in range(20)]
    large = [replace(files[1][0], path=f"{'folder/' * 9}model{number}.pt", digest="") for number in range(10)]
    metadata = VersionCreate(description="about it " * 20)

    tiled = claim_tiles(service("delta-uploads", "claimed-tiles", max_metadata_bytes=most), metadata, [*small, *large])

    outgoing = [tiled.get(each.path) or with_digest(each) for each in [*small, *large]]
    tiles = {path: list(each.tiles) for path, each in tiled.items()}
    create = UploadCreate(metadata=announce(metadata, outgoing), tiles=tiles)
    assert len(create.model_dump_json(exclude_unset=True)) <= most
    assert (len(tiled) == 10) == (most > 6_000)


@given(st.lists(st.integers(1, 50), max_size=8), st.integers(1, 60))
def test_the_parts_of_what_is_sent_are_its_ranges_one_after_another(lengths, part_bytes):
    file = random.Random(1).randbytes(1_000)
    send = [(100 * index + 7, length) for index, length in enumerate(lengths)]
    pack = b"".join(file[offset : offset + length] for offset, length in send)
    parts = [
        b"".join(file[at : at + size] for at, size in ranges_of_part(send, start, min(part_bytes, len(pack) - start)))
        for start in range(0, len(pack), part_bytes)
    ]
    assert b"".join(parts) == pack
    assert all(len(part) == part_bytes for part in parts[:-1])
