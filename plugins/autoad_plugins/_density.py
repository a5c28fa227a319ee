"""The hypothesis that normal codes are likely under a Gaussian mixture: DAGMM (Zong et al., 2018; Table I, Den)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from autoad_core.protocols import Batch

_FULL_COVARIANCE = 32  # numbers in a code; beyond, a batch of 64 says too little about so many covariances
_HIDDEN = 10
_WEIGHT = 0.1  # lambda_1 of the paper
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

    Loss: 0.1 times the mean energy of a batch under the mixture of that batch, the weight of eq. 7; at full weight
    the codes shrink to a point, where the energy is lowest. Score: the energy under the mixture of the whole
    training set, (B,), of either sign.

    Ours: codes are standardised for the network, whose tanh units would saturate; there is no dropout, and no penalty
    on small variances (the other term of eq. 7), which made worse detectors; covariances are diagonal for codes of
    more than 32 numbers. All in float64, with 1e-6 added to variances, which bounds the energy, and up to 1e-3 where
    a covariance still cannot be factored.

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
        self.register_buffer(
            "log_weight", torch.full((components,), -math.log(components), dtype=torch.float64)
        )
        self.register_buffer("mean", torch.zeros(components, dim, dtype=torch.float64))
        self.register_buffer("factor", one.double().repeat(components, *[1] * one.dim()))

    @torch.no_grad()
    def start(self, codes: Tensor) -> None:
        self.refresh(codes)

    @torch.no_grad()
    def refresh(self, codes: Tensor) -> None:
        spread, shift = torch.std_mean(codes.double(), 0, correction=0)
        self.shift.copy_(shift)
        self.spread.copy_(torch.where(spread > 1e-6 * (1 + shift.abs()), spread, 1))

    def loss(self, batch: Batch) -> Tensor:
        code = batch.code.double()
        return _WEIGHT * _energy(code, _fit(code, self._responsibilities(code))).mean().float()

    @torch.no_grad()
    def finish(self, codes: Tensor) -> None:
        self.refresh(codes)
        mixture = _fit(codes.double(), self._responsibilities(codes))
        for name, value in mixture._asdict().items():
            getattr(self, name).copy_(value)

    def score(self, batch: Batch) -> Tensor:
        return _energy(batch.code.double(), Mixture(self.log_weight, self.mean, self.factor)).float()

    def _responsibilities(self, code: Tensor) -> Tensor:
        """gamma: (n, dim) to (n, components), float64, rows that sum to 1."""
        logits: Tensor = self.estimator((code.float() - self.shift) / self.spread)
        return logits.double().softmax(1)


def _fit(code: Tensor, gamma: Tensor) -> Mixture:
    """The mixture of eq. 5; code (n, D) and gamma (n, K) float64."""
    total = gamma.sum(0).clamp(min=1e-10)
    mean = gamma.T @ code / total[:, None]
    full = code.shape[1] <= _FULL_COVARIANCE
    moments = []
    for weight, center in zip((gamma / total).T, mean, strict=True):  # one by one: (K, n, D) may not fit
        centred = code - center
        moments.append((weight[:, None] * centred).T @ centred if full else weight @ centred.square())
    covariance = torch.stack(moments)
    factor = _cholesky(covariance) if full else (covariance + _JITTERS[0]).sqrt()
    return Mixture((total / len(code)).log(), mean, factor)


def _cholesky(covariance: Tensor) -> Tensor:
    """Lower factors of (K, D, D), with as little added to the diagonal as it takes; of the diagonal alone at worst."""
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    for jitter in _JITTERS:
        factor: Tensor
        factor, info = torch.linalg.cholesky_ex(covariance + jitter * eye)
        if not info.any():
            return factor
    return (covariance.diagonal(dim1=1, dim2=2) + _JITTERS[-1]).sqrt().diag_embed()


def _energy(code: Tensor, mixture: Mixture) -> Tensor:
    """-log sum_k phi_k N(z; mu_k, Sigma_k): (n, D) float64 to (n,)."""
    log_weight, mean, factor = mixture
    difference = code - mean[:, None]  # (K, n, D)
    if factor.dim() == 3:
        white = torch.linalg.solve_triangular(factor, difference.mT, upper=False).mT
        scale = factor.diagonal(dim1=1, dim2=2)
    else:
        white, scale = difference / factor[:, None], factor
    # -log N = (||white||^2 + log |2 pi Sigma|) / 2, and |Sigma| is the square of the product of the scales.
    log_volume = scale.log().sum(1) + code.shape[1] * math.log(2 * math.pi) / 2
    log_density: Tensor = log_weight[:, None] - white.square().sum(2) / 2 - log_volume[:, None]
    return -log_density.logsumexp(0)
