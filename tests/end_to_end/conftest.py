"""The three installations that the product promises to be the same on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from support.service import Service, running

from weighbridge import Client

INSTALLATIONS = ("sqlite-folder", "postgres-seaweedfs-boto3", "postgres-gateway-minio")


@pytest.fixture(scope="module", params=INSTALLATIONS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real service process on each installation, with a database and a place in the bucket of its own."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    with ExitStack() as stack:
        variables |= _settings(request, stack)
        if "WEIGHBRIDGE_DATABASE_URL" in variables:
            command = [str(Path(sys.executable).with_name("weighbridge")), "admin", "migrate"]
            subprocess.run(command, env=variables, check=True, timeout=60)
        yield stack.enter_context(running(tmp_path_factory.mktemp("service"), variables=variables))


def _settings(request: pytest.FixtureRequest, stack: ExitStack) -> dict[str, str]:
    kind = request.param
    if kind == "sqlite-folder":
        return {}
    postgres = request.getfixturevalue("postgres")
    settings = {"WEIGHBRIDGE_DATABASE_URL": postgres.url(stack.enter_context(postgres.new_database()))}
    if kind == "postgres-seaweedfs-boto3":
        bucket = request.getfixturevalue("seaweedfs")
        url = f"s3://{bucket.bucket}/{uuid4().hex}?endpoint={bucket.endpoint_url}&region={bucket.region}"
    else:
        bucket = request.getfixturevalue("minio_gateway")
        url = f"minio://{bucket.host_and_port}/{bucket.bucket}/{uuid4().hex}?secure=false"
    return settings | {
        "WEIGHBRIDGE_BLOBS_URL": url,
        "WEIGHBRIDGE_BLOBS_ACCESS_KEY": bucket.access_key,
        "WEIGHBRIDGE_BLOBS_SECRET_KEY": bucket.secret_key,
    }


@pytest.fixture
def hub(service: Service, tmp_path: Path) -> Iterator[Client]:
    """A client with an empty cache."""
    with Client(service.url, cache_dir=tmp_path / "cache", progress=False) as client:
        yield client
