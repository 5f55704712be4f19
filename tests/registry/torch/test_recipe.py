"""A recipe read off one module and applied to another gives the same freezing."""

import json
from fnmatch import fnmatchcase
from itertools import islice, product

import pytest
import timm
import torch
import torchvision
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from registry.errors import InvalidRequestError
from registry.module_info import Recipe
from registry.torch.freeze import freeze, unfreeze
from registry.torch.frozen_part import iter_parts
from registry.torch.recipe import apply_recipe, find_recipe, remember, short_globs


def bert():
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            num_labels=3,
        )
    )


BUILDERS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=3),
    "inception_v3": lambda: torchvision.models.inception_v3(num_classes=3, init_weights=False),
    "densenet121": lambda: torchvision.models.densenet121(num_classes=3),
    "timm vit": lambda: timm.create_model("test_vit", num_classes=3),
    "bert": bert,
    "attention": lambda: nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, dropout=0.1), "out": nn.Linear(8, 2)}),
}


def build(name):
    with torch.device("meta"):
        return BUILDERS[name]()


def freezing_of(module):
    kept = {name: (part.own.statistics, part.own.in_eval) for name, _, part in iter_parts(module)}
    return (
        {name: each.requires_grad for name, each in module.named_parameters()},
        {name: each for name, each in kept.items() if any(each)},
    )


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(
    "options",
    [
        {"except_": ("*fc.*", "*classifier.*", "*head.*", "out.*")},
        {},
        {"except_": ("*.bias",)},
        {"except_": ("*weight",), "batch_norm": "train"},
        {"except_": ("*fc.*", "*classifier.*", "*head.*", "out.*"), "dropout": "eval"},
        {"dropout": "eval"},
    ],
    ids=lambda options: " ".join(options) or "all",
)
def test_a_recipe_gives_the_same_freezing_to_another_module(name, options):
    module, other = build(name), build(name)
    present = [glob for glob in options.get("except_", ()) if matches(module, glob)]
    freeze(module, **{**options, "except_": present})
    assert freezing_of(module) != freezing_of(other)

    recipe = find_recipe(module)
    assert recipe is not None
    apply_recipe(other, json.loads(recipe.model_dump_json()))

    assert freezing_of(other) == freezing_of(module)
    assert find_recipe(other) == recipe


def matches(module, glob):
    from registry.torch.frozen_names import match_names

    try:
        return match_names("", glob, module)
    except InvalidRequestError:
        return None


def test_a_recipe_is_short_and_can_be_read():
    net = build("resnet18")
    freeze(net, ("fc", "layer4.1"))
    recipe = find_recipe(net)
    assert recipe is not None
    assert recipe.frozen == ["conv1.*", "bn1.*", "layer1.*", "layer2.*", "layer3.*", "layer4.0.*"]
    freeze(net)
    assert find_recipe(net) == Recipe(frozen=["*"])


@pytest.mark.parametrize(
    ("others", "count"),
    [([], 1), ([f"{at}.adapter.weight" for at in range(1200)], 1), (["1200.linear.weight", "7.norm.weight"], 20)],
)
def test_thousands_of_frozen_tensors_make_few_globs_that_match_them_and_nothing_else(others, count):
    names = [f"{at}.linear.weight" for at in range(1200)]
    # Beside each of them something that trains, so that no whole module is frozen.
    beside = [*others, *(f"{at}.linear.bias" for at in range(1200))]
    globs = short_globs(names, beside)
    assert [name for name in names if not any(fnmatchcase(name, each) for each in globs)] == []
    assert [name for name in beside if any(fnmatchcase(name, each) for each in globs)] == []
    assert len(globs) <= count


def test_what_follows_no_order_makes_no_recipe():
    names = [f"{''.join(letters)}.weight" for letters in islice(product("abcdefghijk", repeat=3), 1200)]
    with pytest.raises(InvalidRequestError, match="a recipe holds 1,000"):
        short_globs(names, [name.replace("weight", "bias") for name in names])


def test_rows_come_back():
    net, other = nn.ModuleDict({"embed": nn.Embedding(8, 2)}), nn.ModuleDict({"embed": nn.Embedding(8, 2)})
    freeze(net, rows={"embed.weight": [(0, 5)]})
    recipe = find_recipe(net)
    assert recipe is not None
    assert apply_recipe(other, recipe).rows == {"embed.weight": [(0, 5)]}


def test_a_recipe_says_what_is_frozen_now_and_what_was_noted():
    net = build("resnet18")
    assert find_recipe(net) is None
    freeze(net)
    unfreeze(net)
    assert find_recipe(net) is None
    remember(net, "vision/resnet18:1", ["fc"])
    assert find_recipe(net) == Recipe(base="vision/resnet18:1", head=["fc"])


def test_a_recipe_for_another_network_is_refused_and_nothing_changes():
    net = build("resnet18")
    with pytest.raises(InvalidRequestError, match=r"frozen='features.\*' matches no"):
        apply_recipe(net, Recipe(frozen=["layer1.*", "features.*"]))
    with pytest.raises(InvalidRequestError, match="Did you mean"):
        apply_recipe(net, {"rows": {"fc.weigth": [(0, 1)]}})
    assert all(each.requires_grad for each in net.parameters())


@pytest.mark.parametrize("given", ["{", '{"frozen": 1}', {"frozzen": []}, None, torch.nn.Identity()])
def test_what_is_no_recipe_is_refused(given):
    with pytest.raises(InvalidRequestError, match="no recipe"):
        apply_recipe(build("resnet18"), given)
