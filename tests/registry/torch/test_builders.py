import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
import transformers
from every_network import each_network
from torch import nn

from registry.errors import UnsupportedValueError
from registry.module_info import Builder
from registry.torch.builders import build, infer_builder
from registry.torch.capture import capture
from registry.torch.skeleton import build_skeleton
from registry.torch.targets import build_target


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


@pytest.mark.parametrize(
    "make",
    [
        # `transform_input` is what their published weights were trained with; it is in no name and no shape.
        lambda: torchvision.models.googlenet(num_classes=3, transform_input=True, aux_logits=False),
        lambda: torchvision.models.vit_b_32(num_classes=3, image_size=64),
        lambda: torchvision.models.regnet_x_400mf(num_classes=3),
        lambda: torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn(weights_backbone=None),
        lambda: timm.create_model("test_resnet", num_classes=5, global_pool="max"),
        lambda: timm.create_model("test_vit", num_classes=5, drop_rate=0.3),
    ],
)
def test_a_builder_makes_what_computes_the_same(make):
    module = build_skeleton(make)

    made = build_skeleton(lambda: build(infer_builder(module)))

    for (name, part), (other_name, other) in zip(module.named_modules(), made.named_modules(), strict=True):
        ours, theirs = vars(part), vars(other)
        telling = {"stride", "dilation", "transform_input", "min_size", "image_size", "pool_type", "eps"} & ours.keys()
        assert (name, {each: ours[each] for each in telling}) == (other_name, {each: theirs[each] for each in telling})


def test_a_module_that_no_builder_gives_the_same_dilation_has_none():
    dilated = build_skeleton(lambda: torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]))

    assert infer_builder(dilated) is None


@pytest.mark.parametrize(
    ("make", "callable_name"),
    [
        (lambda: torchvision.models.vit_b_32(num_classes=1000), "torchvision.models:vit_b_32"),
        (lambda: timm.create_model("test_vit"), "timm:create_model"),
    ],
)
def test_a_head_that_was_swapped_is_another_number_of_classes(make, callable_name):
    module = build_skeleton(make)
    head = module.heads if hasattr(module, "heads") else module
    head.head = nn.Linear(head.head.in_features, 7)

    builder = infer_builder(module)

    assert (builder.callable, builder.arguments["num_classes"]) == (callable_name, 7)


@pytest.mark.parametrize("name", ["Unet", "FPN", "DeepLabV3Plus", "Segformer"])
def test_a_segmentation_model_is_made_again_by_its_class(name):
    module = build_skeleton(
        lambda: getattr(smp, name)("resnet18", encoder_weights=None, classes=3, aux_params={"classes": 2})
    )

    builder = infer_builder(module)

    assert builder.callable == f"segmentation_models_pytorch:{name}"
    assert builder.arguments["encoder_weights"] is None
    made = build_target(builder)
    assert {each: value.shape for each, value in made.state_dict().items()} == {
        each: value.shape for each, value in module.state_dict().items()
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", each_network(torchvision.models.list_models(module=torchvision.models)))
def test_every_classification_module_of_torchvision_is_made_again(name):
    module = build_skeleton(lambda: torchvision.models.get_model(name, num_classes=9))

    builder = infer_builder(module)

    assert (builder.callable, builder.arguments["num_classes"]) == (f"torchvision.models:{name}", 9)
