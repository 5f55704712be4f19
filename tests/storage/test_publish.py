import dataclasses
import io
import pickle

import pytest
import torch
from embedded import make_weights
from torch.distributed.checkpoint.metadata import Metadata

from registry.digest import blake3_digest
from registry.errors import (
    BlobStoreUnavailableError,
    InvalidReferenceError,
    MalformedArtifactError,
    NoWeightsError,
    UnavailableError,
    UnsafeArtifactError,
    VersionNotFoundError,
)
from registry.schema import VersionCreate
from storage.access import Caller
from storage.draft import begin
from storage.metadata.garbage import end_writes
from storage.metadata.tables import WriteIntentRow
from storage.publish import publish
from storage.read import get_manifest

CALLER = Caller("tester", is_administrator=True)


class Harm:
    def __reduce__(self):
        return eval, ("1",)


@pytest.fixture
def stores(open_installation):
    return open_installation("one")


@pytest.fixture
def push_files():
    """Push files, or leave nothing of them."""

    def push(stores, files, model="net", **metadata):
        draft = begin(stores, CALLER, "vision", model)
        try:
            for path, content in files.items():
                incoming = draft.open_file(path)
                incoming.write(content)
                draft.close_file(incoming)
            return publish(draft, VersionCreate.model_validate(metadata))
        except BaseException:
            draft.abandon()
            raise

    return push


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_folder_of_a_distributed_checkpoint_is_kept_and_judged_as_code(stores, push_files):
    files = {"step/.metadata": pickle.dumps(Metadata({}), 2), "step/__0_0.distcp": make_weights() * 2}
    version = push_files(stores, {**files, "notes.txt": b"from step 5"})
    found = {each.path: (each.format, each.trust, each.kind) for each in version.artifacts}
    assert found == {
        "step/.metadata": ("dcp", "code", "opaque"),
        "step/__0_0.distcp": ("dcp", "code", "opaque"),
        "notes.txt": (None, "tensors", "opaque"),
    }
    assert (version.trust, version.weights_problem) == ("code", "no_weights")


def test_a_harmful_pickle_hides_in_no_distributed_checkpoint(stores, push_files):
    files = {"step/.metadata": pickle.dumps(Harm(), 2), "step/__0_0.distcp": make_weights()}
    with pytest.raises(UnsafeArtifactError, match="eval"):
        push_files(stores, files)
    assert list(stores.blobs.iter_locations()) == []


def test_an_installation_can_refuse_what_runs_code(stores, push_files):
    strict = dataclasses.replace(stores, allow_code=False)
    module = saved(torch.nn.Linear(2, 3))
    for files in (
        {"model.pt": module},
        {"step/.metadata": pickle.dumps(Metadata({}), 2), "step/__0_0.distcp": make_weights()},
    ):
        with pytest.raises(UnsafeArtifactError, match="tensors only"):
            push_files(strict, files)
    assert list(stores.blobs.iter_locations()) == []
    assert push_files(stores, {"model.pt": module}).trust == "code"
    assert push_files(strict, {"model.pt": make_weights()}).number == 2


def test_one_file_that_runs_code_taints_the_version_and_not_its_weights(stores, push_files):
    version = push_files(stores, {"model.pt": make_weights(), "training_args.bin": saved(torch.nn.Linear(1, 1))})
    assert version.trust == "code"
    assert {each.path: each.trust for each in version.artifacts} == {"model.pt": "tensors", "training_args.bin": "code"}


def test_the_only_artifact_is_weights_or_malformed(stores, push_files):
    with pytest.raises(MalformedArtifactError, match="notes"):
        push_files(stores, {"notes": b"hello"})
    assert push_files(stores, {"notes": make_weights()}).weights == ["notes"]
    assert push_files(stores, {"notes": b"hello", "README.md": b"# what it is"}).weights_problem == "no_weights"


def test_a_primary_that_holds_no_weights_is_refused(stores, push_files):
    with pytest.raises(NoWeightsError, match=r"README\.md"):
        push_files(stores, {"model.pt": make_weights(), "README.md": b"#"}, primary="README.md")


def test_a_base_is_a_version_that_is_there(stores, push_files):
    push_files(stores, {"model.pt": make_weights()}, model="trunk")
    version = push_files(stores, {"model.pt": make_weights(1)}, base="vision/trunk:1")
    assert version.base == "vision/trunk:1"
    with pytest.raises(VersionNotFoundError):
        push_files(stores, {"model.pt": make_weights(2)}, base="trunk:9")
    with pytest.raises(InvalidReferenceError):
        push_files(stores, {"model.pt": make_weights(2)}, base="trunk:1/model.pt")


def test_a_push_whose_intents_were_given_up_makes_no_version(stores):
    draft = begin(stores, CALLER, "vision", "net")
    incoming = draft.open_file("model.pt")
    incoming.write(make_weights())
    draft.close_file(incoming)
    stores.catalog.database.write(lambda session: end_writes(session, WriteIntentRow.team == "vision"))
    with pytest.raises(UnavailableError, match="Push again"):
        publish(draft, VersionCreate())
    draft.abandon()
    assert list(stores.blobs.iter_locations()) == []


def test_the_manifest_digests_what_the_file_holds(stores, push_files):
    value = torch.arange(4096.0)
    push_files(stores, {"model.pt": saved({"a": value, "view": value[::2]})})
    (artifact,) = get_manifest(stores, CALLER, "vision", "net", "latest", None).artifacts
    tensors = {each["name"]: each["digest"] for each in artifact.manifest["tensors"]}
    assert tensors == {"a": blake3_digest(value.numpy().tobytes()), "view": None}
    assert [each["digest"] for each in artifact.manifest["storages"]] == [tensors["a"]]


def test_weights_that_changed_in_the_store_before_they_had_a_name_get_none(stores, tmp_path):
    draft = begin(stores, CALLER, "vision", "net")
    incoming = draft.open_file("model.pt")
    weights = make_weights()
    incoming.write(weights)
    draft.close_file(incoming)
    (blob,) = [path for path in (tmp_path / "one" / "blobs" / "objects").rglob("*") if path.is_file()]
    middle = len(weights) // 2  # among the values of the convolution: the structure stays readable
    blob.write_bytes(weights[:middle] + bytes([weights[middle] ^ 1]) + weights[middle + 1 :])
    with pytest.raises(BlobStoreUnavailableError, match="other bytes"):
        publish(draft, VersionCreate())
