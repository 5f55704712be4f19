"""Where a run works: a folder in memory or on disk, and the services on it with tokens on."""

import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.service import running

from weighbridge import Client

MIB = 1 << 20
ROOT = "the administrator's token of the bench"
TEAM = "bench"
_LARGE_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to work in.

    Attributes:
        name: for people.
        folder: what a run makes goes below it.
        sync: whether plain copies wait for the disk, as the service does.
        rounds: how often each peer is asked, the first time to warm up.
        size_bytes: of what is moved.
        keep: where what takes long to install is kept between runs.
    """

    name: str
    folder: Path
    sync: bool
    rounds: int
    size_bytes: int
    keep: Path


@dataclass(frozen=True, slots=True)
class Site:
    """A running service.

    Attributes:
        url: where it listens.
        pid: its process.
        token: of an administrator.
        folder: its data.
    """

    url: str
    pid: int
    token: str
    folder: Path

    def client(self, cache: Path) -> Client:
        """Return a client whose cache is there."""
        return Client(self.url, self.token, cache_dir=cache, progress=False)

    def free_room(self) -> None:
        """Take away the bytes that earlier rounds stored, so that all peers work with the same memory and disk."""
        for file in self.folder.rglob("*"):
            if file.is_file() and file.stat().st_size > _LARGE_BYTES and "catalog" not in file.name:
                file.unlink()


@contextmanager
def serving(folder: Path, variables: Mapping[str, str] = {}) -> Iterator[Site]:
    """Run a service in team mode on a folder, with a user whose token is in its database, as people have one."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    own |= {"WEIGHBRIDGE_TEAMS": "true", "WEIGHBRIDGE_TOKEN": ROOT, "WEIGHBRIDGE_REQUESTS_PER_MINUTE": "0"}
    with running(folder, variables=own | dict(variables)) as service:
        _ask(service.url, "PUT", "users/bench", {"administrator": True})
        _ask(service.url, "PUT", f"teams/{TEAM}", {})
        made = _ask(
            service.url,
            "POST",
            "tokens",
            {"name": "bench", "user": "bench", "scopes": ["admin", "promote", "push", "read"]},
        )
        yield Site(service.url, service.pid, made["token"], folder / "data")


@contextmanager
def scratch(place: Place, name: str) -> Iterator[Path]:
    """Yield a new folder of the place, which is gone afterwards."""
    made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place.folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def copy(source: Path, target: Path, *, sync: bool) -> None:
    """Copy a file, and with `sync` wait until the disk has it."""
    shutil.copyfile(source, target)
    if sync:
        synchronise(target)


def synchronise(file: Path) -> None:
    """Wait until the disk has a file."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _ask(url: str, method: str, path: str, body: Mapping[str, object]) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {ROOT}", "Content-Type": "application/json"}
    request = urllib.request.Request(  # noqa: S310 - our own service on loopback
        f"{url}/api/v1/{path}", json.dumps(body).encode(), headers, method=method
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
        return json.loads(answer.read())
