"""Weights as distributions: Bayes by backprop and posterior sharpening.

Li et al., IV-B. A posterior over d weights is a diagonal Gaussian, ``q(phi) = N(mu, softplus(rho)^2)`` (eq. 10).
Everything here is a function of vectors of length d, and returns numbers in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class ScaleMixture:
    """The prior p(phi): each weight is ``share * N(0, wide^2) + (1 - share) * N(0, narrow^2)`` [Fortunato et al. 2017]."""

    share: float = 0.25
    wide: float = math.exp(-1)
    narrow: float = math.exp(-7)

    def log_prob(self, phi: Tensor) -> Tensor:
        """(d,) log densities."""
        both = torch.stack(
            [
                math.log(self.share) + normal_log_prob(phi, 0.0, self.wide),
                math.log(1 - self.share) + normal_log_prob(phi, 0.0, self.narrow),
            ]
        )
        return torch.logsumexp(both, 0)


def normal_log_prob(x: Tensor, mean: Tensor | float, deviation: Tensor | float) -> Tensor:
    """Log density of a Gaussian, elementwise."""
    log = deviation.log() if isinstance(deviation, Tensor) else math.log(deviation)
    return -0.5 * ((x - mean) / deviation) ** 2 - log - 0.5 * math.log(2 * math.pi)


def deviation(rho: Tensor) -> Tensor:
    """sigma of eq. 10, positive."""
    return F.softplus(rho)


def inverse_softplus(value: float) -> float:
    """The rho that has this deviation."""
    return value + math.log(-math.expm1(-value))


def kl_to_prior(phi: Tensor, mu: Tensor, sigma: Tensor, prior: ScaleMixture) -> Tensor:
    """An unbiased estimate of ``KL[q(phi) || p(phi)]`` from one draw ``phi`` of q, as in eq. 12; it may be negative."""
    return (normal_log_prob(phi, mu, sigma) - prior.log_prob(phi)).sum()


def sharpened(
    loss: Callable[[Tensor], Tensor], phi: Tensor, rates: Tensor, spread: float, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """A draw of ``q(theta | phi, D) = N(phi - rates * grad loss(phi), spread^2)`` (eq. 14), differentiable in all.

    Args:
        loss: ``-log p(D | .)``, twice differentiable.
        phi: (d,), requires grad.
        rates: (d,), eta of eq. 14, positive.
        spread: sigma of eq. 14.
        noise: (d,) of a standard Gaussian.

    Returns:
        theta, and ``KL[q(theta | phi, D) || p(theta | phi)]`` of eq. 16 with ``p(theta | phi) = N(phi, spread^2)``:
        the squared length of the step over twice the variance.
    """
    (gradient,) = torch.autograd.grad(loss(phi), phi, create_graph=True)
    step = rates * gradient
    return phi - step + spread * noise, (step**2).sum() / (2 * spread**2)
