"""Refinements on torchvision's networks, which CI installs in an environment of their own. Their weights are random here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from autoad_core.component import Kind
from autoad_core.discovery import discover
from autoad_core.protocols import Refinement
from autoad_core.testing import RefinementContract
from autoad_plugins._grad_cam import vgg16
from autoad_plugins._saliency import deeplab

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def saved(network: nn.Module, file: Path) -> str:
    torch.save(network.state_dict(), file)
    return str(file)


@pytest.fixture(scope="module")
def deeplab_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    network = models.segmentation.deeplabv3_resnet101(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    with torch.no_grad():  # or the probabilities are all 0 or 1
        network.classifier[4].weight.mul_(3 / network.eval()(torch.rand(1, 3, 64, 64))["out"].std())
    return saved(network, tmp_path_factory.mktemp("deeplab") / "weights.pth")


@pytest.fixture(scope="module")
def vgg_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return saved(models.vgg16(weights=None), tmp_path_factory.mktemp("vgg") / "weights.pth")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 72, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def saliency(deeplab_weights: str) -> Refinement:
    return deeplab(weights=deeplab_weights)


@pytest.fixture(scope="module")
def grad_cam(vgg_weights: str) -> Refinement:
    return vgg16(weights=vgg_weights)


class TestDeepLab(RefinementContract):
    @pytest.fixture(autouse=True)
    def _made(self, saliency: Refinement) -> None:
        self.make = lambda: saliency  # type: ignore[misc]


class TestVgg(RefinementContract):
    @pytest.fixture(autouse=True)
    def _made(self, grad_cam: Refinement) -> None:
        self.make = lambda: grad_cam  # type: ignore[misc]


def test_both_load_here() -> None:
    registry = discover(builtin_only=True).registry
    for name in ("saliency", "grad-cam"):
        assert not registry.get(Kind.REFINEMENT, name).missing()


def test_deeplab_keeps_what_is_not_background(
    deeplab_weights: str, saliency: Refinement, images: Tensor
) -> None:
    """Against the network asked by itself, image by image: the sum of the probabilities of its 20 other classes."""
    network = models.segmentation.deeplabv3_resnet101(weights=None, weights_backbone=None, num_classes=21)
    network.load_state_dict(torch.load(deeplab_weights, weights_only=True), strict=False)
    network.eval()
    with torch.no_grad():
        asked = [network(((image - MEAN) / DEVIATION)[None])["out"] for image in images]
    expected = torch.cat([(p.exp() / p.exp().sum(1, keepdim=True))[:, 1:].sum(1) for p in asked])
    found = saliency(images, torch.full((2, 72, 64), 3.0))
    torch.testing.assert_close(found, 3 * expected, rtol=1e-4, atol=1e-4)
    assert found.std() > 0


def test_grad_cam_is_that_of_its_paper(vgg_weights: str, grad_cam: Refinement, images: Tensor) -> None:
    """Against Selvaraju et al., eq. 1 and 2, by hooks: channels of the last convolution weighted by their mean gradients."""
    network = models.vgg16(weights=None)
    network.load_state_dict(torch.load(vgg_weights, weights_only=True))
    network.eval()
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        out.retain_grad()
        kept.append(out)
        return out.clone()  # what follows works in place

    network.features[28].register_forward_hook(keep)
    small = F.interpolate(images, (224, 224), mode="bilinear", align_corners=False, antialias=True)
    logits = network((small - MEAN) / DEVIATION)
    logits.max(1).values.sum().backward()
    gradient = kept[0].grad
    assert gradient is not None
    cam = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu().detach()
    share = cam / cam.amax((1, 2, 3), keepdim=True)
    expected = 1 - F.interpolate(share, (72, 64), mode="bilinear", align_corners=False)[:, 0]
    found = grad_cam(images, torch.ones(2, 72, 64))
    torch.testing.assert_close(found, expected.clamp(0, 1), rtol=1e-4, atol=1e-4)
    assert found.min() < 0.05
    assert found.max() > 0.5


def test_eq_20_in_a_search_and_in_predict(
    deeplab_weights: str, vgg_weights: str, tmp_path: Path, image_folder: Callable[[Path], None]
) -> None:
    """`refine: [saliency, grad-cam]` from the configuration to the scores of `predict`."""
    image_folder(tmp_path / "plates")
    config = {
        "data": {"dataset": {"name": "folder", "params": {"path": "plates", "size": 32}}},
        "space": {"layers": 1, "channels": [4], "kernel": [3]},
        "search": {"trials": 1, "random_trials": 0, "keep": 1},
        "reward": {"level": "pixel"},
        "train": {"epochs": 1, "patch": 16},
        "refine": [
            {"name": "saliency", "params": {"weights": deeplab_weights}},
            {"name": "grad-cam", "params": {"weights": vgg_weights}},
        ],
    }
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(config))

    def autoad(*words: str) -> str:
        command = [sys.executable, "-m", "autoad_cli.main", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    autoad("search", "search.yaml", "--run", "run")
    (row,) = json.loads((tmp_path / "run" / "result.json").read_text())["refined"]
    assert row["name"].endswith("refined by saliency, grad-cam")
    refined, raw = (
        [
            json.loads(line)["score"]
            for line in autoad("predict", "run", "plates/test", "--json", *more).splitlines()
        ]
        for more in ((), ("--refine", "none"))
    )
    assert all(a < b for a, b in zip(refined, raw, strict=True))  # both factors are below 1


@pytest.fixture(scope="session")
def image_folder() -> Callable[[Path], None]:
    """Writes grey images of noise, some with a spot and its mask, in the layout of MVTec AD."""

    def write(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for part, kind, count in (("train", "good", 12), ("test", "good", 8), ("test", "spot", 8)):
            (folder / part / kind).mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(110, 8, (32, 32))
                mask = np.zeros((32, 32), np.uint8)
                if kind == "spot":
                    mask[8:16, 10 + i : 18 + i] = 255
                    (folder / "ground_truth" / kind).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(folder / "ground_truth" / kind / f"{i}_mask.png")
                pixels[mask > 0] += 80
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / part / kind / f"{i}.png")

    return write
