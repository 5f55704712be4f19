import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

from registry.errors import UnsupportedValueError
from registry.module_info import Builder
from registry.torch.builders import build, infer_builder
from registry.torch.capture import capture


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_vit", {"num_classes": 7}),
        ("test_resnet", {"num_classes": 0}),
        ("test_efficientnet", {"in_chans": 1}),
        ("test_vit", {"num_classes": 3, "img_size": 64}),
    ],
)
def test_a_timm_module_is_made_again_by_its_name(name, options):
    module = timm.create_model(name, **options)

    builder = infer_builder(module)

    assert builder.callable == "timm:create_model"
    assert builder.arguments["model_name"] == name
    build(builder).load_state_dict(module.state_dict())


@pytest.mark.parametrize(
    ("make", "callable_name"),
    [
        (lambda: torchvision.models.resnet18(num_classes=5), "torchvision.models:resnet18"),
        (torchvision.models.mobilenet_v3_small, "torchvision.models:mobilenet_v3_small"),
        (lambda: torchvision.models.squeezenet1_1(num_classes=3), "torchvision.models:squeezenet1_1"),
    ],
)
def test_a_torchvision_module_is_made_again_by_its_function(make, callable_name):
    module = make()

    builder = infer_builder(module)

    assert builder.callable == callable_name
    build(builder).load_state_dict(module.state_dict())


def test_a_transformers_module_is_made_again_by_its_class_and_configuration():
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=10, num_labels=3
    )
    module = transformers.BertForSequenceClassification(config)

    builder = infer_builder(module)

    assert builder.callable == "transformers:BertForSequenceClassification"
    build(builder).load_state_dict(module.state_dict())


def test_a_changed_module_has_no_builder():
    module = timm.create_model("test_resnet")
    module.fc = nn.Identity()

    assert infer_builder(module) is None


def test_a_subclass_of_a_library_module_has_no_builder():
    class Mine(torchvision.models.ResNet):
        pass

    assert infer_builder(Mine(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])) is None


def test_ones_own_module_has_no_builder():
    assert infer_builder(nn.Linear(1, 1)) is None


def test_looking_for_a_builder_leaves_the_random_numbers_alone():
    module = timm.create_model("test_resnet")
    state = torch.get_rng_state()

    infer_builder(module)

    assert torch.equal(torch.get_rng_state(), state)


def test_capturing_a_module_records_its_builder(tmp_path):
    module = nn.DataParallel(timm.create_model("test_resnet", num_classes=4))

    assert capture(module, tmp_path).builder == Builder(
        callable="timm:create_model", arguments={"model_name": "test_resnet", "num_classes": 4}
    )


@pytest.mark.parametrize(
    ("callable_name", "words"),
    [("nowhere.at_all:make", "Install"), ("timm:nothing_here", "Install"), ("builtins:dict", "no module")],
)
def test_a_builder_that_makes_no_module_says_so(callable_name, words):
    with pytest.raises(UnsupportedValueError, match=words):
        build(Builder(callable=callable_name, arguments={}))
