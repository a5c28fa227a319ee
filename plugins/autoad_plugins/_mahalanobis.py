"""The hypothesis that normal codes scatter as one Gaussian does: the Mahalanobis distance (not in the paper)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from autoad_core.protocols import Batch

_FLOOR = 1e-6  # of the mean variance, added to the diagonal


class Mahalanobis(nn.Module):
    """(z - m)^T S^-1 (z - m) of the flat code, as in Rippel, Mertens and Merhof (2020), who take a pretrained network's.

    There is no loss term. m is the mean of the training codes, S their covariance shrunk towards a multiple of the
    identity (Ledoit and Wolf, 2004), which makes it invertible with fewer images than numbers in a code too. Score:
    (B,) >= 0, about ``dim`` for normal images. Codes of about 256 numbers serve it best.
    """

    view: Literal["mean", "flat"] = "flat"
    mean: Tensor  # (dim,) float64
    factor: Tensor  # (dim, dim) float64, lower Cholesky factor of S

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(dim, dtype=torch.float64))

    def start(self, codes: Tensor) -> None:
        """Nothing to begin with."""

    def refresh(self, codes: Tensor) -> None:
        """Nothing to keep up to date."""

    def loss(self, batch: Batch) -> Tensor:
        return batch.code.new_zeros(())

    @torch.no_grad()
    def finish(self, codes: Tensor) -> None:
        self.mean.copy_(codes.double().mean(0))
        self.factor.copy_(torch.linalg.cholesky(_shrunk_covariance(codes.double() - self.mean)))

    def score(self, batch: Batch) -> Tensor:
        centred = (batch.code.double() - self.mean).T
        white: Tensor = torch.linalg.solve_triangular(self.factor, centred, upper=False)
        return white.square().sum(0).float()


def _shrunk_covariance(centred: Tensor) -> Tensor:
    """(1 - s) C + s (tr C / D) I of centred rows (n, D), with Ledoit and Wolf's optimal s; positive definite always."""
    n, dim = centred.shape
    covariance = centred.T @ centred / n
    variance = covariance.diagonal().mean()
    energy = covariance.square().sum()
    # Both over D: how far C is from the multiple of the identity, and how much of that is sampling error.
    spread = energy - dim * variance**2
    noise = (centred.square().sum(1).square().mean() - energy) / n
    shrinkage = (noise / spread).clamp(0, 1) if spread > 0 else torch.ones_like(spread)
    diagonal = shrinkage * variance + _FLOOR * variance + 1e-12  # the last for codes that do not vary at all
    return (1 - shrinkage) * covariance + (diagonal * torch.ones_like(centred[0])).diag()
