"""Tensors of another size made to fit: first convolutions, positions, patches, windows, vocabularies.

Nothing here runs unasked. Each adapter computes in float32 or wider and returns the target's dtype on its device.
"""

import re
from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from registry.compat.adapters import is_derived, is_position
from registry.errors import InvalidRequestError, UnsupportedValueError

if TYPE_CHECKING:
    from collections.abc import Callable

Grid = tuple[int, int]

_MOST_PREFIX_TOKENS = 8
_BEIT_EXTRA = 3
"""Rows of BEiT's table beside the window's: class to token, token to class, class to class."""
_TABLE = re.compile(r"relative_position_bias_table$")
_RELATIVE = re.compile(r"rel_pos|relative_position")
_VISION = re.compile(r"vis|image|img|patch|pixel", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Adapted:
    """A tensor that fits.

    Attributes:
        tensor: of the target's shape, dtype and device; shares no memory with source or target.
        note: what was done, in words.
        new_rows: indices of dimension 0 that hold the module's own initial values, which nothing has trained.
        kept: whether the target's own values stay as they are, because the module computes them.
    """

    tensor: Tensor
    note: str
    new_rows: range = range(0)
    kept: bool = False


def adapt_tensor(adapter: str, source: Tensor, target: Tensor, name: str, *, grid: Grid | None = None) -> Adapted:
    """Return what an adapter of a report (`Mismatch.adapter`) makes of a source tensor; neither tensor changes.

    Args:
        adapter: `adapt_first_conv`, `resize_position` or `resize_vocabulary`.
        source: what was saved.
        target: what the module has in its place; its values stay in rows that the source does not have.
        name: the target's name in its module, which says what kind of position it is.
        grid: rows and columns of the target's patches, for a position embedding whose grid is not square.

    Raises:
        InvalidRequestError: there is no such adapter, or it makes nothing for these shapes.
        UnsupportedValueError: the shapes do not say how, or the values are no plain floats; the detail says what to do.
    """
    known: dict[str, Callable[[Tensor, Tensor, str, Grid | None], Adapted]] = {
        "adapt_first_conv": _adapt_first_conv,
        "resize_position": _resize_position,
        "resize_vocabulary": _resize_vocabulary,
    }
    if adapter not in known:
        raise InvalidRequestError(f"There is no adapter {adapter!r}; there are {', '.join(known)}.")
    have, want = source.detach(), target.detach()
    if is_derived(name):
        return Adapted(want.clone(), "kept: the module computes it from its own size", kept=True)
    for each in (have, want):
        if not each.is_floating_point() or each.layout != torch.strided:
            kind = f"{each.layout} tensors of {each.dtype}"
            raise UnsupportedValueError(f"{name}: {kind} cannot be resized. {_leave(name)}")
    return known[adapter](have, want, name, grid)


def _adapt_first_conv(source: Tensor, target: Tensor, name: str, _: Grid | None) -> Adapted:
    """Sum the input channels into one, or repeat them and scale by old/new, as timm's `adapt_input_conv`.

    Shapes: (out, in, *kernel) → (out, other, *kernel).
    """
    old, new = _dimension(source, 1), _dimension(target, 1)
    if source.ndim < 3 or not old or _without(source, 1) != _without(target, 1):  # noqa: PLR2004 - out, in, kernel
        raise _no_fit(name, source, target, "differ in more than their input channels")
    wide = source.to(_precise(source))
    if new == 1:
        return Adapted(_as(wide.sum(1, keepdim=True), target), f"{old} input channels summed into one")
    repeats = [1] * source.ndim
    repeats[1] = -(-new // old)
    wide = wide.repeat(repeats)[:, :new] * (old / new)
    return Adapted(_as(wide, target), f"{old} input channels repeated to {new}, times {old}/{new}")


def _resize_vocabulary(source: Tensor, target: Tensor, name: str, _: Grid | None) -> Adapted:
    """Copy the rows that both have, as transformers' `resize_token_embeddings`.

    Shapes: (rows, …) → (other rows, …), and BART's `final_logits_bias` (1, rows) → (1, other rows).
    """
    if source.ndim == target.ndim == 2 and len(source) == len(target) == 1:  # noqa: PLR2004 - (1, rows)
        found = _copy_rows(source.T, target.T, name, "rows")
        return replace(found, tensor=found.tensor.T.contiguous(), new_rows=range(0))
    return _copy_rows(source, target, name, "rows")


def _resize_position(source: Tensor, target: Tensor, name: str, grid: Grid | None) -> Adapted:
    if not is_position(name):
        return _resize_patches(source, target, name)
    if _TABLE.search(name):
        return _resize_table(source, target, name)
    if _RELATIVE.search(name):
        return _resize_axis(source, target, name)
    return _resize_absolute(source, target, name, grid)


def _resize_patches(source: Tensor, target: Tensor, name: str) -> Adapted:
    """Resize a patch projection by the pseudo-inverse of the resizing of patches, as timm's `resample_patch_embed`.

    FlexiViT (Beyer et al. 2023), section 3.4. Shapes: (out, in, height, width) → (out, in, other, other).
    """
    old, new = source.shape[2:], target.shape[2:]
    if source.ndim != 4 or source.shape[:2] != target.shape[:2]:  # noqa: PLR2004 - a projection of images
        raise _no_fit(name, source, target, "are no projections of image patches of two sizes")
    wide = source.to(_precise(source))
    pixels = torch.eye(old.numel(), dtype=wide.dtype, device=wide.device).view(-1, 1, *old)
    resized = interpolate(pixels, size=tuple(new), mode="bicubic", antialias=True)
    inverse = cast("Tensor", torch.linalg.pinv(resized.flatten(1).T))  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
    projection = (wide.flatten(2) @ inverse).view(target.shape)
    return Adapted(_as(projection, target), f"patches of {_by(old)} to {_by(new)}, by pseudo-inverse")


def _resize_table(source: Tensor, target: Tensor, name: str) -> Adapted:
    """Interpolate a table of relative positions, as Swin and timm's `resize_rel_pos_bias_table_simple`.

    Shapes: Swin (positions, heads), BEiT (positions + 3, heads), MaxViT of TensorFlow (heads, height, width). Windows
    are square where the table is flat, since it does not say otherwise.
    """
    if source.ndim == target.ndim == 3 and len(source) == len(target):  # noqa: PLR2004 - (heads, height, width)
        resized = _interpolate(source[None], (target.shape[1], target.shape[2]), antialias=False)[0]
        return Adapted(_as(resized, target), f"table of {_by(source.shape[1:])} to {_by(target.shape[1:])}")
    if source.ndim != 2 or source.shape[1:] != target.shape[1:]:  # noqa: PLR2004 - (positions, heads)
        raise _no_fit(name, source, target, "are no tables of as many heads")
    extra, old, new = next(
        (
            (extra, _odd_side(len(source) - extra), _odd_side(len(target) - extra))
            for extra in (0, _BEIT_EXTRA)
            if _odd_side(len(source) - extra) and _odd_side(len(target) - extra)
        ),
        (0, 0, 0),
    )
    if not old:
        raise _no_fit(name, source, target, "do not say which windows they are of: only square ones are known")
    square = source[: old * old].T.reshape(1, -1, old, old)
    resized = _interpolate(square, (new, new), antialias=False).flatten(2)[0].T
    whole = torch.cat([resized, source[old * old :].to(resized.dtype)])
    kept = f", {extra} rows of the class token kept" if extra else ""
    return Adapted(_as(whole, target), f"window of {old // 2 + 1} to {new // 2 + 1}{kept}")


def _resize_axis(source: Tensor, target: Tensor, name: str) -> Adapted:
    """Interpolate relative positions along one axis, as ViTDet and SAM (`get_rel_pos`): (positions, width)."""
    if source.ndim != 2 or source.shape[1:] != target.shape[1:]:  # noqa: PLR2004 - (positions, width)
        raise _no_fit(name, source, target, "are no relative positions of one width")
    resized = interpolate(source.to(_precise(source)).T[None], size=len(target), mode="linear")[0].T
    return Adapted(_as(resized, target), f"{len(source)} relative positions to {len(target)}")


def _resize_absolute(source: Tensor, target: Tensor, name: str, grid: Grid | None) -> Adapted:
    """Interpolate a grid of positions, its prefix tokens kept, as timm's `resample_abs_pos_embed`; or copy rows.

    Shapes: (1, tokens, width), (1, height, width, channels), or (tokens, width), which is a sequence of text (its
    common rows are copied) unless the name or one class token tells of an image.
    """
    width = source.shape[-1]
    if source.shape[-1:] != target.shape[-1:]:
        raise _no_fit(name, source, target, "have two widths")
    if source.ndim == target.ndim == 4 and len(source) == len(target) == 1:  # noqa: PLR2004 - (1, height, width, channels)
        return _resize_grid(source.reshape(-1, width), target, 0, source.shape[1:3], target.shape[1:3])
    if source.numel() != width * max(source.shape[:-1]) or target.numel() != width * max(target.shape[:-1]):
        raise _no_fit(name, source, target, "are no one list of positions")
    tokens = source.reshape(-1, width)
    prefix = _count_prefix(len(tokens), target.numel() // width, grid)
    if source.ndim == 2 and grid is None and not _VISION.search(name):  # noqa: PLR2004 - (tokens, width)
        if prefix is None or prefix > 1:
            return _copy_rows(source, target, name, "positions")
        if prefix == 0:
            raise _no_fit(name, source, target, "may be of a text or of an image, and the name does not say")
    if prefix is None:
        raise _no_fit(name, source, target, "are no square grids behind as many prefix tokens")
    side = isqrt(len(tokens) - prefix)
    other = isqrt(target.numel() // width - prefix)
    return _resize_grid(tokens, target, prefix, (side, side), grid or (other, other))


def _resize_grid(tokens: Tensor, target: Tensor, prefix: int, old: tuple[int, ...], new: tuple[int, ...]) -> Adapted:
    """Return (prefix + old tokens, width) as the target's (prefix + new tokens, width)."""
    square = tokens[prefix:].T.reshape(1, -1, old[0], old[1])
    resized = _interpolate(square, (new[0], new[1]), antialias=True).flatten(2)[0].T
    whole = torch.cat([tokens[:prefix].to(resized.dtype), resized]).reshape(target.shape)
    kept = f", {prefix} prefix tokens kept" if prefix else ""
    return Adapted(_as(whole, target), f"positions of a grid of {_by(old)} to {_by(new)}{kept}")


def _copy_rows(source: Tensor, target: Tensor, name: str, what: str) -> Adapted:
    """Return the target with the source's values in the rows that both have."""
    if source.shape[1:] != target.shape[1:] or not source.ndim:
        raise _no_fit(name, source, target, "differ in more than their rows")
    common = min(len(source), len(target))
    if target.is_meta and common < len(target):
        raise UnsupportedValueError(
            f"{name}: rows {common} to {len(target) - 1} would have no values, since the module is on the meta device. "
            "Build the module on a real device, so that new rows have initial values."
        )
    if target.is_meta:
        return Adapted(_as(source[:common], target), f"the first {common} of {len(source)} {what} copied")
    rows = target.clone()
    rows[:common] = source[:common].to(target.device, target.dtype)
    if common == len(target):
        return Adapted(rows, f"the first {common} of {len(source)} {what} copied")
    note = f"{common} {what} copied, {common} to {len(target) - 1} stay as the module made them"
    return Adapted(rows, note, new_rows=range(common, len(target)))


def _count_prefix(have: int, want: int, grid: Grid | None) -> int | None:
    """Return the number of tokens before two square grids; None where no small number leaves squares.

    For grids of sides 2 to 64 and up to 8 prefix tokens there is never more than one such number.
    """
    for prefix in range(_MOST_PREFIX_TOKENS + 1):
        fits = grid[0] * grid[1] == want - prefix if grid else _is_square(want - prefix)
        if fits and _is_square(have - prefix):
            return prefix
    return None


def _is_square(count: int) -> bool:
    return count > 1 and isqrt(count) ** 2 == count


def _odd_side(count: int) -> int:
    """Return the side 2w - 1 of a square of relative positions in a window of w; 0 where it is none."""
    side = isqrt(max(count, 0))
    return side if side * side == count and side % 2 else 0


def _interpolate(images: Tensor, size: Grid, *, antialias: bool) -> Tensor:
    """Resize (1, channels, height, width) bicubically, in float32 or wider."""
    return interpolate(images.to(_precise(images)), size=size, mode="bicubic", antialias=antialias)


def _precise(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _as(values: Tensor, target: Tensor) -> Tensor:
    """Return the values with the target's dtype, contiguous, on its device unless that is meta; always a copy."""
    device = values.device if target.is_meta else target.device
    return torch.empty(values.shape, dtype=target.dtype, device=device).copy_(values)


def _dimension(tensor: Tensor, at: int) -> int:
    return tensor.shape[at] if tensor.ndim > at else 0


def _without(tensor: Tensor, at: int) -> tuple[int, ...]:
    return (*tensor.shape[:at], *tensor.shape[at + 1 :])


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in sizes)


def _leave(name: str) -> str:
    return f'Resize it yourself, or leave the module\'s own: allow_missing=["{name}"].'


def _no_fit(name: str, source: Tensor, target: Tensor, why: str) -> UnsupportedValueError:
    shapes = f"{list(source.shape)} in the source and {list(target.shape)} in the module"
    return UnsupportedValueError(f"{name}: {shapes} {why}. {_leave(name)}")
