import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
import transformers
from every_network import each_network
from torch import nn
from torchvision.models import (
    ResNet18_Weights,
    ResNet50_Weights,
    Swin_V2_T_Weights,
    detection,
    get_model_weights,
    segmentation,
    video,
)

from registry.client.described import plain_pretrained_cfg
from registry.module_info import PretrainedConfig
from registry.torch.builders import infer_builder
from registry.torch.pretrained import describe_weights, infer_pretrained_cfg, is_weights
from registry.torch.skeleton import build_skeleton
from registry.torch.summary import summarise_forward

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def built(make):
    """A module without values; some of timm's can only be made with all of it on the meta device."""
    try:
        return build_skeleton(make)
    except NotImplementedError:
        with torch.device("meta"):
            return make()


def inferred(make):
    module = built(make)
    return infer_pretrained_cfg(module, infer_builder(module))


def changed_modules(make, one, other):
    """The truth: the modules whose tensors have other shapes when the library builds with another argument."""
    shapes = [
        {name: value.shape for name, value in built(lambda given=given: make(**given)).state_dict().items()}
        for given in (one, other)
    ]
    return {name.rpartition(".")[0] for name, shape in shapes[0].items() if shapes[1].get(name) != shape}


def check_torchvision(name):
    def make(**given):
        return torchvision.models.get_model(name, **given)

    found = inferred(lambda: make(num_classes=11))

    assert found.num_classes == 11
    assert set(found.classifier) == changed_modules(make, {"num_classes": 11}, {"num_classes": 5})
    assert found.first_conv == first_called(build_skeleton(lambda: make(num_classes=11)))


def first_called(module):
    """The convolution that a forward pass calls first."""
    size = getattr(module, "image_size", 299 if "Inception" in type(module).__name__ else 224)
    return [layer.name for layer in summarise_forward(module, (3, size, size)) if "Conv" in layer.kind][:1]


@pytest.mark.parametrize(
    "name", ["alexnet", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "googlenet", "resnet18"]
)
def test_the_head_of_a_torchvision_module_is_what_another_class_count_changes(name):
    check_torchvision(name)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", each_network(CLASSIFIERS))
def test_the_head_of_every_torchvision_classifier_is_what_another_class_count_changes(name):
    check_torchvision(name)


def check_timm(name):
    def make(**given):
        return timm.create_model(name, **given)

    count = built(make).num_classes
    found = inferred(make)

    truth = changed_modules(make, {}, {"num_classes": count + 3}) if count else set()
    assert (found.num_classes, set(found.classifier)) == (count, truth)


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_efficientnet", "levit_128s", "deit_tiny_distilled_patch16_224"]
)
def test_the_heads_of_a_timm_module_are_what_another_class_count_changes(name):
    check_timm(name)


