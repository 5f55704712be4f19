"""Ground truth: timm's own resampling, transformers' own resizing, and what loads strictly afterwards."""

import math
import re

import pytest
import timm
import torch
import transformers
from timm.layers import (
    resample_abs_pos_embed,
    resample_abs_pos_embed_nhwc,
    resample_patch_embed,
    resize_rel_pos_bias_table_simple,
)
from timm.models import adapt_input_conv
from timm.models.vision_transformer_sam import get_rel_pos

from registry.compat.compare import compare
from registry.errors import InvalidRequestError, UnsupportedValueError
from registry.torch.adapt import adapt_tensor
from registry.torch.architecture import architecture_of

SMALL = {"embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
WINDOW = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 3}


def tensor(*shape):
    torch.manual_seed(math.prod(shape))
    return torch.randn(shape)


def vit(**options):
    return timm.create_model("vit_tiny_patch16_224", **(SMALL | options))


def adapted(source, target):
    """Return the source's tensors as they fit the target, adapted where the report says so, and the notes."""
    saved, own = source.state_dict(), target.state_dict()
    report = compare(architecture_of(source), architecture_of(target))
    state_dict = report.fitting(saved)
    notes = {}
    for each in report.mismatched:
        found = adapt_tensor(each.adapter, saved[each.source_name], own[each.name], each.name)
        state_dict[each.name], notes[each.name] = found.tensor, found.note
    return state_dict, notes


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7])
def test_a_first_convolution_takes_other_channels_as_timm_does(channels):
    weight, target = tensor(4, 3, 2, 2), torch.zeros(4, channels, 2, 2)
    found = adapt_tensor("adapt_first_conv", weight, target, "conv1.weight")
    assert torch.equal(found.tensor, adapt_input_conv(channels, weight))


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_other_than_three_are_adapted_too(channels):
    weight, target = tensor(4, 1, 2, 2), torch.zeros(4, channels, 2, 2)
    found = adapt_tensor("adapt_first_conv", weight, target, "conv1.weight")
    assert torch.allclose(found.tensor, adapt_input_conv(channels, weight, base_chans=1))
    assert found.note == f"1 input channels repeated to {channels}, times 1/{channels}"


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize(("old", "new"), [(4, 7), (14, 24), (6, 3)])
def test_positions_are_resampled_as_timm_does_and_prefix_tokens_are_kept(prefix, old, new):
    source, target = tensor(1, prefix + old * old, 8), torch.zeros(1, prefix + new * new, 8)
    found = adapt_tensor("resize_position", source, target, "pos_embed")
    assert torch.equal(found.tensor, resample_abs_pos_embed(source, [new, new], num_prefix_tokens=prefix))
    assert f"a grid of {old}x{old} to {new}x{new}" in found.note


def test_positions_of_a_grid_that_is_not_square_need_to_be_told():
    source, target = tensor(1, 1 + 16, 8), torch.zeros(1, 1 + 6 * 3, 8)
    with pytest.raises(UnsupportedValueError, match=r'no square grids.*allow_missing=\["pos_embed"\]'):
        adapt_tensor("resize_position", source, target, "pos_embed")
    found = adapt_tensor("resize_position", source, target, "pos_embed", grid=(6, 3))
    assert torch.equal(found.tensor, resample_abs_pos_embed(source, [6, 3], num_prefix_tokens=1))


def test_positions_of_networks_with_other_prefix_tokens_are_not_guessed():
    with pytest.raises(UnsupportedValueError, match="as many prefix tokens"):
        adapt_tensor("resize_position", tensor(1, 197, 8), torch.zeros(1, 198, 8), "pos_embed")


def test_positions_with_channels_last_are_resampled_as_timm_does():
    source, target = tensor(1, 4, 4, 8), torch.zeros(1, 7, 3, 8)
    found = adapt_tensor("resize_position", source, target, "pos_embed")
    assert torch.equal(found.tensor, resample_abs_pos_embed_nhwc(source, [7, 3]))


@pytest.mark.parametrize(("old", "new"), [((16, 16), (32, 32)), ((16, 16), (8, 8)), ((4, 4), (6, 2))])
def test_patch_projections_are_resampled_by_pseudo_inverse_as_timm_does(old, new):
    source, target = tensor(4, 3, *old), torch.zeros(4, 3, *new)
    found = adapt_tensor("resize_position", source, target, "patch_embed.proj.weight")
    assert torch.allclose(found.tensor, resample_patch_embed(source, list(new)), atol=1e-6)


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize(("old", "new"), [(7, 12), (14, 24), (8, 4), (1, 2)])
def test_tables_of_relative_positions_are_resampled_as_swin_and_timm_do(extra, old, new):
    source = tensor((2 * old - 1) ** 2 + extra, 3)
    target = torch.zeros((2 * new - 1) ** 2 + extra, 3)
    found = adapt_tensor("resize_position", source, target, "attn.relative_position_bias_table")
    assert torch.equal(found.tensor, resize_rel_pos_bias_table_simple(source, (new, new), target.shape))
    assert f"window of {old} to {new}" in found.note


