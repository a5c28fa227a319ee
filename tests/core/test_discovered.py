"""The five architectures of the paper's Table IV: as published, in the space, and trainable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autoad_core import Kind
from autoad_core.config import Config, Train, load, parse
from autoad_core.detector import Detector
from autoad_core.discovery import discover
from autoad_core.experiment import make_space
from autoad_core.geometry import Shape
from autoad_core.spec import Spec
from autoad_core.training import fit, seed_everything

REGISTRY = discover(builtin_only=True).registry
FOLDER = Path(__file__).parents[2] / "examples" / "discovered"

# Table IV, as it is printed: the columns are the data sets, "mean" and "average" are the same pooling.
TABLE = """
                mnist           fashion-mnist  cifar10   tiny-imagenet   mvtec-ad
hypothesis      reconstruction  cluster        centroid  reconstruction  reconstruction
distance        l_1             l_{2,1}        l_{2,1}   l_{2,1}         l_{2,1}+SSIM
channels        32              16             16        16              32
kernel          5x5             1x1            1x1       5x5             1x1
pooling         mean            average        average   average         average
pooling_kernel  1x1             1x1            1x1       1x1             3x3
normalization   no              no             no        no              no
activation      ReLU            Sigmoid        Sigmoid   Linear          LeakyReLU
channels        8               32             32        32              32
kernel          3x3             5x5            5x5       3x3             5x5
pooling         average         mean           mean      mean            mean
pooling_kernel  1x1             7x7            7x7       7x7             5x5
normalization   no              no             no        no              batch
activation      ELU             ReLU6          Sigmoid   Softplus        Tanh
channels        8               16             16        16              16
kernel          7x7             1x1            1x1       7x7             1x1
pooling         average         average        average   average         mean
pooling_kernel  5x5             1x1            1x1       1x1             5x5
normalization   no              instance       instance  instance        instance
activation      ReLU6           LeakyReLU      Sigmoid   LeakyReLU       Tanh
"""
SHAPES: dict[str, Shape] = {
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "tiny-imagenet": (3, 64, 64),
    "mvtec-ad": (3, 224, 224),
}
OURS = {"l_1": "l1", "l_{2,1}": "l21", "l_{2,1}+SSIM": "l21+ssim", "mean": "average", "no": "none"}


def value(printed: str) -> str | int:
    """A cell of the table as a configuration spells it."""
    if printed[0].isdigit():
        return int(printed.split("x")[0])
    return OURS.get(printed, printed).lower()


def published(name: str) -> dict[str, Any]:
    head, *lines = TABLE.strip().splitlines()
    column = head.split().index(name) + 1
    rows = [(line.split()[0], value(line.split()[column])) for line in lines]
    layers = [dict(rows[i : i + 6]) for i in (2, 8, 14)]
    return {**dict(rows[:2]), "layers": layers}


def config(name: str) -> Config:
    path = FOLDER / f"{name}.yaml"
    return parse(load(path), str(path))


def smooth(n: int, shape: Shape) -> Tensor:
    """Images with something to learn: smooth, and alike."""
    torch.manual_seed(0)
    coarse = torch.rand(n, shape[0], 4, 4) * 0.4 + torch.rand(1, shape[0], 4, 4) * 0.6
    return F.interpolate(coarse, shape[1:], mode="bilinear").clamp(0, 1)


def test_there_is_one_file_for_each_column_of_the_table() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SHAPES) == set(TABLE.split("\n")[1].split())


@pytest.mark.parametrize("name", SHAPES)
def test_the_architecture_is_the_published_one(name: str) -> None:
    architecture = config(name).architecture
    assert architecture == published(name)


@pytest.mark.parametrize("name", SHAPES)
def test_its_configuration_names_components_that_there_are(name: str) -> None:
    given = config(name)
    assert given.data.dataset.name == ("folder" if name == "mvtec-ad" else name)
    for ref in (given.data.dataset, *given.data.anomalies):
        assert REGISTRY.get(Kind.DATASET, ref.name)
    assert given.data.protocol == ("folder" if name == "mvtec-ad" else "auto")
    assert given.data.dataset.params.get("size", SHAPES[name][1]) == SHAPES[name][1]


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_a_space_of_one_point_and_a_member_of_the_published_space(name: str) -> None:
    given = config(name)
    single = make_space(given, REGISTRY, SHAPES[name])
    assert single.size == 1
    spec = Spec.from_values(single.decode((0,) * len(single.choices)))
    assert spec == Spec.from_dict(published(name)).resolve(REGISTRY)
    sums = {"distance": ["l21+ssim"]} if name == "mvtec-ad" else {}
    space = make_space(parse({"preset": "paper", "space": sums}), REGISTRY, SHAPES[name])
    assert Spec.from_values(space.decode(space.encode(spec.to_values()))).distances == spec.distances


@pytest.mark.parametrize("decoder", ["upsample-first", "paper"])
@pytest.mark.parametrize("name", SHAPES)
def test_it_builds_at_the_size_of_its_images_and_trains(name: str, decoder: str) -> None:
    shape = SHAPES[name]
    images = smooth(8 if name == "mvtec-ad" else 24, shape)
    spec = Spec.from_dict(published(name)).resolve(REGISTRY)
    seed_everything(0)
    detector = Detector(spec, shape, REGISTRY, decoder=decoder)
    losses = fit(detector, images, 4, Train(batch_size=4, learning_rate=0.01))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    reconstruction, code = detector.network(images[:2])
    assert reconstruction.shape == (2, *shape)
    assert 2 * code[0].numel() <= images[0].numel()
    raw = detector.raw_terms(images)
    scores = detector.score(raw, ("distance", "hypothesis"))
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1
