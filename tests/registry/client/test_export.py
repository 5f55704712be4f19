"""Every format out as safetensors, judged by the format's own library and by torch."""

import subprocess
import sys
from collections import OrderedDict

import pytest
import safetensors
import safetensors.torch
import torch

from registry.client.export import export_safetensors
from registry.errors import (
    AmbiguousWeightsError,
    InvalidRequestError,
    NoWeightsError,
    TooLargeError,
    UnsupportedValueError,
)
from registry.state_dict import METADATA_KEY


@pytest.fixture
def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.BatchNorm1d(3))


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]) for key in left
    )


def saved(tmp_path, value, name="model.pt", **options):
    torch.save(value, tmp_path / name, **options)
    return tmp_path / name


def exported(tmp_path, *files, **options):
    output = tmp_path / "out.safetensors"
    return export_safetensors(files, output, **options), safetensors.torch.load_file(output)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_state_dict_of_torch_comes_out_whole_with_its_metadata(tmp_path, module, options):
    file = saved(tmp_path, module.state_dict(), **options)

    result, loaded = exported(tmp_path, file)

    assert same(loaded, module.state_dict())
    assert (result.tensor_count, result.notices) == (7, [])
    with safetensors.safe_open(tmp_path / "out.safetensors", "pt") as opened:
        assert METADATA_KEY in opened.metadata()


def test_exporting_an_export_gives_the_same_bytes(tmp_path, module):
    file = saved(tmp_path, module.state_dict())
    exported(tmp_path, file)
    first = (tmp_path / "out.safetensors").rename(tmp_path / "first.safetensors")
    exported(tmp_path, first)
    assert (tmp_path / "out.safetensors").read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    "name", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "complex64", "int64", "uint8", "bool"]
)
def test_every_dtype_keeps_its_values(tmp_path, name):
    values = {
        "x": torch.arange(12).reshape(3, 4).to(getattr(torch, name)),
        "empty": torch.empty(0, 2),
        "one": torch.ones(()),
    }
    _, loaded = exported(tmp_path, saved(tmp_path, values))
    assert loaded["x"].dtype == values["x"].dtype
    assert torch.equal(loaded["x"].view(torch.uint8), values["x"].view(torch.uint8))
    assert (loaded["empty"].shape, loaded["one"].item()) == ((0, 2), 1.0)


def test_only_the_chosen_names_are_written(tmp_path, module):
    file = saved(tmp_path, module.state_dict())
    assert exported(tmp_path, file, include=["0.*"])[1].keys() == {"0.weight", "0.bias"}
    assert exported(tmp_path, file, exclude=["*.weight", "1.*"])[1].keys() == {"0.bias"}
    with pytest.raises(InvalidRequestError, match=r"fc\.\*"):
        exported(tmp_path, file, exclude=["fc.*"])
    with pytest.raises(NoWeightsError):
        exported(tmp_path, file, exclude=["*"])


def test_a_checkpoint_gives_the_part_that_is_its_weights(tmp_path, module):
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    file = saved(tmp_path, {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1})
    assert same(exported(tmp_path, file)[1], module.state_dict())


def test_several_parts_are_never_chosen_from_silently(tmp_path, module):
    ema = {key: value * 0 for key, value in module.state_dict().items()}
    file = saved(tmp_path, {"netG": module.state_dict(), "ema": ema})
    with pytest.raises(AmbiguousWeightsError, match="netG"):
        exported(tmp_path, file)
    assert same(exported(tmp_path, file, part="ema")[1], ema)
    with pytest.raises(NoWeightsError, match="netD"):
        exported(tmp_path, file, part="netD")


def test_a_whole_pickled_module_gives_its_state_dict(tmp_path, module):
    assert same(exported(tmp_path, saved(tmp_path, module))[1], module.state_dict())


def test_tied_strided_and_conjugate_tensors_come_out_as_their_values(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    values = OrderedDict(
        {"a": base, "tied": base, "turned": base.T, "row": base[1], "conj": torch.tensor([1 + 2j]).conj()}
    )
    _, loaded = exported(tmp_path, saved(tmp_path, values))
    assert same(loaded, dict(values))


def test_shards_become_one_file(tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    safetensors.torch.save_file({"a": torch.ones(2)}, files[0])
    safetensors.torch.save_file({"b": torch.zeros(3)}, files[1])
    assert exported(tmp_path, *files)[1].keys() == {"a", "b"}


def test_what_safetensors_cannot_hold_is_named_and_nothing_is_written(tmp_path):
    file = saved(tmp_path, {"a": torch.ones(1), "sparse": torch.eye(3).to_sparse()})
    with pytest.raises(UnsupportedValueError, match="sparse"):
        exported(tmp_path, file)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_an_entry_that_is_no_tensor_is_left_out_and_named(tmp_path):
    result, loaded = exported(tmp_path, saved(tmp_path, OrderedDict({"a": torch.ones(1), "b._extra_state": {"n": 1}})))
    assert loaded.keys() == {"a"}
    assert result.notices == ["Left out, as it is no tensor: b._extra_state."]


def test_plain_tensors_come_out_without_torch(tmp_path, module):
    file = saved(tmp_path, module.state_dict())
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from registry.client.export import export_safetensors\n"
        "print(export_safetensors([Path(sys.argv[1])], Path(sys.argv[2])).tensor_count)"
    )
    output = tmp_path / "out.safetensors"
    done = subprocess.run([sys.executable, "-c", code, file, output], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"
    assert same(safetensors.torch.load_file(output), module.state_dict())


def test_a_view_that_repeats_a_few_bytes_is_not_written_out_unasked(tmp_path):
    file = saved(tmp_path, {"small": torch.zeros(3), "wide": torch.ones(1).expand(1 << 40)})

    with pytest.raises(TooLargeError, match="'wide'"):
        export_safetensors([file], tmp_path / "out.safetensors")

    assert not (tmp_path / "out.safetensors").exists()


def test_a_repeating_view_is_written_out_when_asked(tmp_path):
    wide = torch.arange(3.0).expand(100, 3)
    _, loaded = exported(tmp_path, saved(tmp_path, {"wide": wide}), expand=True)
    assert torch.equal(loaded["wide"], wide)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight


def test_tied_tensors_written_once_load_as_the_library_saves_them(tmp_path):
    module = Tied()
    result, loaded = exported(tmp_path, saved(tmp_path, module.state_dict()), tied="once")
    assert list(loaded) == ["embed.weight"]
    assert any("head.weight" in notice for notice in result.notices)

    theirs = tmp_path / "theirs.safetensors"
    safetensors.torch.save_model(module, str(theirs))
    with safetensors.safe_open(theirs, "pt") as one, safetensors.safe_open(tmp_path / "out.safetensors", "pt") as other:
        assert {key: value for key, value in other.metadata().items() if key in one.metadata()} == one.metadata()
    fresh = Tied()
    safetensors.torch.load_model(fresh, str(tmp_path / "out.safetensors"))
    assert torch.equal(fresh.head.weight, module.head.weight)


def test_tied_tensors_are_written_under_each_name_by_default(tmp_path):
    module = Tied()
    _, loaded = exported(tmp_path, saved(tmp_path, module.state_dict()))
    Tied().load_state_dict(loaded)
    assert same(loaded, module.state_dict())
