"""The hypothesis that normal codes are likely under a Gaussian mixture: DAGMM (Zong et al., 2018; Table I, Den)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from autoad_core.protocols import Batch

_FULL_COVARIANCE = 32  # numbers in a code; beyond, a batch of 64 says too little about so many covariances
_HIDDEN = 10
_PENALTY = 0.05  # lambda_2 / lambda_1 of the paper
_JITTERS = (1e-6, 1e-5, 1e-4, 1e-3)


class Mixture(NamedTuple):
    """K Gaussians in D dimensions, float64. ``factor`` is the lower Cholesky factor of each covariance, (K, D, D), or
    the standard deviations, (K, D)."""

    log_weight: Tensor  # (K,)
    mean: Tensor  # (K, D)
    factor: Tensor


class Density(nn.Module):
    """DAGMM, "Deep Autoencoding Gaussian Mixture Model" (ICLR 2018), on the code alone.

    A small network gives each code its responsibilities gamma (eq. 4), with which a mixture is computed in closed
    form (eq. 5) and with it the energy E(z) = -log sum_k phi_k N(z; mu_k, Sigma_k) (eq. 6).

    Loss: the mean energy of a batch under the mixture of that batch, plus 0.05 sum_kj 1 / Sigma_kjj (eq. 7, with the
    ratio of its two weights): the energy alone falls without end as the codes shrink to a point. Score: the energy
    under the mixture of the whole training set, (B,), of either sign.

    Ours: codes are standardised for the network, whose tanh units would saturate; no dropout; covariances are
    diagonal for codes of more than 32 numbers. All in float64, with 1e-6 added to variances and up to 1e-3 where a
    covariance still cannot be factored.

    Args:
        dim: Numbers in a code, D.
        components: Gaussians in the mixture, K.
    """

    view: Literal["mean", "flat"] = "mean"
    shift: Tensor  # (dim,)
    spread: Tensor  # (dim,), > 0
    log_weight: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(self, dim: int, components: int = 4) -> None:
        super().__init__()
        self.estimator = nn.Sequential(nn.Linear(dim, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, components))
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))
        one = torch.eye(dim) if dim <= _FULL_COVARIANCE else torch.ones(dim)
        self.register_buffer("log_weight", torch.full((components,), -math.log(components), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(components, dim, dtype=torch.float64))
        self.register_buffer("factor", one.double().repeat(components, *[1] * one.dim()))

    @torch.no_grad()
    def start(self, codes: Tensor) -> None:
        self.refresh(codes)

    @torch.no_grad()
    def refresh(self, codes: Tensor) -> None:
        spread, shift = torch.std_mean(codes.double(), 0, correction=0)
        self.shift.copy_(shift)
        self.spread.copy_(torch.where(spread > 1e-6 * shift.abs(), spread, 1).clamp(min=1e-12))

    def loss(self, batch: Batch) -> Tensor:
        mixture, penalty = _fit(batch.code.double(), self._responsibilities(batch.code))
        return (_energy(batch.code.double(), mixture).mean() + _PENALTY * penalty).float()

    @torch.no_grad()
    def finish(self, codes: Tensor) -> None:
        self.refresh(codes)
        mixture, _ = _fit(codes.double(), self._responsibilities(codes))
        for name, value in mixture._asdict().items():
            getattr(self, name).copy_(value)

    def score(self, batch: Batch) -> Tensor:
        return _energy(batch.code.double(), Mixture(self.log_weight, self.mean, self.factor)).float()

    def _responsibilities(self, code: Tensor) -> Tensor:
        """gamma: (n, dim) to (n, components), float64, rows that sum to 1."""
        logits: Tensor = self.estimator((code.float() - self.shift) / self.spread)
        return logits.double().softmax(1)
