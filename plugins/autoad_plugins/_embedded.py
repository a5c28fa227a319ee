"""Data sets that need no files: digits from scikit-learn, and noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from autoad_core.data import ArrayDataset, Floats
from autoad_core.images import Shape
from autoad_plugins._params import whole

_MAX_VALUES = 2**29  # 2 GiB of float32


def digits(root: Path | None, shape: Shape | None, seed: int) -> ArrayDataset:
    """1,797 grey images (1, 8, 8) of ten handwritten digits; none of the arguments is used."""
    from sklearn.datasets import load_digits  # slow to import

    loaded = load_digits()
    images = loaded.images[:, None].astype(np.float32) / np.float32(16)
    return ArrayDataset(images, loaded.target.astype(np.int64), tuple("0123456789"))


def gaussian(root: Path | None, shape: Shape | None, seed: int, *, count: int = 1000) -> ArrayDataset:
    """Pixels of mean 0.5 and variance 1, clipped to [0, 1].

    Args:
        root: Not used.
        shape: Of the images; (1, 28, 28) where it is None.
        seed: Same seed, same images.
        count: Number of images.

    Raises:
        DataError: A count of which the images would not fit in memory.
    """
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(_size("gaussian", shape, count), dtype=np.float32)
    noise += np.float32(0.5)
    return _noise(np.clip(noise, 0, 1, out=noise))


def uniform(root: Path | None, shape: Shape | None, seed: int, *, count: int = 1000) -> ArrayDataset:
    """Pixels anywhere in [0, 1); arguments and errors as for `gaussian`."""
    return _noise(np.random.default_rng(seed).random(_size("uniform", shape, count), dtype=np.float32))


def _size(name: str, shape: Shape | None, count: int) -> tuple[int, int, int, int]:
    shape = shape or (1, 28, 28)
    return whole(f"{name}.count", count, 1, _MAX_VALUES // math.prod(shape)), *shape


def _noise(images: Floats) -> ArrayDataset:
    return ArrayDataset(images, np.zeros(len(images), dtype=np.int64), ("noise",))