def test_tables_with_heads_first_are_resampled_as_timm_does():
    source, target = tensor(3, 13, 13), torch.zeros(3, 23, 23)
    found = adapt_tensor("resize_position", source, target, "attn.rel_pos.relative_position_bias_table")
    assert torch.equal(found.tensor, resize_rel_pos_bias_table_simple(source, (12, 12), target.shape))


def test_tables_of_windows_that_are_not_square_are_not_guessed():
    with pytest.raises(UnsupportedValueError, match="only square ones"):
        adapt_tensor("resize_position", tensor(13 * 11, 3), torch.zeros(23 * 23, 3), "relative_position_bias_table")


def test_relative_positions_of_one_axis_are_resampled_as_sam_does():
    source = tensor(27, 8)
    found = adapt_tensor("resize_position", source, torch.zeros(127, 8), "blocks.0.attn.rel_pos_h")
    looked_up = get_rel_pos(64, 64, source)
    # `get_rel_pos` answers by query and key; the distances 63 to -63 stand in its first column and row.
    assert torch.allclose(found.tensor, torch.cat([looked_up[0].flip(0)[:-1], looked_up[:, 0]]))


def test_buffers_that_a_module_computes_stay_its_own():
    target = torch.arange(16).view(4, 4)
    found = adapt_tensor("resize_position", torch.zeros(9, 9).long(), target, "attn.relative_position_index")
    assert found.kept
    assert torch.equal(found.tensor, target)
    assert found.tensor.data_ptr() != target.data_ptr()


@pytest.mark.parametrize("name", ["wpe.weight", "embeddings.position_embeddings.weight"])
def test_positions_of_text_are_copied_row_by_row(name):
    source, target = tensor(24, 4), tensor(40, 4)
    found = adapt_tensor("resize_position", source, target, name)
    assert torch.equal(found.tensor, torch.cat([source, target[24:]]))
    assert found.new_rows == range(24, 40)
    shorter = adapt_tensor("resize_position", target, source, name)
    assert torch.equal(shorter.tensor, target[:24])


def test_positions_of_images_in_an_embedding_are_known_by_name_or_class_token():
    named = adapt_tensor("resize_position", tensor(16, 4), torch.zeros(36, 4), "vision.position_embedding.weight")
    assert named.note == "positions of a grid of 4x4 to 6x6"
    counted = adapt_tensor(
        "resize_position", tensor(50, 4), torch.zeros(197, 4), "embeddings.position_embedding.weight"
    )
    assert counted.note == "positions of a grid of 7x7 to 14x14, 1 prefix tokens kept"
    with pytest.raises(UnsupportedValueError, match="of a text or of an image"):
        adapt_tensor("resize_position", tensor(16, 4), torch.zeros(64, 4), "embeddings.position_embedding.weight")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_are_computed_precisely_and_take_the_dtype_of_the_target(dtype):
    source, target = tensor(1, 17, 8), torch.zeros(1, 50, 8, dtype=dtype)
    found = adapt_tensor("resize_position", source, target, "pos_embed").tensor
    assert torch.equal(found, resample_abs_pos_embed(source, [7, 7]).to(dtype))
    back = adapt_tensor("resize_position", source.half(), torch.zeros(1, 50, 8), "pos_embed").tensor
    assert torch.equal(back, resample_abs_pos_embed(source.half().float(), [7, 7]))


def test_neither_tensor_changes_and_no_gradient_is_recorded():
    source, target = tensor(6, 4).requires_grad_(), torch.nn.Parameter(tensor(9, 4))
    before = source.detach().clone(), target.detach().clone()
    found = adapt_tensor("resize_vocabulary", source, target, "wte.weight").tensor
    found.zero_()
    assert not found.requires_grad
    assert torch.equal(source, before[0])
    assert torch.equal(target, before[1])


def test_new_rows_of_a_module_on_meta_have_no_values_to_stay():
    target = torch.empty(9, 4, device="meta")
    with pytest.raises(UnsupportedValueError, match="rows 6 to 8 would have no values"):
        adapt_tensor("resize_vocabulary", tensor(6, 4), target, "wte.weight")
    whole = adapt_tensor("resize_vocabulary", tensor(12, 4), target, "wte.weight").tensor
    assert torch.equal(whole, tensor(12, 4)[:9])


