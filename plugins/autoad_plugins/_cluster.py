"""The hypothesis that normal codes lie in clusters: deep embedded clustering (Xie et al., 2016; Table I, Clu)."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from autoad_core.protocols import Batch

_ROWS_FOR_KMEANS = 2000
_RESTARTS = 10


class Cluster(nn.Module):
    """DEC, "Unsupervised Deep Embedding for Clustering Analysis" (ICML 2016).

    With the kernel k_ij = 1 / (1 + ||z_i - mu_j||^2) of Student's t, for codes z of (B, dim) and centroids mu:

        q_ij = k_ij / sum_j' k_ij'                               eq. 1
        p_ij = (q_ij^2 / f_j) / sum_j' (q_ij'^2 / f_j')          eq. 3, f_j the mean of q_ij over all training images

    Loss: KL(p || q) (eq. 2) as the mean over the batch, p taken as given; the centroids learn with the encoder.
    Score: -log sum_j k_ij, (B,) >= -log clusters. It goes to infinity far from all centroids, which KL(p || q) does
    not: there q is flat, and p with it.

    Centroids start from k-means on the untrained codes. After every epoch f is taken afresh over the whole training
    set, and a centroid that no code is nearest to moves onto the code worst served by the others.

    Args:
        dim: Numbers in a code.
        clusters: K, the number of centroids.
    """

    view: Literal["mean", "flat"] = "mean"
    frequency: Tensor  # (clusters,), sums to 1

    def __init__(self, dim: int, clusters: int = 10) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.zeros(clusters, dim))
        self.register_buffer("frequency", torch.full((clusters,), 1 / clusters))

    @torch.no_grad()
    def start(self, codes: Tensor) -> None:
        self.centroids.copy_(_kmeans(codes, len(self.centroids)))
        self.refresh(codes)

    @torch.no_grad()
    def refresh(self, codes: Tensor) -> None:
        self._repair(codes.float())
        self.frequency.copy_(self._log_kernel(codes).softmax(1).double().mean(0))

    def loss(self, batch: Batch) -> Tensor:
        log_q = self._log_kernel(batch.code).log_softmax(1)
        log_p = self._log_target(log_q.detach())
        return (log_p.exp() * (log_p - log_q)).sum(1).mean()

    def finish(self, codes: Tensor) -> None:
        self.refresh(codes)

    def score(self, batch: Batch) -> Tensor:
        return -self._log_kernel(batch.code).double().logsumexp(1).float()

    def _log_kernel(self, code: Tensor) -> Tensor:
        """log k_ij: (n, dim) to (n, clusters)."""
        return -_squared(code, self.centroids).log1p()

    def _log_target(self, log_q: Tensor) -> Tensor:
        """log p_ij, (n, clusters) like ``log_q``."""
        return (2 * log_q - self.frequency.clamp(min=1e-30).log()).log_softmax(1)

    def _repair(self, codes: Tensor) -> None:
        """Move each centroid that is nobody's nearest onto the code that is farthest from its own."""
        nearest, owner = _squared(codes, self.centroids).min(1)
        sizes = owner.bincount(minlength=len(self.centroids))
        for empty in (sizes == 0).nonzero()[:, 0]:
            worst = nearest.argmax()
            if nearest[worst] == 0:  # fewer distinct codes than centroids: the spare ones may lie anywhere
                return
            self.centroids[empty] = codes[worst]
            nearest = nearest.minimum(_squared(codes, codes[worst : worst + 1])[:, 0])


def _squared(codes: Tensor, centroids: Tensor) -> Tensor:
    """||z_i - mu_j||^2: (n, D), (K, D) to (n, K); from differences, since a matrix product would cancel."""
    distance: Tensor = torch.cdist(codes.float(), centroids, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square()


def _kmeans(codes: Tensor, clusters: int) -> Tensor:
    """The best of several runs of k-means on a sample of the codes, (n, D) to (clusters, D)."""
    sample = codes[torch.randperm(len(codes))[:_ROWS_FOR_KMEANS].to(codes.device)].double().cpu()
    seed = int(torch.randint(2**31 - 1, ()))
    distinct: Tensor = sample.unique(dim=0)
    if len(distinct) <= clusters:
        return distinct[torch.arange(clusters) % len(distinct)]
    fit = KMeans(clusters, n_init=_RESTARTS, random_state=seed)
    # One thread, or sums would depend on how many there are. Near duplicates may leave a cluster empty: `_repair`.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit.fit(sample.numpy())
    return torch.from_numpy(fit.cluster_centers_)
