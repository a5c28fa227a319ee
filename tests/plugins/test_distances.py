"""Distances against numpy, scipy and scikit-image; SSIM also in the pieces it is cut into."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch import Tensor

from autoad_core.protocols import Distance
from autoad_core.testing import DistanceContract, check_plugin
from autoad_plugins import _ssim, distances
from autoad_plugins._distances import L1, L2, L21, Relative
from autoad_plugins._ssim import SSIM

Array = npt.NDArray[np.float64]

every_distance = pytest.mark.parametrize(
    "distance", [L1(), L2(), L21(), SSIM(), Relative()], ids=lambda d: type(d).__name__
)


class TestL1(DistanceContract):
    make = staticmethod(L1)


class TestL2(DistanceContract):
    make = staticmethod(L2)


class TestL21(DistanceContract):
    make = staticmethod(L21)


class TestSSIM(DistanceContract):
    make = staticmethod(SSIM)


class TestRelative(DistanceContract):
    make = staticmethod(Relative)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_the_published_distances_are_declared_as_such() -> None:
    check_plugin("autoad_plugins.distances")
    declared = {c.name: c.in_paper for c in distances.autoad_distances()}
    assert declared == {"l1": True, "l2": True, "l21": True, "ssim": True, "relative": False}


@every_distance
def test_is_exactly_zero_on_equal_images(distance: Distance) -> None:
    x = images(2, 3, 20, 17)
    assert not distance(x, x.clone()).any()
    assert not distance(x, x.clone().requires_grad_()).any()


@every_distance
def test_half_precision_is_computed_in_float32(distance: Distance) -> None:
    x, y = images(2, 1, 16, 16).bfloat16(), images(2, 1, 16, 16, seed=1).bfloat16()
    found = distance(x, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, distance(x.float(), y.float()))


@every_distance
def test_gradients_agree_with_finite_differences(distance: Distance) -> None:
    pair = [images(2, 2, 6, 5, seed=seed).double().requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(distance, pair)


def test_l1_and_l2_by_hand() -> None:
    x = torch.tensor([[[0.0, 1.0]], [[0.5, 0.5]]])[None]  # two channels of one row
    y = torch.tensor([[[0.5, 1.0]], [[0.25, 1.0]]])[None]
    assert L1()(x, y).tolist() == [[[0.75, 0.5]]]
    assert L2()(x, y).tolist() == [[[0.3125, 0.25]]]
    assert L1().reduction == L2().reduction == "sum"


def test_l21_is_the_sum_of_the_norms_of_columns() -> None:
    x, y = images(4, 3, 7, 9), images(4, 3, 7, 9, seed=1)
    error = (x - y).numpy()
    norms = np.linalg.norm(error, axis=2)  # (B, C, W)
    found = L21()(x, y)
    np.testing.assert_allclose(found.sum((1, 2)), norms.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found, (error**2 / norms[:, :, None]).sum(1), rtol=1e-4)


def test_l21_by_hand() -> None:
    x = torch.tensor([[3.0, 0.0], [4.0, 0.0]])[None, None] / 5
    assert L21()(x, torch.zeros_like(x))[0].tolist() == [[pytest.approx(0.36), 0], [pytest.approx(0.64), 0]]


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20, 1e-13, 1e-8, 1e-3])
def test_l21_has_finite_gradients_however_small_the_error(size: float) -> None:
    x = torch.zeros(1, 1, 8, 3)
    y = torch.zeros_like(x)
    y[..., 0] = size  # and two columns without any error
    y.requires_grad_()
    L21()(x, y).sum().backward()
    assert y.grad is not None
    assert y.grad.isfinite().all()
    assert (y.grad.abs() <= 1).all()
    assert not y.grad[..., 1:].any()
    if size >= 1e-8:
        torch.testing.assert_close(y.grad[..., 0], torch.full((1, 1, 8), 8**-0.5))


def test_relative_by_hand() -> None:
    x = torch.tensor([0.0, 1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)  # variance 1/4
    flat = torch.full_like(x, 0.5)  # variance 0
    y = x + torch.tensor([0.1, 0.0, 0.0, 0.2]).reshape(1, 1, 2, 2)
    wanted = torch.tensor([[[0.01, 0.0], [0.0, 0.04]]])
    torch.testing.assert_close(Relative()(x, y), wanted / 0.255)
    torch.testing.assert_close(Relative()(flat, y - x + flat), wanted / 0.005)


def test_relative_takes_the_variance_of_all_channels_together() -> None:
    x, y = images(2, 3, 5, 4), images(2, 3, 5, 4, seed=1)
    variance = x.double().numpy().reshape(2, -1).var(1)
    squared = ((x - y).double().numpy() ** 2).mean(1)
    np.testing.assert_allclose(Relative()(x, y), squared / (variance + 0.005)[:, None, None], rtol=1e-5)
    # The variance is the image's own, not the reconstruction's.
    assert Relative()(x, x * 0).mean() != pytest.approx(float(Relative()(x * 0, x).mean()), rel=0.1)


def scikit_image(x: Tensor, y: Tensor) -> Array:
    """1 - SSIM, (B, H, W), the mean over channels, in float64."""
    similarity: Any = structural_similarity
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    planes = [
        [similarity(a, b, full=True, **settings)[1] for a, b in zip(p, q, strict=True)]
        for p, q in zip(x.double().numpy(), y.double().numpy(), strict=True)
    ]
    means: Array = np.mean(planes, axis=1)
    return 1 - means


def by_scipy(x: Tensor, y: Tensor, radius: int) -> Array:
    """1 - SSIM of (H, W) planes by the published formula, with a window of any radius."""

    def mean(values: Array) -> Array:
        filtered: Array = gaussian_filter(values, 1.5, mode="reflect", radius=radius)
        return filtered

    a, b = x.double().numpy(), y.double().numpy()
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    cov = mean(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
    return 1 - above / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))


def pairs(*shape: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Noise; nearly flat and bright, where E x^2 - (E x)^2 cancels; an edge between dark and bright."""
    x, y = images(*shape), images(*shape, seed=1)
    edge = (torch.arange(shape[-1]) > shape[-1] // 2) * 0.9
    return {
        "noise": (x, y),
        "bright": (0.95 + 0.05 * x, 0.95 + 0.05 * y),
        "edge": (edge + 0.1 * x, edge + 0.1 * y),
        "faded": (x, 0.6 * x),
    }


SIZES = [(2, 1, 28, 28), (2, 3, 11, 11), (2, 3, 64, 48), (1, 1, 32, 75), (1, 2, 150, 12), (1, 1, 130, 140)]


@pytest.mark.parametrize("shape", SIZES)
def test_ssim_maps_are_those_of_scikit_image_border_included(shape: tuple[int, int, int, int]) -> None:
    for x, y in pairs(*shape).values():
        np.testing.assert_allclose(SSIM()(x, y), scikit_image(x, y), atol=1e-6)


@pytest.mark.parametrize("shape", SIZES)
def test_ssim_in_training_is_the_same_but_for_rounding(shape: tuple[int, int, int, int]) -> None:
    for name, (x, y) in pairs(*shape).items():
        expected, tolerance = scikit_image(x, y), 1e-5 if name in ("noise", "faded") else 1e-4
        np.testing.assert_allclose(SSIM()(x, y.clone().requires_grad_()).detach(), expected, atol=tolerance)
        np.testing.assert_allclose(SSIM()(x.clone().requires_grad_(), y).detach(), expected, atol=tolerance)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(1, 1, 0), (2, 9, 0), (5, 5, 2), (8, 8, 3), (9, 40, 4), (70, 10, 4), (11, 11, 5)],
)
def test_the_window_shrinks_to_the_largest_odd_size_that_fits(height: int, width: int, radius: int) -> None:
    x, y = images(height, width), images(height, width, seed=1)
    found = SSIM()(x[None, None], y[None, None])[0]
    np.testing.assert_allclose(found, by_scipy(x, y, radius), atol=1e-6)
    if min(height, width) > 1:
        assert np.abs(found.numpy() - by_scipy(x, y, radius + 1)).max() > 1e-4


