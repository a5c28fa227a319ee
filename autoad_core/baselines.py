"""What a user would try first. No network is trained; the figures stand beside those of every search.

All of them are fitted on normal images alone, are deterministic, and give larger scores to stranger images.
Images are (n, C, H, W) float32 in [0, 1], scores (n,) float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoad_core.data import Floats

Scores = NDArray[np.float64]

COMPONENTS = (8, 16, 32, 64)  # sizes of `Pca` to choose from on validation
NEIGHBOURS = 5

_CHUNK = 2**24  # numbers worked on at once: arrays of 64 MB
_NOISE = 1e-6  # variance of an image's rounding to 8 bits; keeps the code's term finite on constant images


def mean_pixel(train: Floats, images: Floats) -> Scores:
    """How far an image's mean pixel is from the training images' mean: too dark counts as too bright does.

    Two-sided, because nothing in normal images says on which side the anomalies will be.
    """
    usual = np.mean(train, dtype=np.float64)
    return np.abs(np.mean(images, axis=(1, 2, 3), dtype=np.float64) - usual)


def knn(train: Floats, images: Floats) -> Scores:
    """Mean Euclidean distance to the 5 nearest training images in pixels, or to all where there are fewer."""
    import torch

    known, asked = (torch.from_numpy(part).flatten(1) for part in (train, images))
    count = min(NEIGHBOURS, len(known))
    lengths = known.square().sum(1)
    scores = np.empty(len(images))
    step = max(1, _CHUNK // max(len(known), count * known.shape[1]))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        # Squared distances but for the image's own length, from one product of matrices, find the neighbours; their
        # distances are then computed anew, for in that form near ones drown in rounding.
        nearest = torch.addmm(lengths, rows, known.T, alpha=-2).topk(count, largest=False).indices
        exact = (known[nearest] - rows[:, None]).double().square().sum(2).sqrt()
        scores[start : start + step] = exact.mean(1).numpy()
    return scores


def knn_maps(train: Floats, images: Floats) -> Floats:
    """(n, H, W) float32: squared differences from the 5 nearest training images, summed over channels, as their mean."""
    import torch

    known, asked = (torch.from_numpy(part) for part in (train, images))
    flat, lengths = known.flatten(1), known.flatten(1).square().sum(1)
    maps = torch.empty(len(asked), *asked.shape[2:])
    for image, out in zip(asked, maps, strict=True):
        squares = torch.addmv(lengths, flat, image.flatten(), alpha=-2)
        nearest = squares.topk(min(NEIGHBOURS, len(known)), largest=False).indices
        out[:] = (known[nearest] - image).square().sum(1).mean(0)
    return maps.numpy()


@dataclass(frozen=True, slots=True)
class Pca:
    """A linear autoencoder of k numbers, for the same scores as a searched model gets.

    Attributes:
        mean: (d,) float32, d = C * H * W.
        axes: (k, d) float32, orthonormal, the largest variance first.
        variances: (k,) float64, of the training images along the axes.
    """

    mean: Floats
    axes: Floats
    variances: Scores

    @classmethod
    def fit(cls, train: Floats, components: int = COMPONENTS[-1]) -> Pca:
        """Principal axes of the training images; fewer where n images or d pixels cannot have so many."""
        from sklearn.decomposition import PCA

        flat = _flat(train)
        k = min(components, len(flat) - 1, flat.shape[1])
        if k < 1:
            return cls(flat.mean(axis=0), flat[:0], np.empty(0))
        with np.errstate(invalid="ignore"):  # scikit-learn divides by the total variance, 0 if all are equal
            fitted = PCA(k, random_state=0).fit(flat)
        return cls(fitted.mean_, fitted.components_, fitted.explained_variance_.astype(np.float64))

    def truncated(self, components: int) -> Pca:
        """The first axes only: what `fit` gives for fewer components."""
        return Pca(self.mean, self.axes[:components], self.variances[:components])

    def sizes(self) -> dict[int, Pca]:
        """One model for each of `COMPONENTS` that this one has enough axes for, else itself alone."""
        have = len(self.axes)
        return {k: self.truncated(k) for k in COMPONENTS if k <= have} or {have: self}

    def reconstruct(self, images: Floats) -> Floats:
        """(n, C, H, W) float32, clipped to [0, 1]."""
        out = np.empty_like(images)
        for rows in _chunks(images):
            flat = self._code(images[rows]) @ self.axes + self.mean
            out[rows] = flat.clip(0, 1).reshape(images[rows].shape)
        return out

    def code_term(self, images: Floats) -> Scores:
        """Squared Mahalanobis distance of the code (Hotelling's T squared): strange along the axes."""
        scores = np.empty(len(images))
        for rows in _chunks(images):
            scores[rows] = self._code(images[rows]) ** 2 @ (1 / (self.variances + _NOISE))
        return scores

    def _code(self, images: Floats) -> Floats:
        return np.asarray((_flat(images) - self.mean) @ self.axes.T, dtype=np.float32)


def _flat(images: Floats) -> Floats:
    return images.reshape(len(images), -1)


def _chunks(images: Floats) -> Iterator[slice]:
    size = max(1, _CHUNK // max(1, images[:1].size))
    return (slice(start, start + size) for start in range(0, len(images), size))
