"""`make bench`: does the server's memory move with a model's size, and what does a push cost next to a copy?

Every measurement is warmed up once and discarded; the peers alternate, so that a slow minute of the machine hits all.
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import torch
from memory import watching
from support.service import Service, running

from weighbridge import Client

MIB = 1 << 20
GIB = 1 << 30
PIECE_BYTES = 1 * MIB
TENSOR_BYTES = 64 * MIB
MEMORY_LIMIT_BYTES = 64 * MIB


def main() -> None:
    """Measure and print."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-", dir=options.folder) as name:
        folder = Path(name)
        with running(folder) as service:
            measure_memory(service, folder, int(options.file_gib * GIB))
            measure_speed(service, folder, int(options.state_dict_gib * GIB), options.rounds)


def parse_options() -> argparse.Namespace:
    """Read sizes and rounds from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file-gib", type=float, default=4, help="size of the file whose passage must not move memory")
    parser.add_argument("--state-dict-gib", type=float, default=1, help="size of what is pushed, pulled and copied")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count; one more warms up")
    parser.add_argument("--folder", help="where to work; else the system's temporary folder")
    return parser.parse_args()


def measure_memory(service: Service, folder: Path, size_bytes: int) -> None:
    """Upload and download a large file and print how far the server's anonymous memory rose."""
    small, large = folder / "small.safetensors", folder / "large.safetensors"
    write_safetensors(small, TENSOR_BYTES)
    write_safetensors(large, size_bytes)
    for path in (small, large):
        with watching(service.pid) as uploading:
            upload_seconds = timed(lambda path=path: upload(service.url, path))
        with watching(service.pid) as downloading:
            download_seconds = timed(lambda path=path: download(service.url, path))
    large.unlink()
    size = f"{size_bytes / GIB:g} GiB"
    print(f"The server's anonymous memory (RssAnon, with its worker processes), limit {MEMORY_LIMIT_BYTES // MIB} MiB")
    for verb, seconds, watched in (
        ("upload", upload_seconds, uploading),
        ("download", download_seconds, downloading),
    ):
        verdict = "within" if watched.moved < MEMORY_LIMIT_BYTES else "ABOVE"
        print(
            f"  {verb:<9} {size}: rose {watched.moved / MIB:6.1f} MiB above {watched.before / MIB:.0f} MiB, {verdict} "
            f"the limit; {seconds:6.1f} s, {size_bytes / seconds / 1e9:.2f} GB/s"
        )


def measure_speed(service: Service, folder: Path, size_bytes: int, rounds: int) -> None:
    """Time copy, push and pull of one state_dict, and print the medians beside the copy's."""
    state_dict = {f"layer{i}.weight": torch.rand(TENSOR_BYTES // 4) for i in range(max(size_bytes // TENSOR_BYTES, 1))}
    size_bytes = len(state_dict) * TENSOR_BYTES
    original = folder / "original.pt"
    torch.save(state_dict, original)
    hub = Client(service.url, cache_dir=folder / "cache", progress=False)

    def cold_pull() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            Client(service.url, cache_dir=cache, progress=False).pull("bench/state_dict")

    peers: dict[str, Callable[[], object]] = {
        "plain copy, synced": lambda: copy(original, folder / "copy.pt"),
        "SHA-256 of the file": lambda: digest(original),
        "push of the file": lambda: hub.push("bench/file", original),
        "push of the state_dict": lambda: hub.push("bench/state_dict", state_dict),
        "pull, nothing cached": cold_pull,
        "pull, cached": lambda: hub.pull("bench/state_dict"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds + 1):
        for name, peer in peers.items():
            took = timed(peer)
            if number:
                seconds[name].append(took)
    report(size_bytes, {name: statistics.median(took) for name, took in seconds.items()}, rounds)


def report(size_bytes: int, medians: dict[str, float], rounds: int) -> None:
    """Print a table of medians."""
    copied = next(iter(medians.values()))
    print(f"\nOne state_dict of {size_bytes / GIB:g} GiB, median of {rounds}")
    for name, took in medians.items():
        print(f"  {name:<24} {took:7.2f} s  {size_bytes / took / 1e9:6.2f} GB/s  {took / copied:6.2f} x the copy")


def write_safetensors(path: Path, size_bytes: int) -> None:
    """Write a file of float32 tensors that is mostly a hole: it takes no disk until the server stores it."""
    count = max(size_bytes // TENSOR_BYTES, 1)
    header = {
        f"layer{i}.weight": {
            "dtype": "F32",
            "shape": [TENSOR_BYTES // 4],
            "data_offsets": [i * TENSOR_BYTES, (i + 1) * TENSOR_BYTES],
        }
        for i in range(count)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        for number in range(count):
            file.seek(start + number * TENSOR_BYTES)
            file.write(os.urandom(PIECE_BYTES))
        file.truncate(start + count * TENSOR_BYTES)


def upload(url: str, path: Path) -> None:
    """Send a file as `curl -T` does."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, blocksize=PIECE_BYTES)
    target = f"/api/v1/models/bench/{path.stem}/upload/{path.name}"
    with path.open("rb") as body:
        connection.request("PUT", target, body=body, headers={"Content-Length": str(path.stat().st_size)})
        finish(connection, expected_status=http.client.CREATED)


def download(url: str, path: Path) -> None:
    """Read the same file back and drop it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", f"/api/v1/models/bench/{path.stem}/versions/latest/artifacts/{path.name}")
    received = finish(connection, expected_status=http.client.OK)
    if received != path.stat().st_size:
        raise RuntimeError(f"{received} bytes came back of {path.stat().st_size}")


def finish(connection: http.client.HTTPConnection, expected_status: int) -> int:
    """Read an answer to its end and return its size in bytes."""
    answer = connection.getresponse()
    if answer.status != expected_status:
        raise RuntimeError(f"{answer.status}: {answer.read(2000).decode(errors='replace')}")
    buffer, received = bytearray(PIECE_BYTES), 0
    while count := answer.readinto(buffer):
        received += count
    connection.close()
    return received


def copy(source: Path, target: Path) -> None:
    """Copy a file and wait until the disk has it, as the server does before it names one."""
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, PIECE_BYTES)
        writing.flush()
        os.fsync(writing.fileno())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file: what every push pays at least once on each side."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
