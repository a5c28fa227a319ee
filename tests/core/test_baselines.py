"""Baselines against scipy, full decompositions, closed forms, and the figures known for public data."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist

from autoad_core import baselines
from autoad_core.baselines import COMPONENTS, NEIGHBOURS, Pca, knn, mean_pixel
from autoad_core.metrics import auroc

Images = NDArray[np.float32]


def noise(n: int, shape: tuple[int, int, int] = (2, 5, 4), seed: int = 0) -> Images:
    """Images inside [0, 1] whose variance lies in a few directions, as that of photographs does."""
    d = int(np.prod(shape))
    directions = np.random.default_rng(99).normal(size=(d, d)) * 0.8 ** np.arange(d)[:, None]
    flat = np.random.default_rng(seed).normal(size=(n, d)) @ directions
    return np.asarray(1 / (1 + np.exp(-flat)), dtype=np.float32).reshape(n, *shape)


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_CHUNK", 100)  # two images of 40 numbers at once


# Mean pixel


def test_mean_pixel_counts_dark_and_bright_alike() -> None:
    train = np.full((3, 1, 2, 2), 0.5, dtype=np.float32)
    images = np.stack([np.full((1, 2, 2), level, dtype=np.float32) for level in (0.5, 0.25, 0.75, 1)])
    assert mean_pixel(train, images) == pytest.approx([0, 0.25, 0.25, 0.5], abs=1e-7)


def test_mean_pixel_does_not_lose_digits_on_many_images() -> None:
    train = np.full((70, 3, 64, 64), 0.1, dtype=np.float32)
    assert mean_pixel(train, train[:1]) == pytest.approx([0], abs=1e-12)


# Nearest neighbours


def test_knn_is_the_mean_of_five_distances() -> None:
    train, images = noise(60), noise(20, seed=1)
    distances = np.sort(cdist(images.reshape(20, -1), train.reshape(60, -1)), axis=1)
    assert NEIGHBOURS == 5
    assert knn(train, images) == pytest.approx(distances[:, :5].mean(axis=1), rel=1e-5)


def test_knn_uses_what_there_is() -> None:
    train, images = noise(2), noise(3, seed=1)
    assert knn(train, images) == pytest.approx(
        cdist(images.reshape(3, -1), train.reshape(2, -1)).mean(axis=1), rel=1e-5
    )


@pytest.mark.usefixtures("tiny_chunks")
def test_knn_in_chunks() -> None:
    train, images = noise(10), noise(7, seed=1)
    whole = knn(train, images)
    assert whole == pytest.approx([float(knn(train, image[None])[0]) for image in images], rel=1e-6)
    assert knn(train, images[:0]).shape == (0,)


# Principal components


def projected(train: Images, images: Images, k: int) -> NDArray[np.float64]:
    """Reconstruction by a full singular value decomposition."""
    flat, probe = (part.reshape(len(part), -1).astype(np.float64) for part in (train, images))
    axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:k]
    found: NDArray[np.float64] = (probe - flat.mean(0)) @ axes.T @ axes + flat.mean(0)
    return found.clip(0, 1).reshape(images.shape)


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 9, 8), (1, 28, 28)])
@pytest.mark.parametrize("k", [1, 8])
def test_pca_reconstructs_as_a_full_decomposition_does(shape: tuple[int, int, int], k: int) -> None:
    train, images = noise(50, shape), noise(20, shape, seed=1)
    found = Pca.fit(train, k).reconstruct(images)
    assert found.shape == images.shape
    assert found.dtype == np.float32
    assert found == pytest.approx(projected(train, images, k), abs=2e-3)
    error, full = (np.sum((images - r) ** 2) for r in (found, projected(train, images, k)))
    assert error == pytest.approx(full, rel=1e-3)


def test_reconstructions_are_images() -> None:
    train = noise(30)
    found = Pca.fit(train, 8).reconstruct(5 * noise(10, seed=1) - 2)
    assert found.min() == 0
    assert found.max() == 1


def test_code_term_is_hotellings_t_squared() -> None:
    train, images = noise(400), noise(30, seed=1)
    flat = train.reshape(400, -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    code = (images.reshape(30, -1) - flat.mean(0)) @ vectors[:, -3:]
    expected = (code**2 / values[-3:]).sum(axis=1)
    model = Pca.fit(train, 3)
    assert model.code_term(images) == pytest.approx(expected, rel=1e-2)
    assert model.code_term(train).mean() == pytest.approx(3, rel=0.01), "its mean over the training set is k"


def test_fewer_components_are_a_prefix() -> None:
    train, images = noise(200, (1, 10, 10)), noise(10, (1, 10, 10), seed=1)
    big = Pca.fit(train)
    sizes = big.sizes()
    assert tuple(sizes) == COMPONENTS
    for k, model in sizes.items():
        assert model.axes.shape == (k, 100)
        alone = Pca.fit(train, k)
        assert model.reconstruct(images) == pytest.approx(alone.reconstruct(images), abs=1e-3)
        assert model.code_term(images) == pytest.approx(alone.code_term(images), rel=1e-2)


def test_more_components_reconstruct_better() -> None:
    train = noise(200, (1, 10, 10))
    errors = [np.mean((train - m.reconstruct(train)) ** 2) for m in Pca.fit(train).sizes().values()]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("n", "shape", "have"), [(1, (1, 4, 4), 0), (4, (1, 4, 4), 3), (90, (1, 3, 3), 9)])
def test_few_images_or_pixels_have_few_components(n: int, shape: tuple[int, int, int], have: int) -> None:
    train = noise(n, shape)
    model = Pca.fit(train)
    assert len(model.axes) == len(model.variances) == have
    assert max(model.sizes()) in (have, 8)
    assert model.reconstruct(train) == pytest.approx(train, abs=1e-3), (
        "so many axes hold every training image"
    )
    assert np.isfinite(model.code_term(noise(5, shape, seed=1))).all()


def test_images_that_are_all_equal() -> None:
    train = np.repeat(noise(1), 20, axis=0)
    model = Pca.fit(train, 8)
    assert model.reconstruct(train) == pytest.approx(train, abs=1e-6)
    assert np.isfinite(model.code_term(noise(5, seed=1))).all()


@pytest.mark.usefixtures("tiny_chunks")
def test_pca_in_chunks() -> None:
    model, images = Pca.fit(noise(30), 4), noise(7, seed=1)
    one_by_one = [model.reconstruct(image[None])[0] for image in images]
    assert model.reconstruct(images) == pytest.approx(np.stack(one_by_one), abs=1e-6)
    assert model.code_term(images) == pytest.approx([model.code_term(i[None])[0] for i in images], rel=1e-4)
    assert model.reconstruct(images[:0]).shape == images[:0].shape


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 24, 24)])  # exact and randomised solvers
def test_everything_is_deterministic(shape: tuple[int, int, int]) -> None:
    train, images = noise(100, shape), noise(10, shape, seed=1)

    def run(seed: int) -> list[NDArray[Any]]:
        np.random.seed(seed)
        model = Pca.fit(train, 8)
        return [
            mean_pixel(train, images),
            knn(train, images),
            model.reconstruct(images),
            model.code_term(images),
        ]

    for first, second in zip(run(0), run(1), strict=True):
        assert np.array_equal(first, second)


# Public data


def _idx(path: Path) -> Images:
    """(n, 1, 28, 28)."""
    return _unit(
        np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    )


def _cifar_grey(path: Path) -> Images:
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073)[:2000, 1:]
    colour = records.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    grey = [
        Image.fromarray(image).convert("L").resize((28, 28), Image.Resampling.BILINEAR) for image in colour
    ]
    return _unit(np.stack([np.asarray(image) for image in grey])[:, None])


def _unit(images: NDArray[np.uint8]) -> Images:
    return images.astype(np.float32) / np.float32(255)


@pytest.mark.data
def test_known_figures_of_fashion_mnist_against_cifar_10_in_grey(data_root: Path) -> None:
    """5,000 images to train, 2,000 of each to test: a standard error of about 0.004; 0.02 is 5 of them."""
    fashion, cifar = (
        data_root / "fashion-mnist",
        data_root / "cifar10" / "cifar-10-batches-bin" / "test_batch.bin",
    )
    train = _idx(fashion / "train-images-idx3-ubyte.gz")[:5000]
    images = np.concatenate([_idx(fashion / "t10k-images-idx3-ubyte.gz")[:2000], _cifar_grey(cifar)])
    labels = np.repeat([0, 1], 2000)
    pca = Pca.fit(train)
    errors = images - pca.truncated(16).reconstruct(images), images - pca.truncated(32).reconstruct(images)
    found = {
        "mean-pixel": auroc(mean_pixel(train, images), labels),
        "pca-16, l2": auroc(np.sum(errors[0] ** 2, axis=(1, 2, 3)), labels),
        "pca-32, l1": auroc(np.sum(np.abs(errors[1]), axis=(1, 2, 3)), labels),
        "knn": auroc(knn(train, images), labels),
    }
    expected = {"mean-pixel": 0.76, "pca-16, l2": 0.93, "pca-32, l1": 0.965, "knn": 0.97}
    assert found == pytest.approx(expected, abs=0.02)
