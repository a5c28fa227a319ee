"""How far a code is from what training images have at the same place: PaDiM [Defard et al. 2021] on the code of a child.

At each position the codes of training images are a Gaussian, whose covariance is shrunk towards that of all positions. The score
is the Mahalanobis distance. It is for objects that always lie alike, and notices what is right somewhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoad_core.geometry import Size

POSITIONS = 32  # down and across at most; a larger code is averaged
CHANNELS = 32  # at most; of a code with more, so many random directions are kept
_SHRINK = 0.05  # share of the covariance of all positions
_RIDGE = 1e-3  # of the mean variance, added to each
_QUIET = 0.03  # of a lively channel's deviation: what a quieter one is divided by, for it must not decide


class CodePlaces(nn.Module):
    """Gaussians of codes (C, h, w), one for each place.

    Args:
        channels: C.
        size: (h, w) of the code of a whole image.
    """

    directions: Tensor  # (C, c), orthonormal columns over scaled channels
    mean: Tensor  # (h' * w', c)
    whitening: Tensor  # (h' * w', c, c), inverse of a Cholesky factor of the covariance

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self._pool = (ceil(size[0] / POSITIONS), ceil(size[1] / POSITIONS))
        places = ceil(size[0] / self._pool[0]) * ceil(size[1] / self._pool[1])
        kept = min(channels, CHANNELS)
        self.register_buffer("directions", torch.eye(channels, kept))
        self.register_buffer("mean", torch.zeros(places, kept))
        self.register_buffer("whitening", torch.eye(kept).repeat(places, 1, 1))

    def fit(self, codes: Iterable[Tensor], some: Tensor) -> None:
        """Fit on codes of training images.

        Args:
            codes: (B, C, h, w), batch by batch.
            some: (n, C) of them, from all over the images.
        """
        self.directions.copy_(_directions(some, self.directions.shape[1]))
        batches = iter(codes)
        first = next(batches)
        count, total = 0, torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(self.whitening, dtype=torch.float64)
        # Squares of differences from the first image's are small where codes are large.
        start = self._vectors(first[:1]).double()
        for batch in chain([first], batches):
            differences = self._vectors(batch).double() - start  # (places, B, c)
            total += differences.sum(1)
            squares += differences.transpose(1, 2) @ differences
            count += len(batch)
        mean = total / count
        own = squares / count - mean[:, :, None] * mean[:, None, :]
        shared = own.mean(0)
        ridge = _RIDGE * shared.diagonal().mean() + 1e-12
        identity = torch.eye(len(shared), dtype=torch.float64)
        factor = torch.linalg.cholesky((1 - _SHRINK) * own + _SHRINK * shared + ridge * identity)
        self.mean.copy_(mean + start[:, 0])
        self.whitening.copy_(torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False))

    def forward(self, code: Tensor, stride: Size) -> Tensor:
        """Distances (B, H, W) float32 >= 0 of codes (B, C, h, w) each position of which stands for ``stride`` pixels.

        H and W are those of the image, or a little more.
        """
        away = self._vectors(code) - self.mean[:, None]
        distances = (away @ self.whitening.transpose(1, 2)).square().sum(2).sqrt()  # (places, B)
        height, width = (ceil(side / pool) for side, pool in zip(code.shape[2:], self._pool, strict=True))
        maps = distances.T.reshape(len(code), 1, height, width)
        size = (height * self._pool[0] * stride[0], width * self._pool[1] * stride[1])
        wide: Tensor = F.interpolate(maps, size, mode="bilinear", align_corners=False)
        return wide[:, 0]

    def _vectors(self, code: Tensor) -> Tensor:
        """(places, B, c) float32."""
        small = code.float()
        if self._pool != (1, 1):
            small = F.avg_pool2d(small, self._pool, ceil_mode=True, count_include_pad=False)
        return torch.einsum("bchw,cd->hwbd", small, self.directions).flatten(0, 1)


def _directions(codes: Tensor, kept: int) -> Tensor:
    """(C, kept) for codes (n, C): the channels themselves, or random directions among channels scaled to a deviation of 1."""
    channels = codes.shape[1]
    if kept == channels:
        return torch.eye(channels)
    drawn = torch.randn(channels, kept, generator=torch.Generator().manual_seed(0))
    deviation = codes.double().std(0, correction=0)
    least = _QUIET * float(deviation.quantile(0.9)) + 1e-12  # though most be silent, or one in larger units
    orthonormal: Tensor = torch.linalg.qr(drawn).Q
    return orthonormal / deviation.clamp(min=least).float()[:, None]
