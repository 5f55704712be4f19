"""An export folder that somebody made up or damaged: a named error, whatever is in it."""

import hashlib
import io
import json
import os

import pytest
import torch

from registry.client.client import Client
from registry.errors import (
    ArtifactNotFoundError,
    DigestMismatchError,
    InvalidMetadataError,
    InvalidNameError,
    InvalidPathError,
    InvalidRequestError,
    MalformedArtifactError,
    TooLargeError,
    WeighbridgeError,
)
from registry.exporting import reading

WHEN = "2026-01-02T03:04:05Z"
DATA = b"the weights"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def a_file(**changes):
    said = {"path": "model.pt", "file": "net/1/model.pt", "size_bytes": len(DATA), "blake3": "x"}
    return said | {"sha256": f"sha256:{sha256(DATA)}"} | changes


def a_version(number=1, **changes):
    said = {"team": "vision", "model": "net", "number": number, "kind": "opaque", "trust": "tensors"}
    said |= {"size_bytes": len(DATA), "created_at": WHEN, "created_by": "ada", "files": [a_file()]}
    return said | {"annotated_at": WHEN, "annotated_by": "ada"} | changes


def a_model(**changes):
    said = {"team": "vision", "name": "net", "created_at": WHEN, "created_by": "ada", "versions": [1]}
    return said | changes


def an_info(**changes):
    said = {"format": "weighbridge-export", "format_version": 1, "finished": True, "team": "vision"}
    said |= {"registry_id": "r", "service_url": "http://x", "service_version": "1", "exported_at": WHEN}
    return said | {"exported_by": "ada", "models": [{"name": "net", "folder": "net"}]} | changes


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "export"


@pytest.fixture
def write(folder):
    """Write an export of these documents, with digests that are right."""

    def write(info=None, model=None, versions=None, files=None):
        contents = {"net/1/model.pt": DATA} if files is None else files
        contents |= {"weighbridge.json": info or an_info(), "net/model.json": model or a_model()}
        contents |= {f"net/{each['number']}.json": each for each in versions or [a_version()]}
        lines = []
        for path, content in contents.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            lines.append(f"{sha256(data)}  {path}\n")
        (folder / "SHA256SUMS").write_text("".join(lines))

    return write


@pytest.fixture
def dry_run(live_server, folder):
    """Import the folder into a real service, as far as that goes without a change."""

    def dry_run():
        with Client(live_server.url, progress=False) as client:
            return client.import_team(folder, team="of-nobody", dry_run=True)

    return dry_run


def test_what_is_right_would_be_imported(write, dry_run):
    write()
    assert [(each.source, each.state) for each in dry_run().versions] == [("vision/net:1", "new")]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"info": {"finished": False}}, InvalidRequestError),
        ({"info": {"format_version": 2}}, InvalidRequestError),
        ({"info": {"format": "other"}}, MalformedArtifactError),
        ({"info": {"team": ".."}}, InvalidNameError),
        ({"info": {"team": 3}}, MalformedArtifactError),
        ({"info": {"models": [{"name": "net", "folder": "../net"}]}}, InvalidPathError),
        ({"info": {"models": [{"name": "net", "folder": "/net"}]}}, InvalidPathError),
        ({"info": {"models": [{"name": "other", "folder": "net"}]}}, MalformedArtifactError),
        ({"info": {"models": [{"name": "net", "folder": "net"}] * 2}}, MalformedArtifactError),
        (
            {"info": {"models": [{"name": "net", "folder": "net"}, {"name": "b", "folder": "net"}]}},
            MalformedArtifactError,
        ),
        ({"info": {"models": "net"}}, MalformedArtifactError),
        ({"info": {"models": [{"name": "net", "folder": "none"}]}}, ArtifactNotFoundError),
        ({"model": {"versions": [1, 1]}}, MalformedArtifactError),
        ({"model": {"versions": [0]}}, MalformedArtifactError),
        ({"model": {"versions": [10**30]}}, MalformedArtifactError),
        ({"model": {"versions": [1, 2]}}, ArtifactNotFoundError),
        ({"model": {"aliases": [{"name": "../x", "version": 1, "moved_at": WHEN, "moved_by": "a"}]}}, InvalidNameError),
        ({"version": {"number": 1, "model": "other"}}, MalformedArtifactError),
        ({"version": {"created_at": "yesterday"}}, MalformedArtifactError),
        ({"version": {"files": [a_file(size_bytes=-1)]}}, MalformedArtifactError),
        ({"version": {"metrics": {"loss": "low"}}}, MalformedArtifactError),
    ],
)
def test_a_folder_that_says_what_cannot_be_is_refused_by_name(write, dry_run, changes, error):
    version = a_version(**changes.get("version", {}))
    write(an_info(**changes.get("info", {})), a_model(**changes.get("model", {})), [version])
    with pytest.raises(error):
        dry_run()


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (a_file(file="../../secret"), "no valid artifact path"),
        (a_file(file="/etc/passwd"), "no valid artifact path"),
        (a_file(file="net"), "no plain file"),
        (a_file(path="../model.pt"), "no valid artifact path"),
        (a_file(file="net/1.json"), "not the"),
        (a_file(sha256="sha256:" + "0" * 64), "not the"),
        (a_file(size_bytes=3), "not the"),
        (a_file(file="x" * 300), "cannot be read"),
    ],
)
def test_a_file_that_is_elsewhere_or_another_never_leaves_the_folder(write, dry_run, file, says):
    write(versions=[a_version(files=[file])])
    try:
        said = " ".join(each.why for each in dry_run().versions)
    except WeighbridgeError as error:
        said = error.detail
    assert says in said


