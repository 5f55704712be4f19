"""`weighbridge convert`: whatever the file, its weights come out and nothing of it runs."""

import os

import pytest
import safetensors.torch
import torch
import torchvision


class Harmful:
    """Touches a file when it is unpickled by name."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(num_classes=3).eval()


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_whole_pickled_module_becomes_its_state_dict(run, tmp_path, module):
    torch.save(module, tmp_path / "whole.pt")
    ran = run("convert", str(tmp_path / "whole.pt"), str(tmp_path / "out.safetensors"), "--json")
    assert (ran.code, ran.json["tensors"]) == (0, len(module.state_dict()))
    assert same(safetensors.torch.load_file(tmp_path / "out.safetensors"), module.state_dict())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch deprecates what it still reads
def test_torchscript_becomes_its_state_dict(run, tmp_path, module):
    torch.jit.trace(module, torch.ones(1, 3, 64, 64)).save(str(tmp_path / "script.pt"))
    ran = run("convert", str(tmp_path / "script.pt"), str(tmp_path / "out.safetensors"))
    assert (ran.code, ran.out.strip()) == (0, str(tmp_path / "out.safetensors"))
    assert same(safetensors.torch.load_file(tmp_path / "out.safetensors"), module.state_dict())


def test_one_part_of_a_checkpoint_is_written(run, tmp_path, module):
    checkpoint = {"state_dict": module.state_dict(), "state_dict_ema": {"x": torch.ones(2)}, "epoch": 3}
    torch.save(checkpoint, tmp_path / "c.ckpt")
    ran = run("convert", str(tmp_path / "c.ckpt"), str(tmp_path / "out.safetensors"), "--part", "state_dict_ema")
    assert ran.code == 0
    assert same(safetensors.torch.load_file(tmp_path / "out.safetensors"), {"x": torch.ones(2)})


def test_a_harmful_file_gives_nothing_and_nothing_ran(run, tmp_path):
    marker = tmp_path / "it-ran"
    torch.save({"weight": torch.zeros(3), "gift": Harmful(marker)}, tmp_path / "gift.pt")
    ran = run("convert", str(tmp_path / "gift.pt"), str(tmp_path / "out.safetensors"))
    assert (ran.code, "mkdir" in ran.err) == (6, True)
    assert not marker.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("none.pt", "out.safetensors"), 4, "no file or folder"),
        (("none.pt", "out.pt"), 2, "out.safetensors"),
        (("vision/net:1", "out.safetensors"), 4, "weighbridge pull"),
    ],
)
def test_what_cannot_be_converted_is_said(run, arguments, code, says):
    ran = run("convert", *arguments)
    assert (ran.code, says in ran.err) == (code, True)