def test_ssim_is_of_planes_and_averaged_over_channels() -> None:
    x, y = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    apart = torch.stack([SSIM()(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)])
    torch.testing.assert_close(SSIM()(x, y), apart.mean(0))
    assert SSIM().reduction == "mean"


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("size", [(28, 28), (80, 70)])
def test_ssim_of_many_planes_is_that_of_each(
    size: tuple[int, int], trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ssim, "_CACHE_BYTES", 4 * 8 * 70 * 42 * 3)  # groups of a few, the last one smaller
    x, y = images(7, 2, *size), images(7, 2, *size, seed=1).requires_grad_(trained)
    together = SSIM()(x, y)
    apart = torch.cat([SSIM()(a[None], b[None]) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=0)


def test_ssim_gradients_agree_with_finite_differences_across_tiles() -> None:
    pair = [images(1, 1, 70, 68, seed=seed).double().requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(SSIM(), pair, fast_mode=True)


def test_ssim_gradients_in_float32_are_those_in_float64() -> None:
    x, y = images(3, 1, 40, 66), images(3, 1, 40, 66, seed=1)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = y.detach().to(dtype).requires_grad_()
        SSIM()(x.to(dtype), leaf).mean().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[0], found[1], check_dtype=False, atol=1e-8, rtol=1e-3)


def test_ssim_learns_after_it_has_scored_in_inference_mode() -> None:
    _ssim._window.cache_clear()
    x, y = images(1, 1, 19, 23).double(), images(1, 1, 19, 23, seed=1).double()
    with torch.inference_mode():
        SSIM()(x, y)
    leaf = y.requires_grad_()
    SSIM()(x, leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0


def test_ssim_ignores_autocast() -> None:
    x, y = images(2, 1, 28, 28), images(2, 1, 28, 28, seed=1)
    for leaf in (y, y.clone().requires_grad_()):
        with torch.autocast("cpu", torch.bfloat16):
            found = SSIM()(x, leaf)
        assert found.dtype == torch.float32
        assert found.equal(SSIM()(x, leaf))


def test_ssim_takes_channels_last() -> None:
    x, y = images(2, 3, 70, 70), images(2, 3, 70, 70, seed=1)
    last = [side.contiguous(memory_format=torch.channels_last) for side in (x, y)]
    assert SSIM()(*last).equal(SSIM()(x, y))
    leaf = last[1].clone().requires_grad_()
    torch.testing.assert_close(SSIM()(last[0], leaf), SSIM()(x, y), atol=1e-5, rtol=0)
