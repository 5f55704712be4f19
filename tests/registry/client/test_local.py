import json
from pathlib import Path

import pytest

from registry.client.local import collect, find_local, find_weights
from registry.client.placing import place
from registry.errors import (
    AmbiguousWeightsError,
    InvalidPathError,
    InvalidRequestError,
    MalformedArtifactError,
    NotFoundError,
    NoWeightsError,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.mark.parametrize("text", ["vision/resnet50", "resnet50:3", "vision/resnet50@prod", "a" * 5000, "model"])
def test_what_names_no_existing_file_is_a_reference(folder, text):
    assert find_local(text) is None


def test_an_existing_file_and_what_starts_like_a_path_are_local(folder):
    (folder / "best.pt").write_bytes(b"x")
    assert find_local("model/best.pt") == Path("model/best.pt")
    assert find_local("./model") == Path("model")
    assert find_local(str(folder)) == folder
    assert find_local(folder) == folder


def test_a_path_where_nothing_is_says_so(folder):
    with pytest.raises(NotFoundError, match="no file or folder"):
        find_local("./model/none.pt")


def test_the_weights_of_a_folder_are_its_only_weight_file(folder):
    (folder / "model.pt").write_bytes(b"x")
    (folder / "README.md").write_bytes(b"x")
    assert find_weights(folder) == [folder / "model.pt"]


def test_the_weights_of_a_sharded_folder_are_what_its_index_lists(folder):
    weight_map = {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "other.pt").write_bytes(b"x")
    with pytest.raises(MalformedArtifactError, match=r"model-1\.safetensors"):
        find_weights(folder)
    (folder / "model-1.safetensors").write_bytes(b"x")
    (folder / "model-2.safetensors").write_bytes(b"x")
    assert find_weights(folder) == [folder / "model-1.safetensors", folder / "model-2.safetensors"]


def test_an_index_cannot_lead_out_of_its_folder(folder):
    (folder / "x.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(MalformedArtifactError):
        find_weights(folder)


def test_a_broken_index_and_a_folder_with_none_or_two_weight_files_are_named_errors(folder):
    with pytest.raises(NoWeightsError):
        find_weights(folder)
    (folder / "a.pt").write_bytes(b"x")
    (folder / "b.pt").write_bytes(b"x")
    with pytest.raises(AmbiguousWeightsError, match=r"a\.pt, b\.pt"):
        find_weights(folder)
    (folder / "x.bin.index.json").write_text("[]")
    with pytest.raises(MalformedArtifactError):
        find_weights(folder)


def test_a_pushed_folder_keeps_paths_and_leaves_out_links_and_dot_files(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "config.json").write_bytes(b"{}")
    (folder / "model.pt").write_bytes(b"weights")
    (folder / ".secret").write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"x")
    (folder / "link.pt").symlink_to(folder / "model.pt")
    (folder / "linked").symlink_to(folder / "sub")

    collected = collect([folder])

    assert [(each.path, each.size_bytes) for each in collected.files] == [("model.pt", 7), ("sub/config.json", 2)]
    assert collected.notices == ["Skipped links, dot-files and special files: .git, .secret, link.pt, linked."]


def test_a_distributed_checkpoint_keeps_its_dot_file(folder):
    for name in (".metadata", "__0_0.distcp", ".other"):
        (folder / name).write_bytes(b"x")
    collected = collect([folder])
    assert [each.path for each in collected.files] == [".metadata", "__0_0.distcp"]
    assert collected.notices == ["Skipped links, dot-files and special files: .other."]


def test_a_link_that_is_named_itself_is_followed(folder):
    (folder / "model.pt").write_bytes(b"x")
    (folder / "best.pt").symlink_to("model.pt")
    assert [each.path for each in collect([folder / "best.pt"]).files] == ["best.pt"]


def test_two_files_of_one_name_cannot_be_pushed_together(folder):
    (folder / "a").mkdir()
    (folder / "a" / "Model.pt").write_bytes(b"x")
    (folder / "model.pt").write_bytes(b"x")
    with pytest.raises(InvalidPathError):
        collect([folder / "a" / "Model.pt", folder / "model.pt"])


def test_nothing_to_push_is_said(folder):
    with pytest.raises(InvalidRequestError):
        collect([folder])
    with pytest.raises(NotFoundError):
        collect([folder / "none.pt"])


def test_a_download_replaces_a_file_in_one_step_and_can_be_changed_by_its_owner(folder):
    (folder / "model.pt").write_bytes(b"before")
    cached = folder / "cached"
    cached.write_bytes(b"after")
    cached.chmod(0o444)

    target = place(cached, folder, "model.pt")

    assert target.read_bytes() == b"after"
    assert target.stat().st_mode & 0o200
    assert sorted(each.name for each in folder.iterdir()) == ["cached", "model.pt"]


def test_a_download_does_not_follow_a_link_out_of_its_folder(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    (folder / "sub").symlink_to(tmp_path / "outside")
    (tmp_path / "cached").write_bytes(b"x")
    with pytest.raises(InvalidPathError, match="outside of"):
        place(tmp_path / "cached", folder, "sub/model.pt")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_named_error(folder):
    (folder / "file").write_bytes(b"x")
    with pytest.raises(InvalidRequestError, match="cannot be written"):
        place(folder / "file", folder / "file", "model.pt")