def test_links_and_pipes_in_the_folder_are_refused(write, dry_run, folder, tmp_path):
    (tmp_path / "secret").write_bytes(DATA)
    write()
    (folder / "net/1/model.pt").unlink()
    (folder / "net/1/model.pt").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidPathError, match="link"):
        dry_run()
    (folder / "net/1/model.pt").unlink()
    os.mkfifo(folder / "net/1/model.pt")
    with pytest.raises(InvalidPathError, match="no plain file"):
        dry_run()
    (folder / "net").rename(tmp_path / "elsewhere")
    (folder / "net").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidPathError, match="link"):
        dry_run()


def test_a_damaged_file_is_named_and_no_other_suffers(write, dry_run, folder):
    write(model=a_model(versions=[1, 2]), versions=[a_version(), a_version(2)])
    (folder / "net/1.json").write_bytes((folder / "net/1.json").read_bytes() + b" ")
    with pytest.raises(DigestMismatchError, match=r"net/1\.json"):
        dry_run()
    write(model=a_model(versions=[1, 2]), versions=[a_version(), a_version(2, files=[a_file(file="net/2/model.pt")])],
          files={"net/1/model.pt": DATA, "net/2/model.pt": DATA})  # fmt: skip
    (folder / "net/1/model.pt").write_bytes(b"the weighty")
    found = dry_run()
    assert [each.state for each in found.versions] == ["refused", "new"]
    assert "net/1/model.pt" in found.versions[0].why
    assert isinstance(found.failure, DigestMismatchError)


def test_what_the_list_of_digests_does_not_name_is_not_taken(write, dry_run, folder):
    write()
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if "model.json" not in line))
    with pytest.raises(DigestMismatchError, match="not named"):
        dry_run()
    sums.write_text("no digest\n")
    with pytest.raises(MalformedArtifactError):
        dry_run()
    sums.unlink()
    with pytest.raises(ArtifactNotFoundError):
        dry_run()


def test_documents_have_a_largest_size(write, dry_run, folder, monkeypatch):
    write()
    with (folder / "weighbridge.json").open("r+b") as file:
        file.truncate(reading.MAX_DOCUMENT_BYTES + 1)
    with pytest.raises(TooLargeError):
        dry_run()
    write()
    with (folder / "SHA256SUMS").open("r+b") as file:
        file.truncate(reading.MAX_SUMS_BYTES + 1)
    with pytest.raises(TooLargeError):
        dry_run()


def test_deeply_nested_json_is_refused(write, dry_run):
    builder = b'{"callable": "a:b", "arguments": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    version = json.dumps(a_version()).encode()[:-1] + b', "builder": ' + builder + b"}"
    write(model=a_model(versions=[9]), files={"net/1/model.pt": DATA, "net/9.json": version})
    with pytest.raises(MalformedArtifactError):
        dry_run()


@pytest.mark.parametrize("changes", [{"info": {"service_url": "\0"}}, {"model": {"description": "\0"}},
                                     {"model": {"tags": {"?": "x"}}}, {"version": {"description": "\0"}},
                                     {"version": {"created_by": "x" * 3000}}, {"version": {"deprecated": "\0"}},
                                     {"version": {"metrics": {"loss": float("inf")}}}])  # fmt: skip
def test_what_no_registry_says_is_refused_by_name(write, live_server, folder, changes, request):
    file = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, file)
    data = file.getvalue()
    said = a_file(size_bytes=len(data), sha256=f"sha256:{sha256(data)}")
    alias = {"name": "prod", "version": 1, "moved_at": WHEN, "moved_by": "ada"}
    write(
        an_info(**changes.get("info", {})),
        a_model(**{"aliases": [alias]} | changes.get("model", {})),
        [a_version(**{"files": [said]} | changes.get("version", {}))],
        {"net/1/model.pt": data},
    )
    with Client(live_server.url, progress=False) as client:
        try:
            failure = client.import_team(folder, team=f"t-{sha256(request.node.name.encode())[:10]}").failure
        except WeighbridgeError as error:
            failure = error
    assert isinstance(failure, InvalidMetadataError | MalformedArtifactError)


def test_what_is_wrong_with_one_version_or_alias_stops_no_other(write, live_server, folder):
    weights = {}
    for number in (1, 2):
        file = io.BytesIO()
        torch.save({"weight": torch.full((number,), 1.0)}, file)
        weights[f"net/{number}/model.pt"] = file.getvalue()
    versions = [
        a_version(number, files=[a_file(file=path, size_bytes=len(data), sha256=f"sha256:{sha256(data)}")])
        for number, (path, data) in enumerate(weights.items(), start=1)
    ]
    aliases = [{"name": name, "version": 2, "moved_at": WHEN, "moved_by": "ada"} for name in ("a", "b")]
    write(
        an_info(service_url="\0"),
        a_model(versions=[1, 2], aliases=aliases),
        [versions[0] | {"description": "\0"}, versions[1]],
        weights,
    )
    with Client(live_server.url, progress=False) as client:
        done = client.import_team(folder, team="one-of-two")
    assert [each.state for each in done.versions] == ["refused", "new"]
    assert [each.state for each in done.aliases] == ["refused", "refused"]
    assert (isinstance(done.failure, InvalidMetadataError), done.stopped) == (True, False)


def test_versions_based_on_each_other_in_a_circle_are_refused(write, dry_run):
    versions = [a_version(1, base="vision/net:2"), a_version(2)]
    write(model=a_model(versions=[1, 2]), versions=versions)
    with pytest.raises(MalformedArtifactError, match="circle"):
        dry_run()
