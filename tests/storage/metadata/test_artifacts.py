import pytest
from actors import ADA

from registry.errors import (
    AmbiguousWeightsError,
    ArtifactNotFoundError,
    NoWeightsError,
    VersionNotFoundError,
)
from registry.schema import ArtifactManifest
from storage.metadata.records import Extent

MODEL = ("vision", "resnet50")


def test_an_artifact_is_found_with_its_extents(catalog, prepare):
    new = prepare(files={"model.pt": b"weights", "ümlaut/README.md": b"read me!"}, aliases=["prod"])
    catalog.publish(new)
    for selector in ("1", "latest", "prod", new.artifacts[0].info.sha256):
        stored = catalog.get_artifact(*MODEL, selector, "ümlaut/README.md")
        assert stored.info == new.artifacts[1].info
        assert stored.extents == (Extent(new.artifacts[1].location, 0, 8),)
        assert stored.version_number == 1


def test_an_unknown_path_is_answered_with_those_that_exist(catalog, push):
    push(files={"model.pt": b"weights", "README.md": b"read me"})
    with pytest.raises(ArtifactNotFoundError, match=r"model\.pt, README\.md") as caught:
        catalog.get_artifact(*MODEL, "1", "readme.md")
    assert caught.value.extra == {"paths": ["model.pt", "README.md"]}


def test_a_deleted_version_serves_nothing(catalog, push):
    push()
    catalog.delete_version(*MODEL, 1, ADA)
    with pytest.raises(VersionNotFoundError):
        catalog.get_artifact(*MODEL, "1", "model.pt")
    with pytest.raises(VersionNotFoundError):
        catalog.get_manifests(*MODEL, "1")


def test_the_manifests_of_a_version_are_those_of_its_weights_in_order(catalog, prepare):
    files = {"b.pt": b"two", "README.md": b"read me", "a.pt": b"one", "c.pt": b"other"}
    new = prepare(files=files, weights=("b.pt", "a.pt"))
    catalog.publish(new)
    found = catalog.get_manifests(*MODEL, "latest")
    assert found == [
        ArtifactManifest(path=each.info.path, digest=each.info.manifest, manifest={"of": each.info.blake3})
        for each in (new.artifacts[0], new.artifacts[2])
    ]
    [other] = catalog.get_manifests(*MODEL, "1", "c.pt")
    assert other.path == "c.pt"


def test_ambiguous_weights_are_refused_with_the_candidates(catalog, push):
    push(files={"a.pt": b"one", "b.pt": b"two"}, weights=(), weights_problem="ambiguous_weights")
    with pytest.raises(AmbiguousWeightsError, match=r"a\.pt, b\.pt") as caught:
        catalog.get_manifests(*MODEL, "1")
    assert caught.value.extra == {"candidates": ["a.pt", "b.pt"]}
    assert catalog.get_manifests(*MODEL, "1", "b.pt")[0].path == "b.pt"


def test_a_version_or_artifact_without_weights_says_so(catalog, push):
    push(files={"README.md": b"read me"}, weights=(), weights_problem="no_weights", kind="opaque")
    with pytest.raises(NoWeightsError):
        catalog.get_manifests(*MODEL, "1")
    with pytest.raises(NoWeightsError, match=r"README\.md"):
        catalog.get_manifests(*MODEL, "1", "README.md")
    with pytest.raises(ArtifactNotFoundError):
        catalog.get_manifests(*MODEL, "1", "model.pt")
