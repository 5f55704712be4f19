"""Rows of memory: what server and client hold for themselves while many transfers run at once."""

import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from memory import Watched, watching

from transfers.place import MIB, Place, Site, scratch, serving
from transfers.processes import stopped
from transfers.rounds import Aim, Figure, Table, say

TRANSFERS = 16
TENSOR_BYTES = 64 * MIB
AIMS = {"server": Aim(64), "client": Aim(128)}
"""In MiB, for all transfers together. A whole model in memory would be a multiple of it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How long all transfers took, and what server and client held meanwhile."""

    seconds: float
    server: Watched
    client: Watched


def up(place: Place) -> Table:
    """Push 16 files at once by threads of one client."""
    return _measure("memory-up", "16 pushes at once", place, "push", with_files=False)


def down(place: Place) -> Table:
    """Pull 16 files at once by threads of one client, nothing cached."""
    return _measure("memory-down", "16 pulls at once", place, "download", with_files=True)


def _measure(row: str, title: str, place: Place, verb: str, *, with_files: bool) -> Table:
    with (
        scratch(place, "many") as folder,
        serving(folder / "service", {"WEIGHBRIDGE_UPLOADS_PER_CALLER": "0"}) as site,
    ):
        files = folder / "files"
        files.mkdir()
        for number in range(TRANSFERS):
            write_mostly_hole(files / f"net{number}.safetensors", place.size_bytes)
        if with_files:
            _run(site, folder, "push")
        ran = _run(site, folder, verb)
    figures = [
        Figure(f"{who}: RssAnon rose by", "MiB", [watched.moved / MIB], aims=[AIMS[who]])
        for who, watched in (("server", ran.server), ("client", ran.client))
    ]
    figures.append(Figure("server: RssAnon before", "MiB", [ran.server.before / MIB]))
    figures.append(Figure("client: RssAnon before", "MiB", [ran.client.before / MIB]))
    figures.append(Figure("all of them took", "s", [ran.seconds], place.size_bytes * TRANSFERS))
    return Table(row, f"{title}, {place.size_bytes / (1 << 30):g} GiB each", place.name, figures)


def _run(site: Site, folder: Path, verb: str) -> Ran:
    """Run 16 transfers in a client process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "transfers.many_worker", site.url, verb, str(folder), str(TRANSFERS)],
        env=os.environ | {"WEIGHBRIDGE_TOKEN": site.token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None  # noqa: S101 - as it was started
    assert process.stdout is not None  # noqa: S101 - as it was started
    with stopped(process):
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the client did not start")
        start = time.perf_counter()
        with watching(site.pid) as server, watching(process.pid) as client:
            process.stdin.write("go\n")
            process.stdin.flush()
            if process.stdout.readline() != "done\n":
                raise RuntimeError("a transfer failed")
            seconds = time.perf_counter() - start
    say(f"  {verb}: {seconds:.1f} s")
    return Ran(seconds, server, client)


def write_mostly_hole(path: Path, size_bytes: int) -> None:
    """Write a safetensors file whose tensors begin at random and go on as a hole: the service stores them in full."""
    count = max(size_bytes // TENSOR_BYTES, 1)
    length = size_bytes // count // 4 * 4
    header = {
        f"layer{i}.weight": {"dtype": "F32", "shape": [length // 4], "data_offsets": [i * length, (i + 1) * length]}
        for i in range(count)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        for number in range(count):
            file.seek(start + number * length)
            file.write(os.urandom(min(MIB, length)))
        file.truncate(start + count * length)
