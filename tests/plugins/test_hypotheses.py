"""Hypotheses against their papers' formulas, written out with loops, and against scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from autoad_core.protocols import Batch, Hypothesis
from autoad_core.testing import HypothesisContract, check_plugin
from autoad_plugins import _density, hypotheses
from autoad_plugins._centroid import Centroid
from autoad_plugins._cluster import Cluster
from autoad_plugins._density import Density, Mixture
from autoad_plugins._mahalanobis import Mahalanobis
from autoad_plugins._reconstruction import Reconstruction

Array = npt.NDArray[np.float64]
Make = Callable[[int], Any]
ALL: list[Make] = [Reconstruction, Centroid, Cluster, Density, Mahalanobis]
FITTED: list[Make] = ALL[1:]

every_hypothesis = pytest.mark.parametrize("make", ALL)
every_fitted = pytest.mark.parametrize("make", FITTED)


class TestReconstruction(HypothesisContract):
    make = staticmethod(Reconstruction)


class TestCentroid(HypothesisContract):
    make = staticmethod(Centroid)


class TestCluster(HypothesisContract):
    make = staticmethod(Cluster)


class TestDensity(HypothesisContract):
    make = staticmethod(Density)


class TestMahalanobis(HypothesisContract):
    make = staticmethod(Mahalanobis)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch(codes: Tensor, seed: int = 0) -> Batch:
    x = torch.rand(len(codes), 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Batch(x, 1 - x, codes)


def blobs(k: int = 4, each: int = 60, dim: int = 5) -> Tensor:
    """k groups far apart, in an order that says nothing."""
    centers = 20 * normal(k, dim, seed=9)
    codes = centers.repeat_interleave(each, 0) + normal(k * each, dim, seed=8)
    return codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(7))]


def trained(make: Make, codes: Tensor, seed: int = 0) -> Any:
    """Through a life of two epochs, without any encoder; the losses and gradients on the way are finite."""
    torch.manual_seed(seed)
    module = make(codes.shape[1]).train()
    module.start(codes)
    optimizer = torch.optim.Adam([*module.parameters(), nn.Parameter(torch.zeros(1))], lr=3e-3)
    for _ in range(2):
        for part in codes.split(64):
            leaf = part.clone().requires_grad_()
            loss = module.loss(batch(leaf))
            assert loss.shape == ()
            assert loss.isfinite()
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
                assert all(
                    p.grad.isfinite().all() for p in (leaf, *module.parameters()) if p.grad is not None
                )
                optimizer.step()
        module.refresh(codes)
    module.finish(codes)
    return module.eval()


KINDS: dict[str, Callable[[int, int], Tensor]] = {
    "normal": lambda n, d: normal(n, d),
    "tiny": lambda n, d: 1e-5 * normal(n, d),
    "huge": lambda n, d: 1e4 * normal(n, d).clamp(-1, 1),
    "zero": lambda n, d: torch.zeros(n, d),
    "constant": lambda n, d: torch.full((n, d), -1e4),
    "nearly constant": lambda n, d: 1e4 + 1e-2 * normal(n, d),
    "two points": lambda n, d: (torch.arange(n) % 2)[:, None].expand(n, d) * 100.0,
    "dead numbers": lambda n, d: normal(n, d).relu() * (torch.arange(d) % 2),
    "one line": lambda n, d: 1e3 * normal(n, 1).expand(n, d),
    "an outlier": lambda n, d: torch.cat([torch.full((1, d), 1e4), normal(n - 1, d)]),
}


@every_hypothesis
@given(st.sampled_from(sorted(KINDS)), st.sampled_from([1, 2, 16, 33, 130]), st.sampled_from([2, 3, 40]))
@settings(max_examples=20, deadline=None)
def test_scores_are_finite_whatever_the_codes(make: Make, kind: str, dim: int, n: int) -> None:
    codes = KINDS[kind](n, dim)
    module = trained(make, codes)
    for seen in (codes, codes[:1], -codes, 1e4 * normal(5, dim, seed=3).sign(), torch.zeros(1, dim)):
        scores = module.score(batch(seen))
        assert scores.dtype == torch.float32
        assert scores.shape == (len(seen),)
        assert scores.isfinite().all()


@every_hypothesis
def test_codes_of_the_greatest_size_are_taken(make: Make) -> None:
    codes = normal(30, 512)
    assert trained(make, codes).score(batch(1e4 * codes)).isfinite().all()


@every_hypothesis
@pytest.mark.parametrize("dim", [1, 7, 40])
def test_a_reloaded_hypothesis_scores_the_same(make: Make, dim: int) -> None:
    codes, other = normal(50, dim), batch(3 * normal(20, dim, seed=1))
    module, fresh = trained(make, codes), make(dim)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert fresh.score(other).equal(module.score(other))
    fresh.load_state_dict(
        trained(make, codes[:2]).state_dict(), strict=True
    )  # shapes do not depend on the codes


@every_fitted
def test_what_is_fitted_matters_to_the_score(make: Make) -> None:
    codes, other = normal(50, 3), batch(normal(20, 3, seed=1))
    assert (
        not trained(make, codes).score(other).allclose(trained(make, 5 + 2 * codes).score(other), rtol=0.01)
    )


@every_hypothesis
def test_keeps_the_protocol(make: Make) -> None:
    assert isinstance(make(3), Hypothesis)
    assert make(3).view == ("flat" if make is Mahalanobis else "mean")


def test_the_published_hypotheses_are_declared_as_such() -> None:
    check_plugin("autoad_plugins.hypotheses")
    declared = {c.name: c.in_paper for c in hypotheses.autoad_hypotheses()}
    published = dict.fromkeys(("reconstruction", "centroid", "cluster", "density"), True)
    assert declared == {**published, "mahalanobis": False}


@every_hypothesis
def test_one_seed_gives_one_hypothesis(make: Make) -> None:
    first, second = (trained(make, blobs(), seed=3).state_dict() for _ in range(2))
    assert all(first[name].equal(second[name]) for name in first)


@every_fitted
def test_far_codes_score_higher_the_farther_they_are(make: Make) -> None:
    codes = blobs()
    module = trained(make, codes)
    normals = module.score(batch(codes))
    direction = normal(1, codes.shape[1], seed=4)
    far = module.score(batch(direction * torch.tensor([[2e2], [1e3], [1e4]])))
    assert far[0] > normals.max()
    assert far[0] < far[1] < far[2]


@every_hypothesis
def test_half_precision_codes_are_taken(make: Make) -> None:
    codes = normal(40, 3).bfloat16()
    module = trained(make, codes)
    assert module.score(batch(codes)).dtype == torch.float32


@every_fitted
def test_survives_codes_made_in_inference_mode(make: Make) -> None:
    with torch.inference_mode():
        codes = normal(40, 3)
    module = make(3)
    module.start(codes)
    module.refresh(codes)
    leaf = normal(10, 3).requires_grad_()
    loss = module.loss(batch(leaf))
    if loss.requires_grad:
        loss.backward()
        assert leaf.grad is not None
        assert leaf.grad.any()
    module.finish(codes)
    assert module.score(batch(normal(4, 3))).isfinite().all()


def test_reconstruction_is_the_mean_squared_error_of_each_image() -> None:
    x = torch.zeros(2, 1, 2, 2)
    y = torch.stack([torch.full((1, 2, 2), 0.5), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])])
    module = Reconstruction(3)
    assert module.score(Batch(x, y, normal(2, 3))).tolist() == [0.25, 0.25]
    y[1] *= 2
    assert module.score(Batch(x, y, normal(2, 3))).tolist() == [0.25, 1.0]
    assert module.loss(Batch(x, y, normal(2, 3))).item() == 0.625


class TestDeepSVDD:
    """Ruff et al., 2018."""

    def test_the_centre_is_the_mean_kept_away_from_zero(self) -> None:
        module = Centroid(6)
        mean = torch.tensor([0.5, -0.5, 0.05, -0.05, 0.0, -0.0])
        spread = 3 * normal(1, 6)
        module.start(torch.cat([mean + spread, mean - spread]))
        assert module.center.tolist() == pytest.approx([0.5, -0.5, 0.1, -0.1, 0.1, 0.1])

    def test_the_centre_stays_and_the_radius_follows(self) -> None:
        module = Centroid(3)
        module.start(normal(100, 3))
        center, radius = module.center.clone(), module.radius.clone()
        for follow in (module.refresh, module.finish):
            follow(10 + normal(100, 3, seed=1))
            assert module.center.equal(center)
            assert module.radius > 2 * radius
            module.refresh(normal(100, 3))

    @pytest.mark.parametrize("nu", [0.1, 0.3])
    def test_the_radius_leaves_a_share_nu_outside(self, nu: float) -> None:
        codes, module = normal(1000, 4), Centroid(4, nu=nu)
        module.start(codes)
        distances = np.linalg.norm(codes.numpy() - module.center.numpy(), axis=1)
        assert (distances > module.radius.item()).mean() == pytest.approx(nu, abs=0.002)
        assert module.radius.item() == pytest.approx(np.quantile(distances, 1 - nu), rel=1e-5)

    def test_the_loss_is_the_soft_boundary_objective(self) -> None:
        module = Centroid(2)
        module.center.copy_(torch.tensor([1.0, 0.0]))
        module.radius.fill_(2.0)
        codes = torch.tensor(
            [[1.0, 1.0], [4.0, 0.0], [1.0, -3.0], [1.0, 2.0]]
        )  # squared distances 1, 9, 9, 4
        assert module.loss(batch(codes)).item() == pytest.approx(4 + (0 + 5 + 5 + 0) / (0.1 * 4))
        assert module.score(batch(codes)).tolist() == [1, 9, 9, 4]

    def test_only_codes_outside_the_ball_are_pulled(self) -> None:
        module = Centroid(2)
        module.radius.fill_(1.0)
        codes = torch.tensor([[0.5, 0.0], [3.0, 0.0]]).requires_grad_()
        module.loss(batch(codes)).backward()
        assert codes.grad is not None
        assert codes.grad.tolist() == [[0, 0], [pytest.approx(2 * 3 / (0.1 * 2)), 0]]


def kernels(codes: Tensor, centroids: Tensor) -> Array:
    """(1 + ||z_i - mu_j||^2)^-1 by loops."""
    centers = centroids.tolist()
    return np.array([[1 / (1 + math.dist(z, mu) ** 2) for mu in centers] for z in codes.tolist()])


class TestDEC:
    """Xie et al., 2016."""

    def started(self, codes: Tensor, clusters: int) -> Cluster:
        torch.manual_seed(0)
        module = Cluster(codes.shape[1], clusters)
        module.start(codes)
        return module

    def test_starts_as_well_as_scikit_learn(self) -> None:
        codes = torch.cat([blobs(10, 30, 3), normal(100, 3)])
        module = self.started(codes, 10)
        reference = KMeans(10, n_init=10, random_state=1).fit(codes.double().numpy())
        nearest = torch.cdist(codes, module.centroids.detach()).min(1).values
        assert nearest.double().square().sum().item() <= 1.02 * reference.inertia_

    def test_the_loss_is_the_divergence_from_the_target_distribution(self) -> None:
        training, codes = normal(50, 3), normal(8, 3, seed=1)
        module = self.started(training, 4)
        module.refresh(training)
        whole = kernels(training, module.centroids)
        frequency = (whole / whole.sum(1, keepdims=True)).sum(0)
        kernel = kernels(codes, module.centroids)
        total = 0.0
        for i in range(8):
            q = [kernel[i, j] / sum(kernel[i]) for j in range(4)]
            weights = [q[j] ** 2 / frequency[j] for j in range(4)]
            p = [w / sum(weights) for w in weights]
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert module.loss(batch(codes)).item() == pytest.approx(total / 8, rel=1e-4)
        expected = -np.log(kernel.sum(1))
        np.testing.assert_allclose(module.score(batch(codes)).detach(), expected, rtol=1e-5, atol=1e-6)

    def test_the_target_is_taken_as_given(self) -> None:
        module = self.started(normal(50, 2), 3)
        codes = normal(6, 2, seed=1)
        kernel = torch.from_numpy(kernels(codes, module.centroids))
        q = kernel / kernel.sum(1, keepdim=True)
        p = q**2 / module.frequency
        p /= p.sum(1, keepdim=True)
        leaf = codes.clone().requires_grad_()
        module.loss(batch(leaf)).backward()
        # Eq. 4 and 5 with alpha = 1, as a mean over the batch.
        difference = (codes[:, None] - module.centroids.detach()).double()
        expected = 2 * (kernel * (p - q))[:, :, None] * difference
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad.double(), expected.sum(1) / 6, atol=1e-6, rtol=1e-3)
        assert module.centroids.grad is not None
        torch.testing.assert_close(module.centroids.grad.double(), -expected.sum(0) / 6, atol=1e-6, rtol=1e-3)

    def test_refreshing_takes_frequencies_from_all_codes(self) -> None:
        codes = blobs(2, 50, 2)
        module = self.started(codes, 2)
        assert module.frequency.tolist() == pytest.approx([0.5, 0.5], abs=0.01)
        near_first = torch.cdist(codes, module.centroids[:1].detach())[:, 0] < 10
        module.refresh(torch.cat([codes, codes[near_first], codes[near_first]]))
        assert module.frequency.tolist() == pytest.approx([0.75, 0.25], abs=0.01)

    def test_empty_clusters_move_to_the_worst_served_codes(self) -> None:
        codes = blobs(3, 30, 2)
        module = self.started(codes, 3)
        kept = module.centroids[0].clone()
        with torch.no_grad():
            module.centroids[1:] = 1e4  # two centroids that nobody is near
        module.refresh(codes)
        owners = torch.cdist(codes, module.centroids.detach()).argmin(1)
        assert owners.bincount(minlength=3).min() > 0
        assert torch.cdist(codes, module.centroids.detach()).min(1).values.max() < 10  # one in each group
        assert module.centroids[0].equal(kept)

    def test_fewer_codes_than_clusters_and_duplicates(self) -> None:
        for codes in (normal(3, 2), normal(2, 2).repeat(20, 1), torch.ones(5, 2)):
            module = self.started(codes, 10)
            distances = torch.cdist(codes, module.centroids.detach())
            assert distances.min(1).values.max() < 1e-5  # every code has a centroid of its own
            assert distances.min(0).values.max() < 1e-5  # and no centroid lies elsewhere
            assert module.loss(batch(codes)).isfinite()

    def test_spare_centroids_are_shared_out_evenly(self) -> None:
        module = self.started(100 * normal(2, 2).repeat(20, 1), 10)
        assert module.frequency.tolist() == pytest.approx([0.1] * 10, rel=1e-3)

    def test_starts_without_a_warning_on_near_duplicates(self) -> None:
        codes = torch.cat([1e-9 * normal(300, 2), torch.full((1, 2), 1e4)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert self.started(codes, 8).centroids.isfinite().all()

    def test_centroids_are_trained_with_the_encoder(self) -> None:
        module = self.started(normal(50, 2), 3)
        assert [name for name, _ in module.named_parameters()] == ["centroids"]


def mixture_by_hand(codes: Array, gamma: Array, jitter: float = 1e-6) -> tuple[Array, Array, Array]:
    """Weights, means and full covariances of eq. 5, by loops."""
    n, k = gamma.shape
    weights, means, covariances = [], [], []
    for j in range(k):
        total = sum(gamma[i, j] for i in range(n))
        mean = sum(gamma[i, j] * codes[i] for i in range(n)) / total
        scatter = sum(gamma[i, j] * np.outer(codes[i] - mean, codes[i] - mean) for i in range(n)) / total
        weights.append(total / n)
        means.append(mean)
        covariances.append(scatter + jitter * np.eye(codes.shape[1]))
    return np.array(weights), np.array(means), np.array(covariances)


def energy_by_scipy(codes: Array, weights: Array, means: Array, covariances: Array) -> Array:
    densities = [
        math.log(w) + multivariate_normal(m, c, allow_singular=False).logpdf(codes)
        for w, m, c in zip(weights, means, covariances, strict=True)
    ]
    energy: Array = -logsumexp(densities, axis=0)
    return energy


class TestDAGMM:
    """Zong et al., 2018."""

    def responsibilities(self, module: Density, codes: Tensor) -> Array:
        """Of the estimation network, which sees standardised codes."""
        x = (codes.numpy() - module.shift.numpy()) / module.spread.numpy()
        first, second = module.estimator[0], module.estimator[2]
        hidden = np.tanh(x @ first.weight.detach().numpy().T + first.bias.detach().numpy())  # type: ignore[operator]
        logits = hidden @ second.weight.detach().numpy().T + second.bias.detach().numpy()  # type: ignore[operator]
        found: Array = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        return found

    @pytest.mark.parametrize("dim", [1, 3, 32, 33])
    def test_the_score_is_the_energy_under_the_mixture_of_the_training_set(self, dim: int) -> None:
        codes, other = 3 + 2 * normal(80, dim), normal(20, dim, seed=1)
        module = trained(Density, codes - 1)
        module.finish(codes)
        assert module.shift.tolist() == pytest.approx(codes.mean(0).tolist(), abs=1e-5)
        weights, means, covariances = mixture_by_hand(
            codes.double().numpy(), self.responsibilities(module, codes)
        )
        if dim > 32:
            covariances = np.array([np.diag(np.diag(c)) for c in covariances])
        expected = energy_by_scipy(other.double().numpy(), weights, means, covariances)
        np.testing.assert_allclose(module.score(batch(other)), expected, rtol=1e-4)

    def test_the_loss_is_the_mean_energy_under_the_mixture_of_the_batch(self) -> None:
        module, codes = trained(Density, normal(80, 3)), normal(20, 3, seed=1)
        values = codes.double().numpy()
        energy = energy_by_scipy(values, *mixture_by_hand(values, self.responsibilities(module, codes)))
        assert module.loss(batch(codes)).item() == pytest.approx(0.1 * energy.mean(), rel=1e-4)

    @pytest.mark.parametrize(("kind", "dim"), [("full", 6), ("diag", 40)])
    def test_the_energy_is_scikit_learns(self, kind: str, dim: int) -> None:
        codes = blobs(3, 40, dim).double()
        reference = GaussianMixture(3, covariance_type=kind, random_state=0).fit(codes.numpy())
        covariance = torch.from_numpy(reference.covariances_)
        factor = torch.linalg.cholesky(covariance) if kind == "full" else covariance.sqrt()
        mixture = Mixture(
            torch.from_numpy(reference.weights_).log(), torch.from_numpy(reference.means_), factor
        )
        found = _density._energy(codes, mixture)
        np.testing.assert_allclose(found, -reference.score_samples(codes.numpy()), rtol=1e-9)

    @pytest.mark.parametrize("dim", [3, 33])
    def test_gradients_agree_with_finite_differences(self, dim: int) -> None:
        codes = normal(9, dim).double().requires_grad_()
        gamma = normal(9, 2, seed=1).double().requires_grad_()

        def energy(codes: Tensor, logits: Tensor) -> Tensor:
            # A variance of its own keeps the covariance of few codes away from the jitter.
            wide = torch.cat(
                [codes, 3 * torch.eye(dim, dtype=torch.float64), -3 * torch.eye(dim, dtype=torch.float64)]
            )
            weights = torch.cat([logits.softmax(1), torch.full((2 * dim, 2), 0.5, dtype=torch.float64)])
            return _density._energy(codes, _density._fit(wide, weights))

        assert torch.autograd.gradcheck(energy, (codes, gamma), fast_mode=True)

    def test_the_estimation_network_learns(self) -> None:
        module, codes = Density(5), blobs()
        module.start(codes)
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(module.parameters(), 3e-2)
        losses = []
        for _ in range(60):
            loss = module.loss(batch(codes))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] - 0.1 * 2  # two nats an image better than one broad mixture

    def test_the_jitter_grows_until_the_covariance_can_be_factored(self) -> None:
        good, bad = torch.eye(2).double(), torch.diag(torch.tensor([1.0, -5e-5])).double()
        found = _density._cholesky(torch.stack([good, bad]))
        expected = torch.linalg.cholesky(torch.stack([good, bad]) + 1e-4 * torch.eye(2))
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(_density._cholesky(good[None])[0], good * math.sqrt(1 + 1e-6))

    def test_a_covariance_beyond_help_falls_back_on_its_diagonal(self) -> None:
        hopeless = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]).double()  # eigenvalue -1
        torch.testing.assert_close(
            _density._cholesky(hopeless), math.sqrt(1.001) * torch.eye(2).double()[None]
        )

    def test_a_component_without_any_code_does_no_harm(self) -> None:
        gamma = torch.zeros(10, 2, dtype=torch.float64)
        gamma[:, 0] = 1
        codes = normal(10, 3).double()
        energy = _density._energy(codes, _density._fit(codes, gamma))
        alone = _density._energy(codes, _density._fit(codes, gamma[:, :1]))
        torch.testing.assert_close(energy, alone)


class TestLedoitWolf:
    @pytest.mark.parametrize(("n", "dim"), [(200, 5), (50, 50), (20, 60), (3, 4), (30, 1)])
    def test_the_score_is_scikit_learns_mahalanobis_distance(self, n: int, dim: int) -> None:
        scale = 1 + torch.arange(dim)
        codes, other = 5 + scale * normal(n, dim), 5 + scale * normal(10, dim, seed=1)
        reference = LedoitWolf().fit(codes.double().numpy())
        found = trained(Mahalanobis, codes).score(batch(other))
        np.testing.assert_allclose(found, reference.mahalanobis(other.double().numpy()), rtol=1e-3)

    def test_the_score_is_scipys_squared_distance(self) -> None:
        codes, other = normal(100, 4) @ normal(4, 4, seed=2), normal(6, 4, seed=1)
        inverse = np.linalg.inv(LedoitWolf().fit(codes.double().numpy()).covariance_)
        mean = codes.double().numpy().mean(0)
        expected = [mahalanobis(row, mean, inverse) ** 2 for row in other.double().numpy()]
        np.testing.assert_allclose(trained(Mahalanobis, codes).score(batch(other)), expected, rtol=1e-3)

    def test_a_covariance_without_shrinkage_is_inverted_too(self) -> None:
        codes = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])  # every outer product is the same: nothing to shrink
        scores = trained(Mahalanobis, codes).score(batch(torch.tensor([[1.0, 2.0], [2.0, -1.0]])))
        assert scores[0].item() == pytest.approx(1, rel=1e-3)
        assert scores[1] > 1e5

    def test_adds_nothing_to_the_loss(self) -> None:
        module = trained(Mahalanobis, normal(20, 3))
        assert module.loss(batch(normal(5, 3))).item() == 0
        assert not [*module.parameters()]
