"""Tiny real data: the 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

HIGHEST = 16.0
"""The value of a pixel that is all ink."""


@dataclass(frozen=True, slots=True)
class Images:
    """Images and what they show.

    Attributes:
        inputs: float32, (images, 3, side, side), between -1 and 1.
        labels: int64, (images,) of classes or (images, side, side) of pixels.
    """

    inputs: Tensor
    labels: Tensor

    def split(self, count: int) -> "tuple[Images, Images]":
        """Return the first `count` images, and the others."""
        return Images(self.inputs[:count], self.labels[:count]), Images(self.inputs[count:], self.labels[count:])


def digits(wanted: Collection[int], side: int = 32) -> Images:
    """Return the images of some digits, shuffled; their labels count from 0 in ascending order of the digits.

    Args:
        wanted: digits between 0 and 9.
        side: of the enlarged images, in pixels.
    """
    found = load_digits()
    values, names = np.asarray(found.images, np.float32), np.asarray(found.target)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    chosen = [int(each) for each in order if names[int(each)] in wanted]
    labels = np.searchsorted(np.sort(np.array(list(wanted))), names[chosen])
    return Images(_enlarged(torch.from_numpy(values[chosen]), side), torch.from_numpy(labels).long())


def strokes(side: int = 64) -> Images:
    """Return all images with a label a pixel: 1 where there is ink."""
    found = digits(range(10), side)
    return Images(found.inputs, (found.inputs[:, 0] > 0).long())


def _enlarged(values: Tensor, side: int) -> Tensor:
    grey = values[:, None] / HIGHEST * 2 - 1
    large = functional.interpolate(grey, size=(side, side), mode="bilinear", align_corners=False)
    return large.expand(-1, 3, -1, -1).contiguous()
