import json

import pytest
import torch
import torchvision
from torch import nn

from registry.torch.architecture import architecture_of
from registry.torch.summary import summarise_forward

RESNET = "torchvision.models:resnet18"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A ResNet-18 with 10 classes, as a file."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pt"
    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), path)
    return str(path)


def test_weights_that_load_end_with_0_and_say_so(run, resnet):
    ran = run("check", resnet, "--target", RESNET, "--arg", "num_classes=10")
    assert (ran.code, ran.err) == (0, "")
    assert "EXACT" in ran.out
    assert "122 of 122 tensors, 100 %" in ran.out
    assert f"hub.load_into('{resnet}', module)\n" in ran.out


def test_another_head_ends_with_7_and_names_it(run, resnet):
    ran = run("check", resnet, "--target", RESNET, "--json")
    assert ran.code == 7
    assert (ran.json["verdict"], ran.json["needs"], ran.json["head"]) == ("backbone", ["new_head"], ["fc"])
    assert not ran.json["loads"]


def test_the_target_may_be_json_or_another_file(run, resnet, tmp_path):
    described = tmp_path / "resnet.json"
    with torch.device("meta"):
        described.write_text(json.dumps(architecture_of(torchvision.models.resnet18(num_classes=10)).to_json()))
    assert run("check", resnet, "--target", str(described)).code == 0
    assert run("check", resnet, "--target", resnet).code == 0
    described.write_text("{}")
    assert run("check", resnet, "--target", str(described)).code == 2


def test_a_prefix_may_be_said(run, tmp_path):
    path = str(tmp_path / "wrapped.pt")
    module = torchvision.models.resnet18(num_classes=10)
    torch.save({f"teacher.{name}": value for name, value in module.state_dict().items()}, path)
    arguments = ("check", path, "--target", RESNET, "--arg", "num_classes=10")
    assert run(*arguments).code == 0
    assert run(*arguments, "--prefix", "teacher.,").code == 0
    assert run(*arguments, "--prefix", ",").code == 7
    assert run(*arguments, "--prefix", "student.,").code == 2
    assert run(*arguments, "--prefix", "teacher").code == 2


def test_ambiguous_twins_end_with_7_and_the_candidates(run, tmp_path):
    path = str(tmp_path / "moco.pt")
    state_dict = torchvision.models.resnet18().state_dict()
    twins = {f"encoder_{side}.{name}": value for side in "qk" for name, value in state_dict.items()}
    torch.save(twins, path)
    ran = run("check", path, "--target", RESNET, "--json")
    assert (ran.code, ran.json["code"]) == (7, "ambiguous_prefix")
    assert {each["strip"] for each in ran.json["candidates"]} == {"encoder_q.", "encoder_k."}


def test_tied_tensors_of_equal_values_in_a_file_are_no_conflict(run, tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 4)
            self.head = nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight

    module, target, path = Tied(), tmp_path / "tied.json", str(tmp_path / "model.pt")
    target.write_text(json.dumps(architecture_of(module).to_json()))
    torch.save({name: value.clone() for name, value in module.state_dict().items()}, path)
    assert run("check", path, "--target", str(target)).code == 0
    torch.save({name: value + index for index, (name, value) in enumerate(module.state_dict().items())}, path)
    ran = run("check", path, "--target", str(target), "--json")
    assert (ran.code, ran.json["reasons"]) == (7, ["tied_conflict"])


def test_the_only_part_is_used_and_said_even_when_it_is_an_ema(run, tmp_path):
    path = str(tmp_path / "ema.pt")
    torch.save({"state_dict_ema": torchvision.models.resnet18().state_dict(), "epoch": 3}, path)
    ran = run("check", path, "--target", RESNET)
    assert ran.code == 0
    assert "state_dict_ema" in ran.out
    assert "moving average" in ran.err


def test_a_builder_of_another_library_is_not_called_untrusted(run, resnet):
    ran = run("check", resnet, "--target", "os.path:join")
    assert (ran.code, ran.out) == (3, "")
    assert "--trust-builder" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--target", "torchvision.models:resnet1800"), 6, "cannot be imported"),
        (("--target", RESNET, "--arg", "classes=10"), 2, "refuses its arguments"),
        (("--target", RESNET, "--arg", "classes"), 2, "KEY=VALUE"),
        (("--target", "./nothing.pt"), 4, "no file or folder"),
        ((), 2, "--target"),
    ],
)
def test_a_target_that_cannot_be_used_is_a_named_failure(run, resnet, arguments, code, says):
    ran = run("check", resnet, *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err


def test_a_builder_that_cannot_run_without_values_is_built_with_them(run, tmp_path):
    path = str(tmp_path / "regnet.pt")
    torch.save(torchvision.models.regnet_y_400mf().state_dict(), path)
    assert run("check", path, "--target", "torchvision.models:regnet_y_400mf").code == 0


def test_a_summary_adds_up_what_the_modules_weigh(run, resnet):
    ran = run("summary", resnet, "--json")
    module = torchvision.models.resnet18(num_classes=10)
    found = {each["name"]: each for each in ran.json}
    assert found[""]["size_bytes"] == sum(each.nbytes for each in module.state_dict().values())
    assert found["layer4"]["parameter_count"] == sum(each.numel() for each in module.layer4.parameters())
    assert found["fc"]["tensor_count"] == 2
    assert set(found) == {name for name, each in module.named_modules() if each.state_dict()}
    shown = run("summary", resnet)
    assert "layer4.1.conv2" in shown.out
    listed = run("summary", resnet, "--modules")
    assert found["layer4"]["digest"] in listed.out


def test_a_summary_of_a_builder_shows_what_every_layer_puts_out(run):
    ran = run("summary", RESNET, "--input-size", "3,64,64", "--json")
    layers = {each["name"]: each for each in ran.json}
    assert layers["conv1"]["output_shape"] == [1, 64, 32, 32]
    assert layers["conv1"]["forward_bytes"] == 64 * 32 * 32 * 4
    assert layers["fc"]["output_shape"] == [1, 1000]
    assert run("summary", RESNET, "--input-size", "3,64").code == 6
    assert run("summary", RESNET, "--input-size", "big").code == 2
    assert "conv1 (Conv2d)" in run("summary", RESNET, "--input-size", "3,64,64").out


def test_layers_of_a_file_need_a_builder(run, resnet):
    ran = run("summary", resnet, "--input-size", "3,64,64")
    assert (ran.code, ran.out) == (2, "")
    assert "name a builder" in ran.err


def test_the_forward_summary_is_what_the_real_forward_pass_does():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    module[0].weight.requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    layers = summarise_forward(module, (3, 8, 8), batch=5)
    shapes = []
    for each in module:
        each.register_forward_hook(lambda _layer, _given, out: shapes.append(tuple(out.shape)))
    module(torch.zeros(5, 3, 8, 8))
    assert [each.output_shape for each in layers] == shapes
    assert (layers[0].parameter_count, layers[0].trainable_count) == (112, 4)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
