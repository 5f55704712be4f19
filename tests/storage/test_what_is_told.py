"""What a version tells of the code in its files: all that matters, and no more of it than an answer can carry."""

import dataclasses
import io

import pytest
import torch
from corpus.archives import torch_zip
from corpus.assembly import PROTO_2, STOP, named
from small_nets import Net
from sqlalchemy import select, update

from registry.errors import UnsafeArtifactError
from registry.schema import VersionCreate
from storage.access import Caller
from storage.draft import begin
from storage.metadata.tables import ArtifactRow
from storage.publish import publish
from storage.read import get_manifest, get_version

CALLER = Caller("tester", is_administrator=True)
MANY = 3000


@pytest.fixture
def stores(open_installation):
    return open_installation("one")


def push(stores, content):
    draft = begin(stores, CALLER, "vision", "net")
    try:
        incoming = draft.open_file("model.pt")
        incoming.write(content)
        draft.close_file(incoming)
        return publish(draft, VersionCreate())
    except BaseException:
        draft.abandon()
        raise


def mentioning(*pairs):
    """Return a file whose pickle mentions classes and functions, as `module:name`, and calls none of them."""
    return torch_zip(PROTO_2 + b"](" + b"".join(map(named, pairs)) + b"e" + STOP)


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def test_a_version_tells_the_reasons_and_the_classes_and_marks_those_outside_torch(stores):
    (artifact,) = push(stores, saved(Net())).artifacts
    assert artifact.trust == "code"
    assert "small_nets.Net" in artifact.reasons[0]
    assert artifact.globals == sorted(artifact.globals)
    assert artifact.global_count == len(artifact.globals)
    assert {"small_nets.Net", "torch.nn.modules.linear.Linear"} <= set(artifact.globals)
    assert artifact.marked_globals == ["small_nets.Block", "small_nets.Net"]
    assert get_version(stores, CALLER, "vision", "net", "latest").artifacts == [artifact]


def test_of_thousands_of_classes_a_version_tells_the_first_ones_and_the_manifest_all(stores):
    classes = [f"torch.nn.modules.made_up:Layer{number:04}" for number in range(MANY)]
    version = push(stores, mentioning("zebra:Net", *classes))
    (artifact,) = version.artifacts
    assert (len(artifact.globals), artifact.global_count) == (200, MANY + 1)
    assert artifact.marked_globals == ["zebra.Net"]
    assert len(version.model_dump_json()) < 20_000
    stored = stores.catalog.database.read(lambda session: session.scalars(select(ArtifactRow.globals)).one())
    assert stored == artifact.globals
    (told,) = get_manifest(stores, CALLER, "vision", "net", "latest", "model.pt").artifacts
    assert len(told.manifest["foreign_globals"]) == MANY + 1


def test_what_was_stored_before_there_was_a_bound_is_told_within_it(stores):
    push(stores, saved(Net()))
    before = {"globals": [f"a.B{number}" for number in range(MANY)], "global_count": None}
    stores.catalog.database.write(lambda session: session.execute(update(ArtifactRow).values(before)))
    (artifact,) = get_version(stores, CALLER, "vision", "net", "latest").artifacts
    assert (len(artifact.globals), artifact.global_count) == (200, MANY)


@pytest.mark.parametrize(
    "content",
    [
        mentioning("os:system", *(f"mynet:Layer{number}" for number in range(MANY))),
        torch_zip(PROTO_2 + b"](" + b"".join(named(f"mynet:L{n}") for n in range(MANY)) + named("os:system")),
    ],
    ids=["whole", "broken off"],
)
def test_a_refusal_tells_what_does_harm_and_only_so_much_of_the_rest(stores, content):
    with pytest.raises(UnsafeArtifactError) as refused:
        push(stores, content)
    assert "os.system" in " ".join([refused.value.detail, *refused.value.extra["reasons"]])
    assert refused.value.extra["global_count"] == MANY + 1
    assert len(refused.value.extra["globals"]) == 200
    assert len(str(refused.value.extra)) + len(refused.value.detail) < 20_000
    assert list(stores.blobs.iter_locations()) == []


def test_a_refusal_of_code_tells_its_classes_and_reasons(stores):
    strict = dataclasses.replace(stores, allow_code=False)
    with pytest.raises(UnsafeArtifactError, match="tensors only") as refused:
        push(strict, saved(Net()))
    assert "small_nets.Net" in refused.value.extra["globals"]
    assert "runs code" in refused.value.extra["reasons"][0]
    assert list(stores.blobs.iter_locations()) == []


def test_the_source_that_a_legacy_file_brings_along_is_in_its_manifest(stores):
    version = push(stores, saved(Net(), _use_new_zipfile_serialization=False))
    (told,) = get_manifest(stores, CALLER, "vision", "net", "latest", None).artifacts
    assert told.manifest["sources"]["small_nets.Net"].startswith("class Net(nn.Module):")
    assert "It carries the source of its classes" in version.artifacts[0].reasons[-1]
