"""Shape mismatches that a known transformation could mend, recognised by name *and* rule. None ever runs unasked."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice

from registry.compat.report import Adapter
from registry.tensor_spec import TensorSpec

_POSITION = re.compile(
    r"pos_?emb|position_embedding|positional_embedding|absolute_pos|rel_pos|relative_position|(?:^|\.)wpe\."
)
_TABLE = "relative_position_bias_table"
_DERIVED = ("relative_position_index", "relative_coords_table", "attn_mask", "position_ids")
"""Buffers that a module computes from its window or input size (Swin, BEiT, MaxViT, BERT)."""
_VOCABULARY = re.compile(
    r"(?:^|\.)(?:(?:word_embeddings|embed_tokens|tok_embeddings|token_embedding|wte|shared|lm_head)\.weight"
    r"|token_type_embeddings\.weight"
    r"|(?:decoder|lm_head)\.bias|predictions\.bias|decoder\.weight|final_logits_bias)$"
)
_BIAS_ROW = "final_logits_bias"
"""BART's, of shape (1, rows)."""
_PATCH = re.compile(r"patch_?embed|conv_proj|patch_embeddings")


def find_adapter(source: TensorSpec, target: TensorSpec, *, first_convs: Sequence[str]) -> Adapter | None:
    """Return what could make `source` fit `target`, by the rules of timm, transformers and torchvision.

    - `resize_position`: a position embedding or relative position table whose width (last size, heads) is equal, a
      buffer that is made from the window size, or a patch projection whose kernel differs.
    - `resize_vocabulary`: a token embedding or tied output layer with another number of rows.
    - `adapt_first_conv`: the first convolution with another number of input channels (dimension 1).

    Args:
        source: the tensor that was saved.
        target: the tensor of the same name after renaming.
        first_convs: names of the target's first convolution weights.
    """
    have, want = source.shape, target.shape
    differing = [at for at, (one, other) in enumerate(zip(have, want, strict=False)) if one != other]
    if is_derived(target.name) or (is_position(target.name) and _resizes_position(source, target, differing)):
        return "resize_position"
    if len(have) != len(want):
        return None
    if differing == [1 if target.name.endswith(_BIAS_ROW) else 0] and _VOCABULARY.search(target.name):
        return "resize_vocabulary"
    if target.name in first_convs and differing == [1]:
        return "adapt_first_conv"
    if _PATCH.search(target.name) and len(have) > 2 and min(differing) >= 2:  # noqa: PLR2004 - the kernel's dimensions
        return "resize_position"
    return None


def find_first_convs(tensors: Iterable[TensorSpec], recorded: Sequence[str] = ()) -> list[str]:
    """Return the weights of the first convolution: the recorded modules' or the first tensor with a kernel."""
    if recorded:
        return [f"{module}.weight" for module in recorded]
    kernels = (each.name for each in tensors if len(each.shape) > 2 and each.name.endswith("weight"))  # noqa: PLR2004 - out, in, kernel
    return list(islice(kernels, 1))


def is_position(name: str) -> bool:
    """Return whether a tensor is called as position embeddings and relative position tables are."""
    return _POSITION.search(name) is not None


def is_derived(name: str) -> bool:
    """Return whether a tensor is called as buffers are that a module computes from its own size."""
    return name.endswith(_DERIVED)


def _resizes_position(source: TensorSpec, target: TensorSpec, differing: Sequence[int]) -> bool:
    if len(source.shape) != len(target.shape) or not source.shape:
        return False
    if target.name.endswith(_TABLE) and len(source.shape) == 3:  # noqa: PLR2004 - (heads, height, width)
        return 0 not in differing
    return len(source.shape) - 1 not in differing
