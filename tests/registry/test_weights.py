from dataclasses import dataclass

import pytest

from registry.errors import AmbiguousWeightsError, NoWeightsError
from registry.weights import Group, choose_weights, has_weights_name, is_index_name


@dataclass
class File:
    path: str
    tensor_count: int = 1
    format: str | None = None


def test_the_only_weights_artifact_is_the_state_dict():
    assert choose_weights([File("config.json", 0), File("model.pt")]) == ["model.pt"]


def test_a_file_without_tensors_is_no_candidate():
    assert choose_weights([File("training_args.bin", 0), File("model.safetensors")]) == ["model.safetensors"]


def test_an_index_group_is_one_state_dict_beside_other_weights():
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    group = Group("model.safetensors.index.json", shards)
    files = [File(group.index, 0), *map(File, shards), File("optimizer.pt")]
    assert choose_weights(files, [group]) == list(shards)


def test_several_weights_are_ambiguous_and_listed():
    with pytest.raises(AmbiguousWeightsError) as caught:
        choose_weights([File("a.pt"), File("b.pt")])
    assert caught.value.extra["candidates"] == ["a.pt", "b.pt"]


def test_two_index_groups_are_ambiguous():
    groups = [Group("model.safetensors.index.json", ("a",)), Group("pytorch_model.bin.index.json", ("b",))]
    with pytest.raises(AmbiguousWeightsError):
        choose_weights([File("a"), File("b")], groups)


def test_primary_decides():
    assert choose_weights([File("a.pt"), File("b.pt")], primary="b.pt") == ["b.pt"]
    group = Group("model.safetensors.index.json", ("a",))
    assert choose_weights([File("a"), File("b.pt")], [group], primary=group.index) == ["a"]


def test_a_primary_without_weights_is_refused():
    with pytest.raises(NoWeightsError, match=r"config\.json"):
        choose_weights([File("config.json", 0), File("model.pt")], primary="config.json")


def test_without_any_weights_the_error_says_so():
    with pytest.raises(NoWeightsError):
        choose_weights([File("README.md", 0)])


def test_names_that_say_weights():
    assert has_weights_name("sub/Model.PT")
    assert not has_weights_name("model.onnx")
    assert is_index_name("model.safetensors.index.json")
    assert is_index_name("pytorch_model.bin.index.json")
