"""Rows of a bucket (SeaweedFS): the client beside boto3, which was tuned on the same bucket, and what passes where."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import safetensors.torch
from boto3.s3.transfer import TransferConfig
from servers import BucketServer, StartError, start_seaweedfs

from transfers import weights
from transfers.counting_proxy import CountingProxy, counting
from transfers.place import MIB, Place, Site, scratch, serving
from transfers.rounds import Aim, Figure, Spent, Table, say, timed, warm_memory
from transfers.sending import watching_sent
from transfers.whole import KEPT, OURS, REFERENCE

BOTO3 = "boto3, tuned"
READ = "one sequential read of the new bytes"
ALLOWED = "transfer and 1.2 reads"
VISIBLE = f"{OURS}, until visible"
PARTS_MIB = (8, 16, 64)
THREADS = (4, 10)
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Ground:
    """What a round has: an empty bucket, a service on it, a folder, and a file of weights that are nowhere yet."""

    bucket: BucketServer
    site: Site
    folder: Path
    file: Path


def push(place: Place) -> Table:
    """Push a file, and upload the same by boto3."""
    found: dict[str, list[float]] = {OURS: [], VISIBLE: [], BOTO3: [], READ: [], ALLOWED: []}
    config: TransferConfig | None = None
    for number in range(place.rounds):
        with _ground(place) as ground:
            config = config or _tuned(lambda config, ground=ground: _upload(ground, config))
            warm_memory(place.size_bytes)
            uploading = timed(lambda ground=ground, config=config: _upload(ground, config)).seconds
            reading = timed(lambda ground=ground: _read(ground)).seconds
            ground.bucket.client().delete_object(Bucket=ground.bucket.bucket, Key="boto3")
            warm_memory(place.size_bytes)
            with ground.site.client(ground.folder / "cache") as hub, watching_sent() as sent:
                visible = timed(lambda hub=hub, ground=ground: hub.push(REFERENCE, ground.file)).seconds
            measured = {OURS: sent.seconds, VISIBLE: visible, BOTO3: uploading, READ: reading}
            _note(found, measured | {ALLOWED: sent.seconds + 1.2 * reading}, number)
    figures = [
        _figure(place, OURS, found[OURS], Aim(1 / 0.9, 1.0, BOTO3)),
        _figure(place, VISIBLE, found[VISIBLE], Aim(1.0, None, ALLOWED)),
        _figure(place, ALLOWED, found[ALLOWED]),
        _figure(place, BOTO3, found[BOTO3]),
        _figure(place, READ, found[READ]),
    ]
    return Table("bucket-push", f"Push of a file to a bucket{_say(config)}", place.name, figures)


def pull(place: Place) -> Table:
    """Pull a file, and download the same by boto3."""
    found: dict[str, list[float]] = {OURS: [], KEPT: [], BOTO3: []}
    config: TransferConfig | None = None
    for number in range(place.rounds):
        with _ground(place) as ground:
            _upload(ground, TransferConfig())
            with ground.site.client(ground.folder / "first") as hub:
                hub.push(REFERENCE, ground.file)
            config = config or _tuned(lambda config, ground=ground: _download(ground, config))
            warm_memory(place.size_bytes)
            downloading = timed(lambda ground=ground, config=config: _download(ground, config)).seconds
            ours = {who: _pull(ground, keeps=keeps).seconds for who, keeps in ((OURS, False), (KEPT, True))}
            _note(found, {**ours, BOTO3: downloading}, number)
    aim = Aim(1 / 0.9, 1.0, BOTO3)
    figures = [
        _figure(place, OURS, found[OURS], aim),
        _figure(place, KEPT, found[KEPT], aim),
        _figure(place, BOTO3, found[BOTO3]),
    ]
    return Table("bucket-pull", f"Pull of a file from a bucket, cold{_say(config)}", place.name, figures)


def count_bytes(place: Place) -> Table:
    """Count what passes between client, service and bucket for one push and one pull."""
    with running_bucket(place) as (bucket, folder), counting(bucket.endpoint_url) as far:
        file = _new_file(place, folder)
        with serving(folder / "service", variables_of(bucket, far.url)) as site, counting(site.url) as near:
            through = Site(near.url, site.pid, site.token, site.folder)
            before = _counts(near, far)
            with through.client(folder / "first") as hub:
                hub.push(REFERENCE, file)
            between = _counts(near, far)
            with through.client(folder / "cache") as hub:
                hub.download(REFERENCE, folder / "files")
            after = _counts(near, far)
    size_mib = place.size_bytes / MIB
    figures: list[Figure] = []
    for verb, start, end in (("push", before, between), ("pull", between, after)):
        for what, first, last in zip(_COUNTED, start, end, strict=True):
            aims = _byte_aims(verb, what, size_mib)
            figures.append(Figure(f"{verb}: {what}", "MiB", [(last - first) / MIB], aims=aims))
    return Table("bucket-bytes", f"Bytes that pass for {size_mib:,.0f} MiB in a bucket", place.name, figures)


_COUNTED = (
    "between client and service",
    "between client and bucket",
    "service to bucket",
    "bucket to service",
)


def _counts(near: CountingProxy, far: CountingProxy) -> tuple[int, int, int, int]:
    own = os.getpid()
    near_total = near.sent.total() + near.received.total()
    client = far.sent[own] + far.received[own]
    return near_total, client, far.sent.total() - far.sent[own], far.received.total() - far.received[own]


def _byte_aims(verb: str, what: str, size_mib: float) -> list[Aim]:
    """Straight between client and bucket; the service reads what is new once, to believe it."""
    if what == "between client and bucket" or (what == "bucket to service" and verb == "push"):
        return [Aim(1.01 * size_mib)]
    return [Aim(1.0, 0.1)]


@contextmanager
def _ground(place: Place) -> Iterator[Ground]:
    with running_bucket(place) as (bucket, folder), serving(folder / "service", variables_of(bucket)) as site:
        with tempfile.TemporaryDirectory(dir=folder) as cache, site.client(Path(cache)) as hub:
            hub.push("bench/first", weights.make_state_dict(1))  # what is imported and opened once is not the row's
            hub.download("bench/first", Path(cache) / "files")
        yield Ground(bucket, site, folder, _new_file(place, folder))


@contextmanager
def running_bucket(place: Place) -> Iterator[tuple[BucketServer, Path]]:
    """Run a bucket server that is new, on a folder of the place: SeaweedFS gives no room back until it compacts."""
    with scratch(place, "bucket") as folder:
        server, stop = _start(folder)
        try:
            yield server, folder
        finally:
            stop()


def _start(folder: Path) -> tuple[BucketServer, Callable[[], None]]:
    """Start the server; it listens on ten ports, and others may take one of them first."""
    for number in range(ATTEMPTS - 1):
        with suppress(StartError):
            return start_seaweedfs(folder / f"seaweedfs{number}")
    return start_seaweedfs(folder / "seaweedfs")


def variables_of(bucket: BucketServer, endpoint_url: str | None = None) -> dict[str, str]:
    """Return the settings of a service on a bucket, reached at another endpoint where one is given."""
    endpoint = endpoint_url or bucket.endpoint_url
    return {
        "WEIGHBRIDGE_BLOBS_URL": f"s3://{bucket.bucket}/bench?endpoint={endpoint}&region={bucket.region}",
        "WEIGHBRIDGE_BLOBS_ACCESS_KEY": bucket.access_key,
        "WEIGHBRIDGE_BLOBS_SECRET_KEY": bucket.secret_key,
    }


def _new_file(place: Place, folder: Path) -> Path:
    file = folder / "model.safetensors"
    safetensors.torch.save_file(weights.make_state_dict(place.size_bytes), file)
    return file


def _tuned(transfer: Any) -> TransferConfig:
    """Return the configuration with which boto3 is the fastest here, each tried once."""
    tried: dict[tuple[int, int], float] = {}
    configs = {(part, threads): _config(part, threads) for part, threads in product(PARTS_MIB, THREADS)}
    for key, config in configs.items():
        tried[key] = timed(lambda config=config: transfer(config)).seconds
        say(f"  boto3 with parts of {key[0]} MiB and {key[1]} threads: {tried[key]:.2f} s")
    return configs[min(tried, key=lambda key: tried[key])]


def _config(part_mib: int, threads: int) -> TransferConfig:
    return TransferConfig(
        multipart_threshold=part_mib * MIB,
        multipart_chunksize=part_mib * MIB,
        max_concurrency=threads,
        io_chunksize=MIB,
    )


def _upload(ground: Ground, config: TransferConfig) -> None:
    ground.bucket.client().upload_file(str(ground.file), ground.bucket.bucket, "boto3", Config=config)


def _pull(ground: Ground, *, keeps: bool) -> Spent:
    warm_memory(ground.file.stat().st_size)
    with tempfile.TemporaryDirectory(dir=ground.folder) as own, ground.site.client(Path(own) / "cache") as hub:
        return timed(lambda: hub.download(REFERENCE, Path(own) / "files", cache=keeps))


def _download(ground: Ground, config: TransferConfig) -> None:
    target = ground.folder / "downloaded"
    target.unlink(missing_ok=True)
    ground.bucket.client().download_file(ground.bucket.bucket, "boto3", str(target), Config=config)


def _read(ground: Ground) -> None:
    body = ground.bucket.client().get_object(Bucket=ground.bucket.bucket, Key="boto3")["Body"]
    while body.read(MIB):
        pass


def _say(config: TransferConfig | None) -> str:
    return (
        ""
        if config is None
        else f" (boto3: {config.multipart_chunksize // MIB} MiB parts, {config.max_concurrency} threads)"
    )


def _note(found: dict[str, list[float]], measured: dict[str, float], number: int) -> None:
    say(f"  round {number}: " + ", ".join(f"{name} {value:.2f}" for name, value in measured.items()))
    for name, value in measured.items():
        if number:
            found[name].append(value)


def _figure(place: Place, who: str, values: list[float], *aims: Aim) -> Figure:
    return Figure(who, "s", values, place.size_bytes, aims)
