"""What a data set holds, in words and counts, and what about it may mislead a search."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoad_core.data import Dataset, Floats, Ints

GOOD = "good"
FEW = 20
BUDGET = 200_000_000  # values that are read, about 10 s; of larger sets a sample of this size
_CHUNK = 2**22  # values in memory at once
_PARTS = ("train", "test")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. A warning is something that may make results worse, or look better, than they are."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class _Scan:
    """The images that were looked at, one entry each.

    Attributes:
        index: Place in the data set, ascending.
        label: Class.
        part: 0 train, 1 test; 0 without a published split.
        mean, low, high: Over the pixels.
        digest: Equal for equal pixels.
    """

    index: Ints
    label: Ints
    part: Ints
    mean: Floats
    low: Floats
    high: Floats
    digest: NDArray[np.object_]


def examine(dataset: Dataset, *, budget: int = BUDGET, seed: int = 0) -> tuple[Finding, ...]:
    """Everything worth knowing before a search: what there is first, then what is odd.

    Args:
        dataset: Read once, or as many images of it as ``budget`` allows.
        budget: Values to read at most.
        seed: Of the sample.

    Raises:
        DataError: An image that cannot be read.
    """
    if len(dataset.labels) == 0:
        return (Finding("warning", "no images"),)
    scan = _scan(dataset, budget, seed)
    infos = (*_counts(dataset), *_values(dataset, scan))
    odd = (
        *dataset.notes,
        *_few(dataset),
        *_copies(scan),
        *_flat(scan),
        *_order(dataset),
        *_balance(dataset),
        *_brightness(dataset, scan),
    )
    return (*(Finding("info", text) for text in infos), *(Finding("warning", text) for text in odd))


def _scan(dataset: Dataset, budget: int, seed: int) -> _Scan:
    n, size = len(dataset.labels), int(np.prod(dataset.shape))
    index = np.random.default_rng(seed).permutation(n)[: max(budget // size, 1)]
    index.sort()
    parts = np.zeros(n, dtype=np.int64) if dataset.parts is None else dataset.parts
    rows: list[tuple[float, float, float, bytes]] = []
    for chunk in np.array_split(index, -(-len(index) * size // _CHUNK)):
        for image in dataset.read(chunk):
            digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            rows.append((float(image.mean()), float(image.min()), float(image.max()), digest))
    means, lows, highs, digests = zip(*rows, strict=True)
    statistics = (np.array(column, dtype=np.float32) for column in (means, lows, highs))
    return _Scan(index, dataset.labels[index], parts[index], *statistics, np.array(digests, dtype=object))
