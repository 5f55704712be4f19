"""Pushes by plan, from the client to a real service: resumed after kills on either side, whole through faulty lines."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from urllib.parse import urlsplit

import killed_clients
import pytest
from faulty_proxy import faulty_proxy
from support.service import free_port, running

from registry.client import push, transport, uploading
from registry.errors import WeighbridgeError
from storage.uploads import planning
from weighbridge import Client

PART = 1 << 20
EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
FAULTS = ("drop", "reset", "truncate", "stall", "503")


@pytest.fixture(autouse=True)
def small_plans(monkeypatch):
    monkeypatch.setattr(push, "PLANNED_BYTES", 1)


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Start services whose parts have 1 MiB, and stop them at the end."""
    with ExitStack() as stack:

        def start(folder=None, port=None):
            folder = folder or tmp_path_factory.mktemp("service")
            program = (
                "from storage.uploads import planning; "
                f"planning.LOCAL_PART_BYTES = {PART}; "
                "from api.__main__ import main; main(['serve'])"
            )
            return stack.enter_context(running(folder, [sys.executable, "-c", program], port=port))

        yield start


@pytest.fixture(scope="module")
def service(serve):
    return serve()


def write_weights(path, seed, parts=6, frozen=b""):
    """Write a file of some parts, weights as far as safetensors is concerned, behind those that are frozen."""
    chance = random.Random(seed)
    size, at = parts * PART + chance.randrange(1, 5000), len(frozen)
    before = b'"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]},' % (at, at) if frozen else b""
    header = b'{%b"w":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}}' % (before, size, at, at + size)
    path.write_bytes(len(header).to_bytes(8, "little") + header + frozen + chance.randbytes(size))
    return path


@pytest.fixture(params=["whole", "fine-tune"])
def write_next(request, tmp_path):
    """Return a function that writes a file of which 8 parts and a bit are new, once a base of it is pushed."""
    if request.param == "whole":
        return lambda hub, model, seed: write_weights(tmp_path / "model.safetensors", seed, parts=8)

    def write(hub, model, seed):
        frozen = random.Random(seed + 1000).randbytes(3 * PART)
        hub.push(model, write_weights(tmp_path / "base.safetensors", seed + 1, parts=1, frozen=frozen))
        return write_weights(tmp_path / "model.safetensors", seed + 500, parts=8, frozen=frozen)

    return write


def stored_bytes(service, version):
    where = f"{service.url}/api/v1/models/{version.team}/{version.model}/versions/{version.number}/artifacts/"
    with urllib.request.urlopen(f"{where}{version.artifacts[0].path}?direct=false", timeout=30) as answer:  # noqa: S310 - loopback
        return answer.read()


def test_a_file_is_pushed_by_plan_and_stored_as_it_is(service, tmp_path):
    file = write_weights(tmp_path / "model.safetensors", 1)
    hub = Client(service.url, cache_dir=tmp_path / "cache", progress=False)
    version = hub.push("vision/planned", file, metrics={"top1": 0.5}, alias="best")

    assert stored_bytes(service, version) == file.read_bytes()
    assert version.annotations.metrics == {"top1": 0.5}
    assert hub.show("vision/planned@best").number == version.number
    assert list((tmp_path / "cache" / "v1" / "uploads").iterdir()) == []


OLDER = {
    "no deltas": (["delta-uploads", "claimed-tiles"], "'tiles' not in create.model_fields_set"),
    "deltas with digests": (["claimed-tiles"], "all(create.metadata.artifacts[path].blake3 for path in create.tiles)"),
}
"""What a service of before does not list, and what must be true of a plan that it is asked for."""


@pytest.mark.parametrize("knows", OLDER)
def test_a_service_of_before_is_asked_for_what_it_knows(tmp_path, knows):
    lacks, needs = OLDER[knows]
    program = (
        f"from api.routes import info; info.CAPABILITIES[:] = {{*info.CAPABILITIES}} - {{*{lacks!r}}}; "
        "from storage.uploads import planning; check = planning.check_tiles; "
        f"planning.check_tiles = lambda create, sizes: check(create, sizes) if {needs} else 1 / 0; "
        "from api.__main__ import main; main(['serve'])"
    )
    (tmp_path / "service").mkdir()
    with running(tmp_path / "service", [sys.executable, "-c", program]) as service:
        hub = Client(service.url, cache_dir=tmp_path / "cache", progress=False)
        file = write_weights(tmp_path / "model.safetensors", 9)
        versions = [hub.push("vision/older", file) for _ in range(2)]
        assert ("stored already" in " ".join(versions[1].notices)) == (knows != "no deltas")
        assert stored_bytes(service, versions[1]) == file.read_bytes()


def test_the_same_file_twice_is_two_versions(service, tmp_path):
    file = write_weights(tmp_path / "model.safetensors", 2)
    hub = Client(service.url, cache_dir=tmp_path / "cache", progress=False)
    assert [hub.push("vision/twice", file).number for _ in range(2)] == [1, 2]


