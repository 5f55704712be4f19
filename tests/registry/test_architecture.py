import json

import pytest
import safetensors.torch
import torch
from torch import nn

from registry.architecture import Architecture
from registry.digest import StreamDigests
from registry.errors import AmbiguousWeightsError, InvalidMetadataError, NoWeightsError, UnsupportedValueError
from registry.formats.reader import read
from registry.formats.source import FileSource
from registry.manifest import build_manifest, iter_digested_ranges
from registry.state_dict import EmaPartWarning
from registry.tensor_spec import TensorSpec
from registry.torch.architecture import architecture_of, architecture_of_state_dict


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight


def inspect(path):
    with FileSource(path) as source:
        return read(source).inspection


def shapes(architecture):
    return {name: spec.shape for name, spec in architecture.tensors.items()}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_module_has_the_architecture_of_its_state_dict_on_any_device(device):
    with torch.device(device):
        module = Tied()
    architecture = architecture_of(module)
    assert shapes(architecture) == {name: tuple(each.shape) for name, each in module.state_dict().items()}
    assert architecture.tensors["embed.weight"].tie == architecture.tensors["head.weight"].tie == "embed.weight"
    assert {name for name, spec in architecture.tensors.items() if spec.role == "buffer"} == {
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }
    assert architecture.tensors["norm.num_batches_tracked"].dtype == "int64"
    assert architecture.metadata["norm"] == {"version": 2}
    assert architecture.parameter_count == sum(each.numel() for each in module.parameters())


def test_different_tensors_of_the_meta_device_are_not_tied():
    with torch.device("meta"):
        architecture = architecture_of(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert {spec.tie for spec in architecture.tensors.values()} == {None}


def test_a_file_has_the_architecture_of_the_module_that_was_saved(tmp_path):
    module = Tied()
    torch.save(module.state_dict(), tmp_path / "model.pt")
    found = Architecture.from_inspection(inspect(tmp_path / "model.pt"))
    expected = architecture_of(module)
    assert shapes(found) == shapes(expected)
    assert {name: spec.tie for name, spec in found.tensors.items()} == {
        name: spec.tie for name, spec in expected.tensors.items()
    }
    assert found.metadata == expected.metadata
    assert found.digest == expected.digest


def test_a_manifest_passes_its_digests_on(tmp_path):
    file = tmp_path / "model.pt"
    ones = torch.ones(600)
    torch.save({"a": ones, "b": ones.clone(), "c": torch.zeros(600)}, file)
    inspection = inspect(file)
    digests = StreamDigests(iter_digested_ranges(inspection), file.stat().st_size)
    digests.update(file.read_bytes())
    manifest = json.loads(json.dumps(build_manifest(inspection, digests)))
    tensors = Architecture.from_manifest(manifest).tensors
    assert tensors["a"].digest.startswith("blake3:")
    assert tensors["a"].digest == tensors["b"].digest != tensors["c"].digest


def test_a_checkpoint_gives_its_default_part_or_the_named_one(tmp_path):
    first, second = nn.Linear(2, 3), nn.Linear(4, 5)
    torch.save({"state_dict": first.state_dict(), "discriminator": second.state_dict()}, tmp_path / "last.ckpt")
    inspection = inspect(tmp_path / "last.ckpt")
    assert shapes(Architecture.from_inspection(inspection)) == {"weight": (3, 2), "bias": (3,)}
    assert shapes(Architecture.from_inspection(inspection, "discriminator")) == {"weight": (5, 4), "bias": (5,)}
    with pytest.raises(NoWeightsError, match="Parts: state_dict, discriminator"):
        Architecture.from_inspection(inspection, "netG")


def test_two_parts_of_equal_right_are_never_chosen_silently_and_an_ema_is_said(tmp_path):
    first, second = nn.Linear(2, 3), nn.Linear(4, 5)
    torch.save({"netG": first.state_dict(), "netD": second.state_dict()}, tmp_path / "gan.pt")
    with pytest.raises(AmbiguousWeightsError):
        Architecture.from_inspection(inspect(tmp_path / "gan.pt"))
    torch.save({"state_dict_ema": first.state_dict(), "epoch": 3}, tmp_path / "ema.pt")
    with pytest.warns(EmaPartWarning):
        Architecture.from_inspection(inspect(tmp_path / "ema.pt"))


def test_a_sorted_file_is_known_to_have_lost_the_order_of_its_modules(tmp_path):
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    safetensors.torch.save_file(module.state_dict(), tmp_path / "model.safetensors")
    assert not Architecture.from_inspection(inspect(tmp_path / "model.safetensors")).is_ordered
    assert architecture_of(module).is_ordered


def test_json_gives_back_the_same_architecture():
    architecture = architecture_of(Tied())
    again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert again.tensors == architecture.tensors
    assert again.metadata == {name: dict(values) for name, values in architecture.metadata.items()}
    assert again.digest == architecture.digest


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"tensors": [{"name": "a", "shape": [-1], "dtype": "float32"}]},
        {"tensors": [{"name": "a", "shape": [True], "dtype": "float32"}]},
        {"tensors": [{"name": "a", "shape": [1]}]},
        {"tensors": [{"name": "a", "shape": [1], "dtype": "float32", "role": "king"}]},
        {"tensors": [{"name": "a", "shape": [1], "dtype": "float32"}] * 2},
        {"tensors": [], "metadata": ["x"]},
    ],
)
def test_json_that_is_no_architecture_is_a_named_error(document):
    with pytest.raises(InvalidMetadataError, match="no architecture"):
        Architecture.from_json(document)


def test_the_digest_of_a_subtree_does_not_depend_on_where_it_hangs():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    alone = architecture_of(nn.ModuleDict({"layer1": layer}))
    deep = architecture_of(nn.ModuleDict({"encoder": nn.ModuleDict({"img": nn.ModuleDict({"layer1": layer})})}))
    found = {each.prefix: each.digest for each in deep.iter_subtrees()}
    assert found["encoder.img."] == alone.digest
    assert found["encoder.img.layer1."] == alone.tree.children["layer1"].digest


def test_the_digest_tells_other_names_and_other_shapes():
    base = [TensorSpec("a.w", (2, 3), "float32"), TensorSpec("a.b", (2,), "float32")]
    digests = {
        Architecture(specs).digest
        for specs in (
            base,
            [TensorSpec("a.w", (3, 2), "float32"), base[1]],
            [TensorSpec("a.v", (2, 3), "float32"), base[1]],
            [TensorSpec("b.w", (2, 3), "float32"), base[1]],
            base[:1],
        )
    }
    assert len(digests) == 5
    assert Architecture(reversed(base)).digest == Architecture(base).digest


def test_names_of_any_depth_make_a_tree():
    architecture = Architecture([TensorSpec("m." * 3000 + "w", (1,), "float32")])
    assert sum(1 for _ in architecture.iter_subtrees()) == 3001


def test_entries_are_kept_apart_from_tensors():
    architecture = architecture_of_state_dict({"w": torch.zeros(2), "m._extra_state": {"scale": 1}})
    assert (list(architecture.tensors), architecture.entries) == (["w"], ("m._extra_state",))


def test_a_lazy_module_is_a_named_error():
    with pytest.raises(UnsupportedValueError, match="one batch"):
        architecture_of(nn.Sequential(nn.LazyLinear(3)))
