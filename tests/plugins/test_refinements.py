"""Refinements: the contract, eq. 20 as a product of factors, and the random field against its own definition."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoad_core.component import Kind
from autoad_core.discovery import discover
from autoad_core.errors import BrokenComponent, ConfigError, DataError
from autoad_core.pictures import Look
from autoad_core.refine import refined
from autoad_core.registry import Registry
from autoad_core.testing import RefinementContract
from autoad_plugins._dense_crf import DenseCrf
from autoad_plugins._grad_cam import GradCam, efficientnet_lite0
from autoad_plugins._saliency import Saliency, u2net

REGISTRY: Registry = discover(builtin_only=True).registry


@pytest.fixture
def weights() -> str:
    """The file of U2-Net small."""
    if not os.environ.get("AUTOAD_WEIGHTS"):
        pytest.skip("AUTOAD_WEIGHTS is not set: files of pretrained networks are absent")
    return str(Path(os.environ["AUTOAD_WEIGHTS"], "u2netp.onnx"))


class TestDenseCrf(RefinementContract):
    make = DenseCrf


class TestGradCamLite(RefinementContract):
    make = staticmethod(efficientnet_lite0)


@pytest.mark.weights
class TestU2Net(RefinementContract):
    @pytest.fixture(autouse=True)
    def _file(self, weights: str) -> None:
        self.make = lambda: u2net(weights=weights)  # type: ignore[misc]


def brightness(images: Tensor) -> Tensor:
    return images.mean(1)


class TestSaliency(RefinementContract):
    make = staticmethod(lambda: Saliency(brightness))


# Factors of eq. 20


def test_saliency_is_a_factor_brought_to_the_maps_size() -> None:
    images = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    levels = torch.rand(2, 8, 6)
    torch.testing.assert_close(Saliency(brightness)(images, levels), levels * images.mean(1))
    half = Saliency(lambda x: torch.full((len(x), 2, 2), 0.5))
    torch.testing.assert_close(half(images[:, :1], levels), levels / 2)  # grey images as well


def test_factors_multiply_in_a_chain() -> None:
    images, maps = np.full((1, 3, 4, 4), 0.5, np.float32), np.full((1, 4, 4), 7, np.float32)
    half, third = (Saliency(lambda x, f=f: torch.full((len(x), 4, 4), f)) for f in (1 / 2, 1 / 3))
    look = Look(dark=1.0, contour=3.0)
    found = refined([half, third], images, maps, look)
    np.testing.assert_allclose(found, 1 + (7 - 1) / 6, rtol=1e-6)  # what lies above the usual, times both
    np.testing.assert_allclose(refined([], images, maps, look), maps, rtol=1e-6)
    np.testing.assert_allclose(refined([], images, maps - 20, look), 1.0)  # below what is usual is usual


@pytest.mark.parametrize(
    "wrong", [lambda i, v: v[:, :-1], lambda i, v: v - 5, lambda i, v: v * float("nan")], ids=range(3)
)
def test_a_refinement_that_gives_nonsense_is_named(wrong: Callable[[Tensor, Tensor], Tensor]) -> None:
    class Wrong:
        def __call__(self, images: Tensor, levels: Tensor) -> Tensor:
            return wrong(images, levels)

    with pytest.raises(DataError, match="refinement Wrong gave no finite levels"):
        refined([Wrong()], np.zeros((1, 3, 4, 4), np.float32), np.ones((1, 4, 4), np.float32), Look(0.0, 1.0))


class Corners(nn.Module):
    """Class 0 likes what is bright at the left of its convolution's output, class 1 what is bright at the right."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        found = self.last(nn.functional.adaptive_avg_pool2d(x, (4, 4)))
        return found.sum((2, 3))


def test_grad_cam_takes_away_what_speaks_for_the_class() -> None:
    """In closed form: the map of class 0 is its own channel, since the logit is that channel's sum."""
    network = Corners()
    images = torch.zeros(1, 3, 224, 224)
    images[:, 0, :, :112] = 1  # red at the left: class 0
    images[:, 1, 150:, 150:] = 0.2
    levels = torch.ones(1, 224, 224)
    found = GradCam(network, network.last, lambda x: x)(images, levels)
    assert found[0, :, :50].max() < 1e-5
    torch.testing.assert_close(found[0, :, 160:], torch.ones(224, 64))


def test_grad_cam_sees_the_cat() -> None:
    """EfficientNet-Lite0 with its true weights, on scikit-image's photograph of a cat: the face speaks for its class."""
    from skimage import data

    pixels = torch.from_numpy(data.cat().astype(np.float32) / 255).permute(2, 0, 1)[None]
    factor = efficientnet_lite0()(pixels, torch.ones(1, *pixels.shape[2:]))[0]
    assert factor.shape == (300, 451)
    assert factor[60:200, 120:280].mean() < factor[:, :60].mean() - 0.2


@pytest.mark.weights
def test_u2net_finds_the_cup_of_coffee(weights: str) -> None:
    from skimage import data

    pixels = torch.from_numpy(data.coffee().astype(np.float32) / 255).permute(2, 0, 1)[None]
    factor = u2net(weights=weights)(pixels, torch.ones(1, *pixels.shape[2:]))[0]
    assert factor[120:260, 220:380].mean() > 0.8
    assert factor[:40, :60].mean() < 0.2


