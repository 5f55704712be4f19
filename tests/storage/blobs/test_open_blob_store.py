"""From a URL to a store, and what a wrong URL is told."""

import subprocess
import sys

import pytest
from pydantic import SecretStr

from registry.errors import ConfigurationError
from storage.blobs import open_blob_store
from storage.blobs.base import new_location

BLOCKED = """
import sys
sys.modules[sys.argv[1]] = None
from pydantic import SecretStr
from registry.errors import ConfigurationError
from storage.blobs import open_blob_store
try:
    open_blob_store(sys.argv[2], access_key="a", secret_key=SecretStr("b"))
except ConfigurationError as error:
    print(error.detail)
"""


def round_trip(store):
    location = new_location()
    with store.create(location) as writer:
        writer.write(b"there and back")
        writer.commit()
    assert b"".join(store.stream(location)) == b"there and back"
    assert list(store.iter_locations()) == [location]
    store.delete(location)


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_folder_is_opened(tmp_path, form):
    round_trip(open_blob_store(form.format(tmp_path / "blobs")))

    assert (tmp_path / "blobs" / "objects").is_dir()


def test_a_path_is_opened_and_a_url_may_quote(tmp_path):
    round_trip(open_blob_store(tmp_path / "a folder"))
    round_trip(open_blob_store(f"file://{tmp_path}/a%20folder"))


@pytest.mark.parametrize("library", ["s3", "minio"])
@pytest.mark.parametrize("server_fixture", ["seaweedfs", "minio_gateway"])
def test_a_bucket_is_opened(request, library, server_fixture):
    server = request.getfixturevalue(server_fixture)
    urls = {
        "s3": f"s3://{server.bucket}/of/{library}?endpoint={server.endpoint_url}&region=us-east-1&addressing=path",
        "minio": f"minio://{server.host_and_port}/{server.bucket}/of/{library}?secure=false",
    }

    round_trip(open_blob_store(urls[library], access_key=server.access_key, secret_key=SecretStr(server.secret_key)))


@pytest.mark.parametrize(
    "url", ["s3://bucket?endpoint=http://10.0.0.1:9000", "minio://10.0.0.1:9000/bucket?secure=false"]
)
def test_urls_for_clients_carry_the_public_endpoint(url):
    store = open_blob_store(f"{url}&public_endpoint=https://models.example", access_key="a", secret_key=SecretStr("b"))

    location = new_location()
    assert store.presign_read(location, 0, 1, 60).url.startswith(f"https://models.example/bucket/objects/{location}?")
    assert store.presign_part(location, "upload", 1, 60).url.startswith("https://models.example/bucket/objects/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket", "gs:// is no blob store"),
        ("s3://", "names no bucket"),
        ("s3://bucket?region=x&endpont=http://h", "endpont"),
        ("s3://bucket?endpoint=h:9000", "no endpoint"),
        ("s3://bucket?endpoint=http://user:pw@h:9000", "no endpoint"),
        ("s3://bucket?addressing=dns", "addressing=dns"),
        ("s3://bucket/a/../b", "prefix"),
        ("s3://bucket?endpoint=http://h&access_key=x", "access_key"),
        ("s3://key:hush@bucket", "access key and secret key"),
        ("minio://key:hush@host:9000/bucket", "access key and secret key"),
        ("minio://host:9000", "names no bucket"),
        ("minio://host:9000/bucket?secure=maybe", "secure=maybe"),
        ("minio://host:port/bucket", "settings"),
        ("file://server/share", "names no folder"),
        ("file:relative", "names no folder"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong(url, said):
    with pytest.raises(ConfigurationError) as raised:
        open_blob_store(url, access_key="a", secret_key=SecretStr("b"))

    assert said in raised.value.detail
    assert "hush" not in raised.value.detail


@pytest.mark.parametrize("url", ["s3://bucket?endpoint=http://host", "minio://host:9000/bucket"])
def test_half_a_pair_of_keys_is_refused(url):
    with pytest.raises(ConfigurationError, match="secret key"):
        open_blob_store(url, access_key="a")


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [("boto3", "s3://bucket", "weighbridge[s3]"), ("minio", "minio://host:9000/bucket", "weighbridge[minio]")],
)
def test_a_missing_library_names_the_extra_to_install(package, url, extra):
    answer = subprocess.run(
        [sys.executable, "-c", BLOCKED, package, url], capture_output=True, text=True, timeout=60, check=True
    )

    assert f"pip install '{extra}'" in answer.stdout


def test_a_folder_needs_no_bucket_library():
    script = "import sys, storage.blobs.local; print({'boto3', 'minio', 'botocore'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert answer.stdout.strip() == "set()"
