"""Fetching, against a real web server that breaks off, changes its files and lies."""

import hashlib
import subprocess
import sys
import time

import pytest

from registry.client.cache import Cache, blake3_file
from registry.errors import (
    ConflictError,
    DigestMismatchError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
)
from registry.importing import arriving
from registry.importing.arriving import Wanted
from registry.importing.download import fetch

PATH = "/models/net.pth"
DATA = hashlib.shake_256(b"net").digest(3_000_000)
DIGITS = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def served(host):
    host.files[PATH] = DATA
    return host


def wanted(host, path=PATH, **members):
    return Wanted(host.url(path), members.pop("max_bytes", 1 << 30), **members)


def left_behind(cache):
    return sorted(path.suffix for path in (cache.root / "tmp").glob("*"))


def test_a_file_enters_the_cache_under_its_digest(served, cache):
    fetched = fetch(cache, wanted(served, sha256_start=DIGITS[:8]))

    assert fetched.sha256 == f"sha256:{DIGITS}"
    assert fetched.path == cache.path_of(blake3_file(fetched.path))
    assert fetched.path.read_bytes() == DATA
    assert left_behind(cache) == []


@pytest.mark.parametrize("cut_after", [1, 70_000, 1_000_000, len(DATA) - 1])
def test_a_connection_that_breaks_is_continued_where_it_broke(served, cache, cut_after):
    served.cut_after, served.cuts_left = cut_after, 2

    fetched = fetch(cache, wanted(served))

    assert fetched.path.read_bytes() == DATA
    assert served.ranges(PATH)[1] == f"bytes={cut_after}-"


def test_more_breaks_than_attempts_do_not_matter_while_bytes_arrive(served, cache):
    served.cut_after, served.cuts_left = 300_000, arriving.ATTEMPTS + 3

    assert fetch(cache, wanted(served)).path.read_bytes() == DATA


def test_a_host_that_gives_nothing_is_given_up_and_what_arrived_stays(served, cache, monkeypatch):
    monkeypatch.setattr(arriving, "back_off_seconds", lambda _: 0.0)
    served.cut_after, served.cuts_left = 500_000, 1
    served.on_cut = lambda: served.statuses.extend([503] * arriving.ATTEMPTS)

    with pytest.raises(UnavailableError, match="500000 bytes are here"):
        fetch(cache, wanted(served))

    served.on_cut = None
    assert fetch(cache, wanted(served)).path.read_bytes() == DATA
    assert served.ranges(PATH)[-1] == "bytes=500000-"


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changed_meanwhile_starts_again(served, cache, honours_if_range):
    other = hashlib.shake_256(b"other").digest(len(DATA))
    served.honours_if_range = honours_if_range
    served.cut_after, served.cuts_left = 1_000_000, 1
    served.on_cut = lambda: served.files.update({PATH: other})

    assert fetch(cache, wanted(served)).path.read_bytes() == other


def test_a_host_that_cannot_continue_sends_all_of_it_again(served, cache):
    served.resumes = False
    served.cut_after, served.cuts_left = 1_000_000, 1

    assert fetch(cache, wanted(served)).path.read_bytes() == DATA


def test_without_an_etag_or_date_nothing_is_continued(served, cache):
    served.etags = False
    served.cut_after, served.cuts_left = 1_000_000, 1

    assert fetch(cache, wanted(served)).path.read_bytes() == DATA
    assert served.ranges(PATH) == [None, None]


def test_a_file_that_shrank_starts_again(served, cache):
    served.honours_if_range = False
    served.cut_after, served.cuts_left = 1_000_000, 1
    served.on_cut = lambda: served.files.update({PATH: b"short"})

    assert fetch(cache, wanted(served)).path.read_bytes() == b"short"


