"""The registry that an example talks to: yours, or a throw-away one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.service import running
from support.story import say
from weighbridge import Client


@contextmanager
def connected() -> Iterator[Client]:
    """Yield a client of the service at WEIGHBRIDGE_URL, or of one that runs until the block ends."""
    if "WEIGHBRIDGE_URL" in os.environ:
        with Client() as hub:
            yield hub
        return
    with tempfile.TemporaryDirectory(prefix="weighbridge-example-") as name:
        folder = Path(name)
        with running(folder) as service, Client(service.url, cache_dir=folder / "cache", progress=False) as hub:
            say(f"A throw-away service runs at {service.url}. WEIGHBRIDGE_URL names another.")
            yield hub
