import hashlib

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from registry.digest import Sha256Prefix, StreamDigests, blake3_digest, is_digest, sha256_digest

DATA = bytes(range(256)) * 8


def spans(draw):
    offset = draw(st.integers(0, len(DATA)))
    return offset, draw(st.integers(0, len(DATA) - offset))


@given(st.data())
def test_one_pass_digests_the_stream_and_every_range_however_it_is_cut(data):
    ranges = data.draw(st.lists(st.composite(spans)(), max_size=8))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(DATA)), max_size=6)))
    digests = StreamDigests(ranges, len(DATA), max_overlap=100)
    for start, end in zip([0, *cuts], [*cuts, len(DATA)], strict=True):
        digests.update(DATA[start:end])
    assert digests.sha256 == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert digests.blake3 == "blake3:" + blake3(DATA).hexdigest()
    assert digests.size_bytes == len(DATA)
    for offset, length in ranges:
        assert digests.find_range(offset, length) == blake3_digest(DATA[offset : offset + length])


def test_a_million_views_of_everything_do_not_cost_a_million_passes():
    whole = [(0, len(DATA)), (0, len(DATA) - 1), (1, len(DATA) - 1), (2, len(DATA) - 2)]
    digests = StreamDigests([*whole, (5, 10)], len(DATA), max_overlap=2)
    digests.update(DATA)
    assert digests.find_range(5, 10) == blake3_digest(DATA[5:15])
    assert [digests.find_range(*span) for span in whole].count(None) == 3


def test_a_range_that_the_stream_did_not_reach_has_no_digest():
    digests = StreamDigests([(0, 10)], 10)
    digests.update(b"12345")
    assert digests.find_range(0, 10) is None


def test_a_pass_without_sha256_says_so():
    with pytest.raises(ValueError, match="no SHA-256"):
        _ = StreamDigests([], 0, sha256=False).sha256


@pytest.mark.parametrize("text", ["sha256:" + "0" * 63, "md5:" + "0" * 32, "sha256:" + "G" * 64, "0" * 64, ""])
def test_what_is_no_digest_is_seen(text):
    assert not is_digest(text)


def test_what_is_needed_is_digested_however_much_the_others_overlap():
    others, needed = [(0, length) for length in range(1, len(DATA) + 1)], [(0, 5), (5, len(DATA) - 5)]
    digests = StreamDigests(others, len(DATA), max_overlap=1, needed=needed)
    digests.update(DATA)
    assert [digests.find_range(*span) for span in needed] == [blake3_digest(DATA[:5]), blake3_digest(DATA[5:])]
    assert digests.find_range(0, len(DATA)) is None


def test_digests_carry_their_algorithm():
    assert is_digest(sha256_digest(b"x"))
    assert is_digest(blake3_digest(b"x"))


def take_one_after_another(digests, cuts):
    """Give each taker all pieces before the next one gets any: none may count on another."""
    pieces = [DATA[start:end] for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(DATA)], strict=True)]
    for take in digests.takers:
        for piece in pieces:
            take(memoryview(piece))


@given(st.sets(st.integers(0, len(DATA) + 5), max_size=5), st.lists(st.integers(0, len(DATA)), max_size=6))
def test_a_stream_goes_on_from_any_mark_of_another_that_begins_alike(marks, cuts):
    prefix = Sha256Prefix(marks)
    digests = StreamDigests([], len(DATA), sha256=prefix, marks=marks)
    take_one_after_another(digests, cuts)
    for mark in marks & set(range(1, len(DATA) + 1)):
        assert digests.prefixes[mark].digest == blake3_digest(DATA[:mark])
        other = DATA[:mark] + b"another end"
        begun = {"sha256": Sha256Prefix(begun=prefix.kept[mark]), "begun": digests.prefixes[mark]}
        resumed = StreamDigests([(mark + 2, 5)], len(other), marks=[1, mark, mark + 4], **begun)
        resumed.update(other[mark:])
        assert resumed.sha256 == sha256_digest(other)
        assert resumed.blake3 == blake3_digest(other)
        assert resumed.size_bytes == len(other)
        assert resumed.find_range(mark + 2, 5) == blake3_digest(b"other")
        assert {at: each.digest for at, each in resumed.prefixes.items()} == {
            mark + 4: blake3_digest(other[: mark + 4])
        }
    assert digests.sha256 == sha256_digest(DATA)


@given(st.integers(0, len(DATA)), st.lists(st.integers(0, len(DATA)), max_size=6))
def test_a_sha256_that_was_begun_before_is_finished_beside_the_rest_however_late(begun, cuts):
    prefix = Sha256Prefix()
    prefix.update(DATA[:begun])
    digests = StreamDigests([(3, 70)], len(DATA), sha256=prefix)
    take_one_after_another(digests, cuts)
    assert digests.sha256 == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert digests.blake3 == "blake3:" + blake3(DATA).hexdigest()
    assert digests.find_range(3, 70) == blake3_digest(DATA[3:73])
