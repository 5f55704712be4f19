import pytest
import timm
import torch
import torchvision
from torch import nn

from registry.errors import InvalidRequestError, TrustCodeRequiredError
from registry.module_info import Builder
from registry.torch.skeleton import build_skeleton
from registry.torch.targets import build_target

CALLS = []


def make_own(width=2):
    CALLS.append(width)
    return nn.Linear(width, 1)


@pytest.fixture(autouse=True)
def nothing_called():
    CALLS.clear()


@pytest.mark.parametrize(
    ("callable_name", "arguments"),
    [
        ("torchvision.models:resnet18", {"num_classes": 3}),
        ("torchvision.models:regnet_x_400mf", {"num_classes": 3}),
        ("torchvision.models.detection:ssdlite320_mobilenet_v3_large", {"num_classes": 3}),
        ("torchvision.models.segmentation:fcn_resnet50", {"weights_backbone": "DEFAULT"}),
        ("timm:create_model", {"model_name": "test_vit", "pretrained": True}),
        ("timm.models:resnet18", {}),
        ("transformers:ViTModel", {"config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}}),
        ("torch.nn:Transformer", {"d_model": 8, "nhead": 2}),
        ("segmentation_models_pytorch:Unet", {"encoder_name": "resnet18", "encoder_weights": "imagenet"}),
    ],
)
def test_what_a_state_dict_fills_is_on_the_meta_device_and_nothing_is_fetched(callable_name, arguments):
    made = build_target(Builder(callable=callable_name, arguments=arguments))

    assert {each.device.type for each in made.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("name", ["maxvit_rmlp_pico_rw_256", "eva02_tiny_patch14_224"])
def test_tables_that_no_state_dict_holds_have_their_values(name):
    made = build_target(Builder(callable="timm:create_model", arguments={"model_name": name}))

    torch.manual_seed(0)
    real = timm.create_model(name)
    tables = {each: value for each, value in real.named_buffers() if each not in real.state_dict()}
    assert tables
    for each, value in made.named_buffers():
        assert each not in tables or torch.equal(value, tables[each])


def test_ties_stay_ties():
    def tied():
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
        module[1].weight = module[0].weight
        return module

    made = build_skeleton(tied)

    assert made[1].weight is made[0].weight
    assert made[1].bias is not made[0].bias
    assert all(isinstance(each, nn.Parameter) and each.requires_grad and each.is_meta for each in made.parameters())


def test_values_are_there_when_they_are_asked_for():
    builder = Builder(callable="torchvision.models:squeezenet1_1", arguments={"num_classes": 3})

    assert not any(each.is_meta for each in build_target(builder, with_values=True).state_dict().values())


def test_random_numbers_stay_where_they_were():
    state = torch.get_rng_state()
    build_target(Builder(callable="torchvision.models:resnet18", arguments={}))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_builder_of_ones_own_is_called_only_when_it_is_trusted():
    builder = Builder(callable=f"{__name__}:make_own", arguments={"width": 3})
    with pytest.raises(TrustCodeRequiredError, match="trust_builder"):
        build_target(builder)
    assert CALLS == []

    assert build_target(builder, trust_builder=True).in_features == 3


@pytest.mark.parametrize(
    ("callable_name", "arguments"),
    [
        ("os:system", {"command": "touch {}"}),
        ("torch:os.system", {"command": "touch {}"}),
        ("timm.models._helpers:os.system", {"command": "touch {}"}),
        ("torch.serialization:os.system", {"command": "touch {}"}),
        ("torch.nn.modules.module:torch.os.system", {"command": "touch {}"}),
        ("torchvision.models:resnet.torch.os.system", {"command": "touch {}"}),
        ("torch.hub:load", {"repo_or_dir": "{}", "model": "x", "source": "local", "trust_repo": True}),
        ("torch:load", {"f": "{}", "weights_only": False}),
        ("torch.jit:load", {"f": "{}"}),
        ("torch.utils.cpp_extension:load_inline", {"name": "x", "cpp_sources": "int x;"}),
        ("transformers:AutoModel.from_pretrained", {"pretrained_model_name_or_path": "{}", "trust_remote_code": True}),
        ("transformers.models.auto.modeling_auto:AutoModel.from_pretrained", {"pretrained_model_name_or_path": "{}"}),
        ("transformers:pipeline", {"model": "{}", "trust_remote_code": True}),
        ("timm:create_model", {"model_name": "hf-hub:someone/something"}),
        ("timm:create_model", {"model_name": "local-dir:{}"}),
        ("timm:create_model", {"model_name": "test_vit", "checkpoint_path": "{}"}),
        ("segmentation_models_pytorch:from_pretrained", {"pretrained_model_name_or_path": "{}"}),
        ("segmentation_models_pytorch:Unet", {"encoder_name": "tu-hf-hub:someone/something"}),
        ("transformers:BertModel", {"config": {"attn_implementation": "someone/kernels"}}),
    ],
)
def test_a_known_library_runs_its_own_architectures_only(callable_name, arguments, tmp_path):
    touched = tmp_path / "touched"
    filled = {name: value.format(touched) if isinstance(value, str) else value for name, value in arguments.items()}

    with pytest.raises(TrustCodeRequiredError, match="trust_builder"):
        build_target(Builder(callable=callable_name, arguments=filled))

    assert not touched.exists()


def test_arguments_that_are_refused_say_so():
    with pytest.raises(InvalidRequestError, match="refuses its arguments"):
        build_target(Builder(callable="torchvision.models:resnet18", arguments={"colour": "red"}))


def test_every_architecture_of_torchvision_counts_as_known():
    for name in torchvision.models.list_models()[::30]:
        found = torchvision.models.get_model_builder(name)
        home = found.__module__
        build_target(Builder(callable=f"{home}:{found.__name__}", arguments={}))
