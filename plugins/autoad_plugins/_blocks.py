"""Layers between a convolution and its activation that stay defined on the smallest maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization (Ioffe and Szegedy, 2015) that takes a lone 1x1 map in training too.

    x: (B, C, H, W) to the same shape. One value a channel has no variance: it is normalized by the running
    statistics, which it leaves as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() == self.num_features:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        return super().forward(input)


class InstanceNorm(nn.Module):
    """Instance normalization (Ulyanov et al., 2016) without parameters; the identity on maps of 1x1.

    x: (B, C, H, W) to the same shape. On a map of one pixel the formula gives 0 whatever the image, which would
    cut the network in two.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[-2:].numel() == 1 else F.instance_norm(x)

    def extra_repr(self) -> str:
        return str(self.channels)


def max_pool(kernel: tuple[int, int]) -> nn.Module:
    """(B, C, H, W) to (B, C, ceil(H / kh), ceil(W / kw)): the largest value of each window."""
    return nn.Identity() if kernel == (1, 1) else nn.MaxPool2d(kernel, ceil_mode=True)


def average_pool(kernel: tuple[int, int]) -> nn.Module:
    """(B, C, H, W) to (B, C, ceil(H / kh), ceil(W / kw)): the mean of each window's pixels inside the image."""
    if kernel == (1, 1):
        return nn.Identity()
    return nn.AvgPool2d(kernel, ceil_mode=True, count_include_pad=False)