# The random field


def energy(
    labels: np.ndarray[Any, Any],
    unary: np.ndarray[Any, Any],
    image: np.ndarray[Any, Any],
    params: dict[str, float],
) -> float:
    """Of one labelling, by the definition: unary terms, and Potts terms of both kernels over all pairs of pixels."""
    height, width = labels.shape
    places = np.array(list(itertools.product(range(height), range(width))), float)
    colours = image.reshape(-1, 3).astype(float)
    flat = labels.ravel()
    near = ((places[:, None] - places) ** 2).sum(2)
    alike = ((colours[:, None] - colours) ** 2).sum(2)
    kernels = params["smoothness"] * np.exp(-near / (2 * params["reach"] ** 2))
    kernels += params["edges"] * np.exp(
        -near / (2 * params["edge_reach"] ** 2) - alike / (2 * params["colour"] ** 2)
    )
    differ = flat[:, None] != flat
    return float(unary.reshape(2, -1)[flat, np.arange(flat.size)].sum() + (kernels * differ).sum() / 2)


def test_the_field_lowers_its_energy() -> None:
    """On noise over a picture of two halves, the labels after it cost less than before, by the definition."""
    rng = np.random.default_rng(0)
    image = np.zeros((12, 12, 3), np.uint8)
    image[:, 6:] = 200
    levels = np.where(np.arange(12) >= 6, 1.25, 0.75)[None] + 0.35 * rng.normal(size=(12, 12))
    params = {"smoothness": 0.5, "reach": 1.0, "edges": 3.0, "edge_reach": 4.0, "colour": 20.0}
    crf = DenseCrf(steepness=4.0, iterations=10, **params)
    pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    given = torch.from_numpy(levels.clip(0).astype(np.float32))[None]
    found = crf(pixels, given)[0].numpy()
    p = 1 / (1 + np.exp(-4 * (levels.clip(0) - 1)))
    unary = -np.log(np.stack([1 - p, p]))
    before, after = (energy((x > 1).astype(int), unary, image, params) for x in (levels, found))
    assert after < before
    assert ((found > 1) == (np.arange(12) >= 6)).mean() > 0.97  # the halves
    assert ((levels > 1) == (np.arange(12) >= 6)).mean() < 0.9


def test_without_weight_on_pairs_the_field_gives_back_what_it_got() -> None:
    levels = torch.linspace(0, 3, 64).reshape(1, 8, 8)
    found = DenseCrf(smoothness=1e-9, edges=1e-9)(torch.rand(1, 3, 8, 8), levels)
    torch.testing.assert_close(found, levels, atol=1e-3, rtol=1e-3)


def test_the_field_keeps_the_order_of_what_is_certain() -> None:
    """Probabilities of 1 are alike; the levels that stand for them are not."""
    levels = torch.full((1, 12, 12), 0.2)
    levels[:, 3:9, 3:9] = torch.tensor([6.0, 9, 12, 20, 40, 80])
    found = DenseCrf()(torch.full((1, 3, 12, 12), 0.5), levels)[0, 5]
    assert (found[3:9].diff() > 0).all()


@pytest.mark.parametrize("name", ["steepness", "reach", "edges", "colour", "iterations"])
def test_parameters_of_the_field_are_checked(name: str) -> None:
    for value in (0, -1, "x"):
        with pytest.raises(ConfigError, match=f"{name} must be positive"):
            REGISTRY.get(Kind.REFINEMENT, "dense-crf").build({name: value})


def test_a_field_does_not_iterate_for_ever() -> None:
    for value in (101, float("inf")):
        with pytest.raises(ConfigError, match="iterations must be at most 100"):
            REGISTRY.get(Kind.REFINEMENT, "dense-crf").build({"iterations": value})


# What is missing


def test_what_an_extra_lacks_is_one_line() -> None:
    for name in ("saliency", "grad-cam"):
        entry = REGISTRY.get(Kind.REFINEMENT, name)
        if entry.missing():  # torchvision is tested in an environment of its own
            with pytest.raises(BrokenComponent, match=r"pip install 'autoad\[vision\]'"):
                entry.load()


def test_a_file_of_weights_that_is_not_there_or_not_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoad_plugins._pretrained import load_state

    monkeypatch.setenv("AUTOAD_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match=r"u2netp\.onnx is no file; get u2netp\.onnx"):
        u2net()
    (tmp_path / "u2netp.onnx").write_bytes(b"damaged")
    with pytest.raises(DataError, match="is no network for onnxruntime"):
        u2net()
    network = nn.Linear(2, 2)
    with pytest.raises(DataError, match="is no file"):
        load_state(network, str(tmp_path / "none.pth"))
    with pytest.raises(DataError, match=r"cannot be read|does not hold"):
        load_state(network, str(tmp_path / "u2netp.onnx"))
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError, match="does not hold this network's weights"):
        load_state(network, str(tmp_path / "other.pth"))
    torch.save(network, tmp_path / "code.pth")  # a pickle of a whole object is not opened
    with pytest.raises(DataError, match=r"cannot be read|does not hold"):
        load_state(network, str(tmp_path / "code.pth"))
    torch.save(network.state_dict(), tmp_path / "right.pth")
    load_state(nn.Linear(2, 2), str(tmp_path / "right.pth"))
