"""Distances by pixel: l1, l2, l2,1 and relative. With e = image - reconstruction, (B, C, H, W).

Norms are summed over channels, so that a colour image weighs as its three planes do.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """At least float32: sums over an image lose too much in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class L1:
    """Map sum_c |e|, (B, H, W) in [0, C]; its sum is the l1 norm."""

    reduction: Literal["sum", "mean"] = "sum"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return (widen(image) - widen(reconstruction)).abs().sum(1)


class L2:
    """Map sum_c e^2, (B, H, W) in [0, C]; its sum is the squared l2 norm."""

    reduction: Literal["sum", "mean"] = "sum"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return (widen(image) - widen(reconstruction)).square().sum(1)


class L21:
    """Map sum_c e_ij^2 / ||e_.j||, (B, H, W) in [0, C]; its sum is the l2,1 norm.

    The l2,1 norm is sum_j ||e_.j||: the Euclidean norms of the columns of each channel, added up. Each pixel
    gets the share of its column's norm that its square has in the column's squares.
    """

    reduction: Literal["sum", "mean"] = "sum"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        error = widen(image) - widen(reconstruction)
        # normalize divides by max(norm, 1e-12): a column without error gives 0, and a gradient of 0, not of 0/0.
        return (error * F.normalize(error, dim=2)).sum(1)


class Relative:
    """Map mean_c e^2 / (var(image) + 0.005), (B, H, W) >= 0; its mean is the share of variance not explained.

    An error counts for less where the image itself is busy. var is over all pixels and channels of an image; the
    constant, of the order of camera noise with a spread of 0.07, keeps flat images finite.
    """

    reduction: Literal["sum", "mean"] = "mean"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        image = widen(image)
        squared = (image - widen(reconstruction)).square().mean(1)
        variance = image.flatten(1).var(1, correction=0)
        return squared / (variance + 0.005)[:, None, None]
