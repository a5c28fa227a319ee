"""Labelled images, as a data-set plugin hands them over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@runtime_checkable
class Dataset(Protocol):
    """Images with class labels, read on demand."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image that `read` gives."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes. The normal class of a folder of one product is called ``good``."""

    @property
    def labels(self) -> Ints:
        """(n,) int64, index into ``classes``."""

    @property
    def parts(self) -> Ints | None:
        """(n,) int64, 0 for the published training part and 1 for the test part; None without a published split."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the data, one line each: files skipped and why, assumptions made."""

    def read(self, indices: Ints) -> Floats:
        """(k, C, H, W) float32 in [0, 1], in the order of ``indices``.

        Raises:
            DataError: A file cannot be read; the message names it.
        """

    def masks(self, indices: Ints) -> Sequence[Bools | None] | None:
        """k times (h, w), True where a pixel is anomalous; None where the set has no masks.

        An anomaly without a mask has None. A mask covers the whole image, and may be finer or coarser than what `read` gives.
        """


@dataclass(frozen=True, slots=True)
class ArrayDataset:
    """A `Dataset` that lies in memory.

    Args:
        images: (n, C, H, W), uint8 in 0..255 or float32 in [0, 1]; may be a memory map.
        labels: (n,) int64.
        classes: Names of the labels.
        parts: (n,) int64 or None.
        mask: (n, H, W) bool or None.
        notes: Lines for the user.

    Raises:
        ValueError: Shapes or types that do not fit together.
    """

    images: NDArray[Any]
    labels: Ints
    classes: tuple[str, ...]
    parts: Ints | None = None
    mask: Bools | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32):
            raise ValueError(
                f"images must be (n, C, H, W) uint8 or float32, got {self.images.shape} {self.images.dtype}"
            )
        n = len(self.images)
        for name in ("labels", "parts", "mask"):
            array = getattr(self, name)
            if array is not None and len(array) != n:
                raise ValueError(f"{name} has {len(array)} entries for {n} images")
        if n and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels must lie in 0..{len(self.classes) - 1}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, c, h, w = self.images.shape
        return (c, h, w)

    def read(self, indices: Ints) -> Floats:
        """See `Dataset.read`."""
        chosen = self.images[indices]
        if chosen.dtype == np.uint8:
            return chosen.astype(np.float32) / np.float32(255)
        return np.asarray(chosen, dtype=np.float32)

    def masks(self, indices: Ints) -> Sequence[Bools | None] | None:
        """See `Dataset.masks`."""
        return None if self.mask is None else list(self.mask[indices])