def timm_sample():
    """One architecture of every file of timm, and the middle one where a file has several."""
    chosen = set()
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        chosen |= {*names[:1], *names[len(names) // 2 :][:1]}
    return sorted(chosen)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", each_network(timm_sample()))
def test_the_heads_of_every_timm_family_are_what_another_class_count_changes(name):
    check_timm(name)


def test_timm_says_what_its_module_takes():
    found = inferred(lambda: timm.create_model("resnet18d.ra2_in1k", num_classes=7))

    assert found == PretrainedConfig(
        num_classes=7,
        classifier=["fc"],
        first_conv=["conv1.0"],
        input_size=(3, 224, 224),
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        interpolation="bicubic",
        crop_pct=0.875,
    )


def test_other_channels_and_sizes_are_the_modules_own():
    found = inferred(lambda: timm.create_model("test_vit", in_chans=1, img_size=64))

    assert (found.input_size, found.mean, found.std) == ((1, 64, 64), [], [])


def test_a_module_without_a_head_has_no_classes():
    found = inferred(lambda: timm.create_model("test_resnet", num_classes=0))

    assert (found.num_classes, found.classifier) == (0, [])


def test_a_head_of_ones_own_is_still_the_head_that_timm_names():
    module = timm.create_model("test_resnet")
    module.fc = nn.Sequential(nn.Dropout(), nn.Linear(module.num_features, 3))

    found = infer_pretrained_cfg(module, infer_builder(module))

    assert (found.num_classes, found.classifier) == (3, ["fc"])


@pytest.mark.parametrize(
    ("make", "count", "classifier"),
    [
        (lambda: torchvision.models.vgg11(num_classes=4096), 4096, ["classifier.6"]),
        (lambda: torchvision.models.inception_v3(num_classes=7), 7, ["AuxLogits.fc", "fc"]),
        (lambda: torchvision.models.inception_v3(num_classes=7, aux_logits=False), 7, ["fc"]),
        (lambda: torchvision.models.googlenet(num_classes=7), 7, ["aux1.fc2", "aux2.fc2", "fc"]),
        (
            lambda: segmentation.fcn_resnet50(num_classes=4, weights_backbone=None, aux_loss=True),
            4,
            ["classifier.4", "aux_classifier.4"],
        ),
        (
            lambda: smp.Unet("resnet18", encoder_weights=None, classes=4, aux_params={"classes": 2}),
            4,
            ["segmentation_head.0", "classification_head.3"],
        ),
        (
            lambda: transformers.BertForSequenceClassification(
                transformers.BertConfig(vocab_size=9, num_labels=3, **TINY)
            ),
            3,
            ["classifier"],
        ),
    ],
)
def test_all_heads_are_found(make, count, classifier):
    found = inferred(make)

    assert (found.num_classes, found.classifier) == (count, classifier)


def test_the_labels_of_a_transformers_configuration_are_the_classes_names():
    config = transformers.ViTConfig(id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1}, image_size=32, **TINY)

    found = inferred(lambda: transformers.ViTForImageClassification(config))

    assert found == PretrainedConfig(
        num_classes=2,
        classifier=["classifier"],
        first_conv=["vit.embeddings.patch_embeddings.projection"],
        class_names=["cat", "dog"],
    )


def test_a_transformers_body_says_nothing_of_classes():
    assert inferred(lambda: transformers.BertModel(transformers.BertConfig(vocab_size=9, **TINY))) is None


def test_ones_own_module_says_nothing():
    assert infer_pretrained_cfg(nn.Linear(2, 1), None) is None


def test_published_weights_say_what_their_module_takes():
    found = describe_weights(ResNet50_Weights.IMAGENET1K_V2)

    assert (found.num_classes, found.class_names[0], len(found.class_names)) == (1000, "tench", 1000)
    assert (found.input_size, found.interpolation, found.crop_pct) == ((3, 224, 224), "bilinear", 224 / 232)
    assert (found.mean, found.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert describe_weights(Swin_V2_T_Weights.DEFAULT).interpolation == "bicubic"


@pytest.mark.parametrize(
    ("weights", "classes", "input_size"),
    [
        (video.R3D_18_Weights.DEFAULT, 400, (3, 112, 112)),
        (detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT, 91, None),
        (segmentation.FCN_ResNet50_Weights.DEFAULT, 21, None),
        (torchvision.models.optical_flow.Raft_Small_Weights.DEFAULT, None, None),
    ],
)
def test_what_published_weights_do_not_say_stays_empty(weights, classes, input_size):
    found = describe_weights(weights)

    assert (found.num_classes, found.input_size) == (classes, input_size)


def test_all_published_weights_can_be_described():
    for name in torchvision.models.list_models():
        for weights in get_model_weights(name):
            assert is_weights(weights)
            describe_weights(weights)


def test_published_weights_and_the_module_fill_each_other_up():
    of_module = PretrainedConfig(num_classes=1000, classifier=["fc"], first_conv=["conv1"])

    found = plain_pretrained_cfg(ResNet18_Weights.DEFAULT, of_module)

    assert (found.classifier, found.first_conv, found.input_size) == (["fc"], ["conv1"], (3, 224, 224))
    assert len(found.class_names) == 1000


def test_a_new_head_does_not_take_over_the_old_classes_names():
    of_module = PretrainedConfig(num_classes=7, classifier=["fc"], first_conv=["conv1"])

    found = plain_pretrained_cfg(ResNet18_Weights.DEFAULT, of_module)

    assert (found.num_classes, found.class_names, found.crop_pct) == (7, [], 0.875)


def test_what_the_caller_says_wins():
    of_module = PretrainedConfig(num_classes=7, classifier=["fc"], first_conv=["conv1"])

    found = plain_pretrained_cfg({"classifier": ["head"], "mean": [0.5]}, of_module)

    assert found == PretrainedConfig(num_classes=7, classifier=["head"], first_conv=["conv1"], mean=[0.5])
