"""Clients that push and download, killed at random moments: forks of one process that has imported everything.

Run as a program: URL, cache folder, file, how many, seed. At the end it pushes and downloads once undisturbed, and
prints the version's number and the path of what came back.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from registry.client import push
from weighbridge import Client


def work(url: str, cache: Path, file: Path, target: Path) -> int:
    """Push the file and download what came of it."""
    push.PLANNED_BYTES = 1
    hub = Client(url, cache_dir=cache, progress=False)
    version = hub.push("vision/killed-clients", file)
    for entry in hub.connection.cache.iter_entries():
        entry.path.unlink()
    hub.download(version.reference, target)
    return version.number


def main() -> None:
    """Kill many, then let one live."""
    url, cache, file, target = sys.argv[1], *map(Path, sys.argv[2:5])
    count, chance = int(sys.argv[5]), random.Random(int(sys.argv[6]))
    began = time.monotonic()
    work(url, cache, file, target)
    takes_seconds = time.monotonic() - began
    for _ in range(count):
        child = os.fork()
        if not child:
            work(url, cache, file, target)
            os._exit(0)
        time.sleep(chance.uniform(0, takes_seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    sys.stdout.write(f"{work(url, cache, file, target)}\n")


if __name__ == "__main__":
    main()