def test_a_client_that_was_killed_goes_on_where_it_stopped(service, tmp_path, write_next):
    model = f"vision/killed-{tmp_path.name}"
    with Client(service.url, cache_dir=tmp_path / "cache", progress=False) as hub:
        file = write_next(hub, model, 3)
    program = textwrap.dedent(
        f"""
        import os
        from registry.client import push, uploading
        from weighbridge import Client
        push.PLANNED_BYTES = 1
        sent = uploading.Uploader._send_part
        count = 0
        def dying(self, plan, path, part, file):
            global count
            if part.number > 4:
                os.kill(os.getpid(), 9)
            sent(self, plan, path, part, file)
        uploading.Uploader._send_part = dying
        uploading.STREAMS = 1
        hub = Client({service.url!r}, cache_dir={str(tmp_path / "cache")!r}, progress=False)
        hub.push({model!r}, {str(file)!r})
        """
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL

    sent = []
    original = uploading.Uploader._send_part

    def counting(self, plan, path, part, outgoing):
        sent.append(part.number)
        original(self, plan, path, part, outgoing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploading.Uploader, "_send_part", counting)
        version = Client(service.url, cache_dir=tmp_path / "cache", progress=False).push(model, file)

    assert sorted(sent) == [5, 6, 7, 8, 9]
    assert stored_bytes(service, version) == file.read_bytes()


def test_a_push_outlives_a_service_that_is_killed_in_its_middle(serve, tmp_path, monkeypatch, write_next):
    monkeypatch.setattr(uploading, "STREAMS", 1)
    monkeypatch.setattr(transport, "ATTEMPTS_WHEN_REFUSED", 60)
    monkeypatch.setattr(transport, "ATTEMPTS", 60)
    monkeypatch.setattr(transport, "back_off_seconds", lambda _: 0.5)
    port, folder = free_port(), tmp_path / "service"
    folder.mkdir()
    first = serve(folder, port)
    hub = Client(first.url, cache_dir=tmp_path / "cache", progress=False)
    file = write_next(hub, "vision/outlived", 4)
    original, killed = uploading.Uploader._send_part, []

    def killing(self, plan, path, part, outgoing):
        if part.number == 4 and not killed:
            killed.append(first.pid)
            os.kill(first.pid, signal.SIGKILL)
        original(self, plan, path, part, outgoing)

    monkeypatch.setattr(uploading.Uploader, "_send_part", killing)
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(hub.push, "vision/outlived", file)
        while not killed:
            time.sleep(0.01)
        second = serve(folder, port)
        version = pushing.result(120)

    assert stored_bytes(second, version) == file.read_bytes()


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=EXHAUSTIVE)])
def test_clients_that_are_killed_at_any_moment_leave_whole_versions_only(service, tmp_path, count):
    file = write_weights(tmp_path / "model.safetensors", 5)
    arguments = [service.url, tmp_path / "cache", file, tmp_path / "target", str(count), "5"]
    command = [sys.executable, killed_clients.__file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)

    versions = list(Client(service.url, progress=False).versions("vision/killed-clients"))
    assert versions[0].number == int(done.stdout)
    assert all(stored_bytes(service, version) == file.read_bytes() for version in versions)
    assert (tmp_path / "target" / file.name).read_bytes() == file.read_bytes()


def test_where_the_bucket_cannot_be_reached_parts_go_through_the_service(seaweedfs, tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}"
    url = f"s3://{seaweedfs.bucket}/nobody?endpoint={seaweedfs.endpoint_url}&region={seaweedfs.region}"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    variables |= {
        "WEIGHBRIDGE_BLOBS_URL": f"{url}&public_endpoint={nobody}",
        "WEIGHBRIDGE_BLOBS_ACCESS_KEY": seaweedfs.access_key,
        "WEIGHBRIDGE_BLOBS_SECRET_KEY": seaweedfs.secret_key,
    }
    file = write_weights(tmp_path / "model.safetensors", 6)
    with running(tmp_path, variables=variables) as service:
        version = Client(service.url, cache_dir=tmp_path / "cache", progress=False).push("vision/far", file)
        assert stored_bytes(service, version) == file.read_bytes()


def push_through_faults(service, folder, seed, count, streams):
    """Push files through a faulty line; return what became of each."""
    chance = random.Random(seed)
    with faulty_proxy(urlsplit(service.url).netloc) as proxy:
        proxy.faults = (chance.choice(FAULTS) if chance.random() < 0.2 else "ok" for _ in repeat(None))
        proxy.after_sent_bytes, proxy.after_bytes = PART // 2, 100

        def one(number):
            file = write_weights(folder / f"{number}.safetensors", seed * 10_000 + number, parts=2)
            hub = Client(proxy.url, cache_dir=folder / "cache", progress=False)
            try:
                version = hub.push(f"faults/m{seed}-{number}", file)
            except WeighbridgeError as error:
                return error.code
            finally:
                hub.close()
                data = file.read_bytes()
                file.unlink()
            return "identical" if stored_bytes(service, version) == data else "DIFFERENT"

        with ThreadPoolExecutor(streams) as pool:
            return list(pool.map(one, range(count)))


@pytest.mark.parametrize("count", [12, pytest.param(500, marks=EXHAUSTIVE)])
def test_what_goes_through_a_line_that_breaks_is_whole_or_a_named_error(service, tmp_path, monkeypatch, count):
    monkeypatch.setattr(transport, "back_off_seconds", lambda _: 0.02)
    monkeypatch.setattr(uploading, "back_off_seconds", lambda _: 0.02)
    outcomes = push_through_faults(service, tmp_path, 20261121, count, streams=4)

    assert "DIFFERENT" not in outcomes
    assert outcomes.count("identical") >= count // 2


def test_parts_are_planned_in_sizes_that_ten_thousand_are_enough_for():
    assert planning.part_bytes(1, direct=True, can_presign=True) == planning.DIRECT_PART_BYTES
    size = planning.part_bytes(1 << 40, direct=True, can_presign=True)
    assert size * 10_000 >= (1 << 40)
    assert size % (1 << 20) == 0
