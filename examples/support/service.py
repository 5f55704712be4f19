"""A throw-away service: `weighbridge serve`, or what is named instead, on a free port until a block ends."""

import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    Attributes:
        url: where it listens.
        pid: its process.
    """

    url: str
    pid: int


@contextmanager
def running(
    folder: Path,
    command: Sequence[str] | None = None,
    variables: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Service]:
    """Run a service with its data and its log in `folder`; stop it at the end as an operator would.

    Args:
        folder: exists, and belongs to this service.
        command: what to run; else the `weighbridge serve` that belongs to this Python.
        variables: environment variables to run it with; else this process's without `WEIGHBRIDGE_…`.
        port: where it listens; else on a free one.

    Raises:
        RuntimeError: it did not start; the message holds the end of its log.
    """
    port = port or free_port()
    command = command or [str(Path(sys.executable).with_name("weighbridge")), "serve"]
    if variables is None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    variables = {"WEIGHBRIDGE_DATA": str(folder / "data"), **variables, "WEIGHBRIDGE_PORT": str(port)}
    log = folder / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
    try:
        _wait_until_healthy(process, f"http://127.0.0.1:{port}", log)
        yield Service(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_SECONDS)


def free_port() -> int:
    """Return a port of loopback that nobody listens on, below those that kernels give to outgoing connections.

    Raises:
        OSError: none of a hundred ports is free.
    """
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("none of a hundred ports of loopback is free")


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()  # noqa: S310 - our own service on loopback
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"no service at {url} (exit status {process.poll()}):\n{log.read_text()[-3000:]}")