@pytest.mark.parametrize(
    ("adapter", "source", "target", "name"),
    [
        ("adapt_first_conv", (4, 3, 3, 3), (5, 1, 3, 3), "conv1.weight"),
        ("adapt_first_conv", (4, 3), (4, 1), "conv1.weight"),
        ("resize_vocabulary", (4, 3), (6, 2), "wte.weight"),
        ("resize_vocabulary", (), (6,), "wte.weight"),
        ("resize_position", (1, 17, 8), (1, 50, 9), "pos_embed"),
        ("resize_position", (2, 17, 8), (2, 50, 8), "pos_embed"),
        ("resize_position", (4, 3, 2, 4, 4), (4, 3, 2, 8, 8), "patch_embed.proj.weight"),
        ("resize_position", (9, 3), (25, 4), "relative_position_bias_table"),
        ("resize_position", (9,), (25,), "blocks.0.attn.rel_pos_h"),
    ],
)
def test_shapes_that_no_adapter_knows_are_refused_by_name(adapter, source, target, name):
    with pytest.raises(UnsupportedValueError, match=rf'^{re.escape(name)}: .*allow_missing=\["{name}"\]'):
        adapt_tensor(adapter, torch.zeros(source), torch.zeros(target), name)


def test_unknown_adapters_and_other_kinds_of_numbers_are_refused():
    with pytest.raises(InvalidRequestError, match="no adapter 'head'"):
        adapt_tensor("head", tensor(1), tensor(1), "fc.weight")
    with pytest.raises(UnsupportedValueError, match=r"torch\.int64 cannot be resized"):
        adapt_tensor("resize_vocabulary", torch.zeros(3, 2).long(), tensor(4, 2), "wte.weight")


def test_a_vit_takes_another_image_size_as_timm_loads_it():
    source, target = vit(img_size=64), vit(img_size=96)
    state_dict, notes = adapted(source, target)
    assert list(notes) == ["pos_embed"]
    target.load_state_dict(state_dict)
    truth = timm.models.vision_transformer.checkpoint_filter_fn(source.state_dict(), target)
    assert all(torch.equal(value, truth[name]) for name, value in target.state_dict().items())


def test_a_vit_takes_another_patch_size_as_timm_loads_it():
    source, target = vit(img_size=64), vit(img_size=64, patch_size=32)
    state_dict, notes = adapted(source, target)
    assert set(notes) == {"pos_embed", "patch_embed.proj.weight"}
    target.load_state_dict(state_dict)
    truth = timm.models.vision_transformer.checkpoint_filter_fn(source.state_dict(), target)
    assert all(torch.allclose(value, truth[name], atol=1e-6) for name, value in target.state_dict().items())


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_a_network_takes_other_channels_as_timm_loads_it(channels):
    source, target = timm.create_model("test_resnet"), timm.create_model("test_resnet", in_chans=channels)
    state_dict, notes = adapted(source, target)
    assert list(notes) == ["conv1.0.weight"]
    target.load_state_dict(state_dict)
    assert torch.equal(target.conv1[0].weight, adapt_input_conv(channels, source.conv1[0].weight))


def test_a_swin_takes_another_window_and_keeps_what_it_computes():
    source = timm.create_model("swin_tiny_patch4_window7_224", img_size=56, window_size=7, **WINDOW)
    target = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=8, **WINDOW)
    state_dict, notes = adapted(source, target)
    assert all(name.endswith("relative_position_bias_table") for name in notes)
    target.load_state_dict(state_dict)
    assert target(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_beit_takes_another_image_size():
    source = timm.create_model("beit_base_patch16_224", img_size=64, **SMALL)
    target = timm.create_model("beit_base_patch16_224", img_size=96, **SMALL)
    state_dict, notes = adapted(source, target)
    assert list(notes) == ["blocks.0.attn.relative_position_bias_table"]
    assert "3 rows of the class token kept" in notes["blocks.0.attn.relative_position_bias_table"]
    target.load_state_dict(state_dict)


def gpt2(**options):
    config = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 12, "vocab_size": 20}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**(config | options)))


def bert(**options):
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config |= {"max_position_embeddings": 12, "vocab_size": 20}
    return transformers.BertForMaskedLM(transformers.BertConfig(**(config | options)))


def bart(**options):
    config = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 20, "max_position_embeddings": 12}
    config |= {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("attention_heads", "ffn_dim")}
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**(config | options)))


@pytest.mark.parametrize("build", [gpt2, bert, bart])
@pytest.mark.parametrize("size", [26, 14])
def test_a_vocabulary_is_resized_as_transformers_does_in_the_rows_that_both_have(build, size):
    source, target = build(), build(vocab_size=size)
    own = {name: value.clone() for name, value in target.state_dict().items()}
    state_dict, notes = adapted(source, target)
    target.load_state_dict(state_dict)
    source.resize_token_embeddings(size, mean_resizing=False)
    common = min(size, 20)
    for name, value in target.state_dict().items():
        truth = source.state_dict()[name]
        rows = common if name in notes else len(value)
        assert torch.equal(value[:rows], truth[:rows])
        assert torch.equal(value[rows:], own[name][rows:])
    assert notes


def test_a_longer_text_keeps_its_first_positions():
    source, target = gpt2(), gpt2(n_positions=20)
    state_dict, notes = adapted(source, target)
    assert notes == {"transformer.wpe.weight": "12 positions copied, 12 to 19 stay as the module made them"}
    target.load_state_dict(state_dict)
    assert torch.equal(target.transformer.wpe.weight[:12], source.transformer.wpe.weight)