def test_a_killed_process_is_continued_by_the_next_one(served, cache):
    served.cut_after, served.cuts_left = 1_000_000, 1
    served.on_cut = lambda: time.sleep(30)
    code = (
        "import sys; from pathlib import Path\n"
        "from registry.client.cache import Cache\n"
        "from registry.importing.arriving import Wanted\n"
        "from registry.importing.download import fetch\n"
        "fetch(Cache(Path(sys.argv[1])), Wanted(sys.argv[2], 1 << 30))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(cache.folder), served.url(PATH)])
    part = None
    while part is None or part.stat().st_size < 1_000_000:
        assert process.poll() is None
        part = next((cache.root / "tmp").glob("*.part"), None)
        time.sleep(0.05)
    process.kill()
    process.wait()
    served.on_cut = None

    assert fetch(cache, wanted(served)).path.read_bytes() == DATA
    assert served.ranges(PATH)[-1] == "bytes=1000000-"


@pytest.mark.parametrize("start", ["0" * 8, "0" * 64])
def test_a_file_with_another_digest_is_not_kept(served, cache, start):
    with pytest.raises(DigestMismatchError, match=DIGITS):
        fetch(cache, wanted(served, sha256_start=start))

    assert left_behind(cache) == []
    assert list(cache.iter_entries()) == []


def test_a_host_that_lies_about_its_digest_is_caught(served, cache):
    served.headers[PATH] = {"X-Linked-ETag": f'"{"0" * 64}"'}

    with pytest.raises(DigestMismatchError, match="0" * 64):
        fetch(cache, wanted(served, hashed_by="X-Linked-ETag"))

    assert list(cache.iter_entries()) == []


def test_the_hub_says_the_digest_before_it_redirects(served, cache):
    served.redirects["/resolve"] = PATH
    served.headers["/resolve"] = {"X-Linked-ETag": f'"{"0" * 64}"'}

    with pytest.raises(DigestMismatchError):
        fetch(cache, wanted(served, "/resolve", hashed_by="X-Linked-ETag"))


def test_what_has_not_changed_is_not_sent_again(served, cache):
    first = fetch(cache, wanted(served))
    served.cut_after, served.cuts_left = 0, 99  # any body would be cut off

    assert fetch(cache, wanted(served)) == first
    assert served.asked[-1][1]["if-none-match"] == served.etag(PATH)
    assert left_behind(cache) == []


def test_what_was_kept_and_damaged_is_fetched_again(served, cache):
    first = fetch(cache, wanted(served))
    first.path.chmod(0o644)
    first.path.write_bytes(b"damaged")

    assert fetch(cache, wanted(served)).path.read_bytes() == DATA


def test_what_was_kept_is_compared_with_the_digest_asked_for(served, cache):
    kept = fetch(cache, wanted(served))

    with pytest.raises(DigestMismatchError):
        fetch(cache, wanted(served, sha256_start="0" * 64))
    assert kept.path.exists()


@pytest.mark.parametrize("sizes", [True, False])
def test_no_more_is_taken_than_the_service_takes(served, cache, sizes):
    served.sizes = sizes

    with pytest.raises(TooLargeError, match="takes 1000000"):
        fetch(cache, wanted(served, max_bytes=1_000_000))

    assert sum(path.stat().st_size for path in (cache.root / "tmp").glob("*.part")) == 0


def test_no_secret_of_the_user_is_sent(served, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("HOME", str(tmp_path))

    fetch(cache, wanted(served))

    assert all("secret" not in value for _, headers in served.asked for value in headers.values())
    assert all("authorization" not in headers and "cookie" not in headers for _, headers in served.asked)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("http://example.com/net.pth", InvalidRequestError),
        ("ftp://127.0.0.1/net.pth", InvalidRequestError),
        ("file:///etc/passwd", InvalidRequestError),
        ("/loop", UnavailableError),
        ("/nothing", NotFoundError),
    ],
)
def test_a_redirect_leads_to_no_other_place_than_a_url_may(served, cache, target, error):
    served.redirects["/loop"] = target
    with pytest.raises(error):
        fetch(cache, wanted(served, "/loop"))


def test_a_redirect_is_followed(served, cache):
    served.redirects["/here"] = "/there"
    served.redirects["/there"] = served.url(PATH)

    assert fetch(cache, wanted(served, "/here")).path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, PermissionDeniedError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (410, NotFoundError),
        (400, InvalidRequestError),
        (500, UnavailableError),
    ],
)
def test_what_a_host_refuses_is_named(served, cache, status, error):
    served.statuses = [status]
    with pytest.raises(error, match=str(status)):
        fetch(cache, wanted(served))


def test_a_busy_host_is_asked_again(served, cache):
    served.statuses = [503, 429]
    assert fetch(cache, wanted(served)).path.read_bytes() == DATA


def test_one_process_at_a_time_fetches_a_url(served, cache):
    fcntl = pytest.importorskip("fcntl")
    name = hashlib.sha256(served.url(PATH).encode()).hexdigest()
    part = cache.temporary_folder() / f"import-{name}.part"
    with part.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="right now"):
            fetch(cache, wanted(served))

    assert fetch(cache, wanted(served)).path.read_bytes() == DATA


def test_an_answer_without_a_size_is_taken_to_its_end(served, cache):
    served.sizes = False
    assert fetch(cache, wanted(served)).path.read_bytes() == DATA


def test_a_full_disk_is_named_and_the_rest_comes_later(served, cache):
    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StorageFullError, match="cache prune"):
            fetch(cache, wanted(served))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    assert fetch(cache, wanted(served)).path.read_bytes() == DATA
    assert served.ranges(PATH)[-1] == "bytes=1000000-"
