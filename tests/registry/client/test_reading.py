"""Downloads against a real service and real buckets, through a proxy that breaks everything it can."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager

import pytest
import torch
from cutting_proxy import cutting_proxy
from faulty_proxy import faulty_proxy
from servers import BucketServer
from support.service import running

from registry.client import landing, reading
from registry.client.cache import Cache
from registry.client.client import Client
from registry.errors import DigestMismatchError, WeighbridgeError

MIB = 1 << 20
CODE = """
import sys
from registry.client.client import Client
{before}
with Client(sys.argv[1], cache_dir=sys.argv[2], progress=False) as client:
    client.download(sys.argv[3], sys.argv[4])
"""
HEARS_INTERRUPTS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is born deaf to them
"""
WITHOUT_LOCKS = """
import errno, fcntl
def no_locks(*_): raise OSError(errno.ENOLCK, "no locks here")
fcntl.flock = no_locks
"""
LYING_LOCKS = "import fcntl\nfcntl.flock = lambda *_: None"


def random_file(path, size_bytes=8 * MIB):
    torch.save({"weight": torch.randn(size_bytes // 4)}, path)
    return path


@pytest.fixture
def name():
    return f"vision/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def file(tmp_path):
    return random_file(tmp_path / "model.pt")


@pytest.fixture(scope="module", params=["seaweedfs", "minio_gateway"])
def over_bucket(request, tmp_path_factory):
    """A service over a bucket behind a proxy, through which clients reach the bucket."""
    bucket = request.getfixturevalue(request.param)
    with faulty_proxy(bucket.host_and_port) as proxy:
        kind = {"seaweedfs": "s3", "minio_gateway": "minio"}[request.param]
        place = f"{bucket.bucket}/{uuid.uuid4().hex}"
        where = {
            "s3": f"s3://{place}?endpoint={bucket.endpoint_url}&region={bucket.region}&public_endpoint={proxy.url}",
            "minio": f"minio://{bucket.host_and_port}/{place}?secure=false&public_endpoint={proxy.url}",
        }[kind]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
        variables |= {
            "WEIGHBRIDGE_BLOBS_URL": where,
            "WEIGHBRIDGE_BLOBS_ACCESS_KEY": bucket.access_key,
            "WEIGHBRIDGE_BLOBS_SECRET_KEY": bucket.secret_key,
            "WEIGHBRIDGE_TOKEN": "a token that no bucket may see",
        }
        command = [sys.executable, "-m", "api", "serve"]
        with running(tmp_path_factory.mktemp("bucket"), command, variables) as service:
            yield service.url, proxy


@contextmanager
def client_of(url, folder):
    with Client(url, token="a token that no bucket may see", cache_dir=folder, progress=False) as client:
        yield client


def test_bytes_come_from_the_bucket_and_the_token_stays_here(over_bucket, name, file, tmp_path):
    url, proxy = over_bucket
    with client_of(url, tmp_path / "cache") as client:
        client.push(name, file)
        proxy.reset()

        (path,) = client.download(name, tmp_path / "out")

    assert path.read_bytes() == file.read_bytes()
    assert proxy.answered_bytes >= file.stat().st_size
    assert all(b"a token" not in head and b"uthorization" not in head for head in proxy.heads)


def test_tensors_come_from_the_bucket_and_only_those_that_are_missing(over_bucket, name, tmp_path):
    url, proxy = over_bucket
    base = {f"{number}.weight": torch.randn(512, 1024) for number in range(4)}
    tuned = base | {"2.weight": torch.randn(512, 1024)}
    with client_of(url, tmp_path / "pushing") as client:
        for which, state_dict in (("base", base), ("tuned", tuned)):
            torch.save(state_dict, tmp_path / "model.pt")
            client.push(f"{name}-{which}", tmp_path / "model.pt")
    with client_of(url, tmp_path / "cache") as client:
        client.pull(f"{name}-base")
        proxy.reset()

        found = client.pull(f"{name}-tuned")

    assert all(torch.equal(found[key], tuned[key]) for key in tuned)
    assert 2 * MIB <= proxy.answered_bytes <= 2.1 * MIB
    assert all(b"a token" not in head for head in proxy.heads)


def test_curl_is_led_to_the_bucket_without_its_token_and_continues_there(over_bucket, name, file, tmp_path):
    url, proxy = over_bucket
    with client_of(url, tmp_path / "cache") as client:
        client.push(name, file)
    proxy.reset()
    out, token = tmp_path / "out", "Authorization: Bearer a token that no bucket may see"
    artifact = f"{url}/api/v1/models/{name}/versions/1/artifacts/model.pt"
    command = ["curl", "--silent", "--fail", "--location", "--header", token, "--output", str(out), artifact]

    subprocess.run(command, check=True, timeout=60)
    assert out.read_bytes() == file.read_bytes()
    out.write_bytes(file.read_bytes()[:MIB])
    subprocess.run([*command, "--continue-at", "-"], check=True, timeout=60)

    assert out.read_bytes() == file.read_bytes()
    assert proxy.answered_bytes > 2 * file.stat().st_size - 2 * MIB
    assert all(b"uthorization" not in head for head in proxy.heads)


def test_a_bucket_that_cannot_be_reached_is_gone_round(over_bucket, name, file, tmp_path):
    url, proxy = over_bucket
    with client_of(url, tmp_path / "cache") as client:
        client.push(name, file)
        with proxy.away():
            (path,) = client.download(name, tmp_path / "out")

        assert client.connection.buckets.reachable is False
    assert path.read_bytes() == file.read_bytes()


def test_urls_that_a_bucket_refuses_are_asked_for_again(over_bucket, name, file, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "back_off_seconds", lambda _: 0.0)
    url, proxy = over_bucket
    with client_of(url, tmp_path / "cache") as client:
        client.push(name, file)
        for answers in (["403"], ["404", "410"], ["503", "403", "403", "403"]):
            proxy.reset()
            proxy.faults = iter(answers)
            (path,) = client.download(name, tmp_path / "out")
            assert path.read_bytes() == file.read_bytes()
            for entry in client.connection.cache.iter_entries():
                entry.path.unlink()


def download_through_faults(client, proxy, folder, file, name, seed):
    """Download while connections break in ways that the seed says; what comes is right, or a named error."""
    faults = random.Random(seed)
    kinds = ["reset", "truncate", "503", "403", "404", "ok", "ok", *faults.choices(["stall", "ok"], (1, 9))]
    proxy.faults = iter([faults.choice(kinds) for _ in range(faults.randrange(1, 12))])
    proxy.after_bytes = faults.randrange(0, file.stat().st_size)
    for entry in client.connection.cache.iter_entries():
        entry.path.unlink()
    try:
        (path,) = client.download(name, folder / "out")
    except WeighbridgeError:
        return "error"
    assert path.read_bytes() == file.read_bytes()
    path.unlink()
    return "right"


@pytest.fixture
def hurried(monkeypatch):
    """Short pauses, short patience and short runs, so that many faults fit into a test."""
    monkeypatch.setattr(reading, "back_off_seconds", lambda _: 0.0)
    monkeypatch.setattr("registry.client.transport.back_off_seconds", lambda _: 0.0)
    small = {"SMALL_BYTES": 1000, "RUN_BYTES": 10_000, "NOTE_BYTES": 4000, "PROGRESS_BYTES": 4000}
    for constant, value in {**small, "READ_TIMEOUT_SECONDS": 0.2}.items():
        monkeypatch.setattr(reading, constant, value)
    monkeypatch.setattr(landing, "BUFFER_BYTES", 1000)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "seeds",
    [
        range(12),
        pytest.param(range(120), marks=pytest.mark.slow),
        pytest.param(range(500), marks=[pytest.mark.slow, pytest.mark.exhaustive]),
    ],
    ids=["few", "many", "all"],
)
def test_through_any_faults_a_download_is_right_or_a_named_error(hurried, live_server, name, tmp_path, seeds):
    file = random_file(tmp_path / "small.pt", 60_000)
    with client_of(live_server.url, tmp_path / "pushing") as client:
        client.push(name, file)
    with faulty_proxy(live_server.url.removeprefix("http://")) as proxy, client_of(proxy.url, tmp_path / "c") as client:
        proxy.only = b"/artifacts/"

        ends = [download_through_faults(client, proxy, tmp_path, file, name, seed) for seed in seeds]

    assert set(ends) <= {"right", "error"}
    assert ends.count("right") >= len(ends) // 4


def start(url, folder, name, target, before=""):
    code = CODE.format(before=before)
    return subprocess.Popen([sys.executable, "-c", code, url, str(folder), name, str(target)])


def count_cached(folder):
    return [entry.size_bytes for entry in Cache(folder).iter_entries()]


def test_eight_processes_fetch_a_file_once(live_server, name, tmp_path):
    file = random_file(tmp_path / "model.pt", 24 * MIB)
    with client_of(live_server.url, tmp_path / "pushing") as client:
        client.push(name, file)
    with faulty_proxy(live_server.url.removeprefix("http://")) as proxy:
        proxy.only = b"/artifacts/"
        many = [start(proxy.url, tmp_path / "cache", name, tmp_path / f"out-{number}") for number in range(8)]
        assert [process.wait(120) for process in many] == [0] * 8

        assert proxy.answered_bytes <= 1.05 * file.stat().st_size
    assert all((tmp_path / f"out-{number}" / "model.pt").read_bytes() == file.read_bytes() for number in range(8))
    assert list((tmp_path / "cache" / "v1" / "locks").iterdir()) == []
    assert list((tmp_path / "cache" / "v1" / "tmp").iterdir()) == []


def test_when_the_holder_is_killed_somebody_who_waits_goes_on_from_there(live_server, name, tmp_path):
    file = random_file(tmp_path / "model.pt", 24 * MIB)
    with client_of(live_server.url, tmp_path / "pushing") as client:
        client.push(name, file)
    with faulty_proxy(live_server.url.removeprefix("http://")) as proxy:
        proxy.only, proxy.bytes_per_second = b"/artifacts/", 6 * MIB
        first = start(proxy.url, tmp_path / "cache", name, tmp_path / "first")
        wait_until(lambda: proxy.answered_bytes > 8 * MIB)
        second = start(proxy.url, tmp_path / "cache", name, tmp_path / "second")
        wait_until(lambda: proxy.answered_bytes > 14 * MIB)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert second.wait(60) == 0

        assert proxy.answered_bytes <= file.stat().st_size + 8 * MIB
    assert (tmp_path / "second" / "model.pt").read_bytes() == file.read_bytes()
    assert count_cached(tmp_path / "cache") == [file.stat().st_size]


def test_an_interrupt_ends_a_download_that_stalls_and_keeps_what_came(live_server, name, tmp_path):
    file = random_file(tmp_path / "model.pt", 136 * MIB)  # three runs
    with client_of(live_server.url, tmp_path / "pushing") as client:
        client.push(name, file)
    with faulty_proxy(live_server.url.removeprefix("http://")) as proxy:
        proxy.only = b"/artifacts/"
        proxy.faults, proxy.after_bytes, proxy.stall_seconds = iter(["stall"] * 3), 2 * MIB, 50
        stalled = start(proxy.url, tmp_path / "cache", name, tmp_path / "out", HEARS_INTERRUPTS)
        wait_until(lambda: written_bytes(tmp_path / "cache") > 5 * MIB)
        stalled.send_signal(signal.SIGINT)
        assert stalled.wait(15) != 0

        (left,) = (tmp_path / "cache" / "v1" / "tmp").iterdir()
        assert sum(int(line.split()[1]) for line in (left / "journal").read_bytes().splitlines()) > 4.9 * MIB


def written_bytes(cache):
    """Return how many bytes lie in the file that a download is writing anywhere in."""
    return sum(data.stat().st_blocks * 512 for data in (cache / "v1" / "tmp").glob("*/data"))


@pytest.mark.parametrize("locks", [WITHOUT_LOCKS, LYING_LOCKS], ids=["none", "lying"])
def test_without_locks_that_hold_everything_is_still_right(live_server, name, file, tmp_path, locks):
    with client_of(live_server.url, tmp_path / "pushing") as client:
        client.push(name, file)
    many = [start(live_server.url, tmp_path / "cache", name, tmp_path / f"out-{number}", locks) for number in range(4)]

    assert [process.wait(120) for process in many] == [0] * 4

    assert all((tmp_path / f"out-{number}" / "model.pt").read_bytes() == file.read_bytes() for number in range(4))
    assert [sound for _, sound in Cache(tmp_path / "cache").verify()] == [True]
    assert list((tmp_path / "cache" / "v1" / "tmp").iterdir()) == []


def test_a_holder_that_was_stopped_is_not_waited_for_for_ever(live_server, name, tmp_path, monkeypatch):
    monkeypatch.setattr("registry.client.holding.STALE_SECONDS", 2.0)
    file = random_file(tmp_path / "model.pt", 24 * MIB)
    with client_of(live_server.url, tmp_path / "pushing") as client:
        client.push(name, file)
    with faulty_proxy(live_server.url.removeprefix("http://")) as proxy:
        proxy.only, proxy.bytes_per_second = b"/artifacts/", 4 * MIB
        holder = start(proxy.url, tmp_path / "cache", name, tmp_path / "first")
        wait_until(lambda: proxy.answered_bytes > 4 * MIB)
        holder.send_signal(signal.SIGSTOP)
        with client_of(live_server.url, tmp_path / "cache") as client:
            (path,) = client.download(name, tmp_path / "second")
        assert path.read_bytes() == file.read_bytes()
        proxy.bytes_per_second = None
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(60) == 0
    assert (tmp_path / "first" / "model.pt").read_bytes() == file.read_bytes()


def test_a_connection_that_breaks_loses_little_of_what_came(live_server, name, file, tmp_path):
    behind = BucketServer(live_server.url, "", "")
    with client_of(live_server.url, tmp_path / "cache") as client:
        client.push(name, file)
    with cutting_proxy(behind) as proxy, client_of(proxy.endpoint_url, tmp_path / "other") as client:
        proxy.cut_after_bytes, proxy.only_after, proxy.cuts_left = 3 * MIB, b"/artifacts/", 2

        (path,) = client.download(name, tmp_path / "out")

        assert proxy.cuts_made == 2
    assert path.read_bytes() == file.read_bytes()


def test_a_pin_holds_whatever_the_service_says(live_server, name, tmp_path, monkeypatch):
    one, other = random_file(tmp_path / "one.pt", 4000), random_file(tmp_path / "other.pt", 4000)
    with client_of(live_server.url, tmp_path / "cache") as client:
        pinned, wrong = client.push(name, one).artifacts[0].sha256, client.push(name, other)
        assert client.download(f"{name}@{pinned}", tmp_path / "out")[0].read_bytes() == one.read_bytes()

        monkeypatch.setattr(client.connection.resolver, "version", lambda _: wrong)
        with pytest.raises(DigestMismatchError):
            client.download(f"{name}@{pinned}", tmp_path / "out")
        claimed = [each.model_copy(update={"sha256": pinned}) for each in wrong.artifacts]
        lie = wrong.model_copy(update={"artifacts": claimed})
        monkeypatch.setattr(client.connection.resolver, "version", lambda _: lie)
        with pytest.raises(DigestMismatchError):
            client.pull(f"{name}@{pinned}")


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
