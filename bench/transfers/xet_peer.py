"""Xet as a peer: the real huggingface_hub and hf_xet, which push to the least of a Hub that they take for one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.service import free_port

from transfers.processes import stopped, wait_until_answered
from transfers.workers import Worker

NAME = "Xet 1.8"
_HERE = Path(__file__).parent


@contextmanager
def receiving(folder: Path) -> Iterator[tuple[str, int]]:
    """Run the receiver on a folder; yield its URL and its process."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = folder / "receiver.log"
    with log.open("wb") as output:
        command = [sys.executable, _HERE / "xet_receiver.py", str(port), folder / "xorbs"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    with stopped(process):
        wait_until_answered(process, f"http://127.0.0.1:{port}/healthz", log, seconds=30)
        yield f"http://127.0.0.1:{port}", process.pid


def client(folder: Path, url: str, server_pid: int) -> Worker:
    """Return a client process, to be used as a context manager, that remembers what it pushed below the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own |= {"HF_ENDPOINT": url, "HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_bench"}
    own |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return Worker(NAME, [sys.executable, _HERE / "xet_worker.py"], folder, own, server_pid)
