"""The hypothesis that normal codes lie in one ball: Deep SVDD (Ruff et al., 2018; Table I, Cen)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from autoad_core.protocols import Batch

_AWAY_FROM_ZERO = 0.1


class Centroid(nn.Module):
    """Deep SVDD, "Deep One-Class Classification" (ICML 2018), with the soft boundary of its eq. 3.

    Loss: R^2 + 1 / (nu n) sum_i max(0, ||z_i - c||^2 - R^2), codes z of (B, dim). Score: ||z - c||^2, (B,) >= 0;
    the paper's subtracts the constant R^2.

    The centre c is the mean of the untrained codes and stays. Its entries below 0.1 in size are moved to +-0.1,
    exact zeros to +0.1: the zero function would reach a centre of zeros at no cost. R is the (1 - nu) quantile of
    the distances, of the untrained codes first and then of every epoch's. All codes can still collapse onto c where
    the encoder has biases or saturating activations; the scores are then constant, and worth a warning.

    Args:
        dim: Numbers in a code.
        nu: The share of the training images allowed outside the ball, in (0, 1).
    """

    view: Literal["mean", "flat"] = "mean"
    center: Tensor  # (dim,)
    radius: Tensor  # ()

    def __init__(self, dim: int, nu: float = 0.1) -> None:
        super().__init__()
        self.nu = nu
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("radius", torch.zeros(()))

    @torch.no_grad()
    def start(self, codes: Tensor) -> None:
        center = codes.double().mean(0)
        size = center.abs().clamp(min=_AWAY_FROM_ZERO)
        self.center.copy_(torch.where(center < 0, -size, size))
        self.refresh(codes)

    @torch.no_grad()
    def refresh(self, codes: Tensor) -> None:
        self.radius.copy_(torch.quantile(self._squared(codes).sqrt(), 1 - self.nu))

    def loss(self, batch: Batch) -> Tensor:
        squared_radius = self.radius.square()
        return squared_radius + (self._squared(batch.code) - squared_radius).relu().mean() / self.nu

    def finish(self, codes: Tensor) -> None:
        self.refresh(codes)

    def score(self, batch: Batch) -> Tensor:
        return self._squared(batch.code)

    def _squared(self, code: Tensor) -> Tensor:
        """||z - c||^2: (n, dim) to (n,)."""
        return (code.float() - self.center).square().sum(1)
