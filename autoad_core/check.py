"""What a data set holds, in words and counts, and what about it may mislead a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoad_core.data import Bools, Dataset, Floats, Ints
from autoad_core.metrics import auroc
from autoad_core.split import GOOD, image_hashes

BUDGET = 200_000_000  # values that are read, some 5 s; of larger sets, a sample
FEW = 20
_CHUNK = 2**22  # values in memory at once
_LISTED = 20  # classes that are counted one by one


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; a warning is something that may make results worse, or look better, than they should be."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class _Scan:
    """A data set, and what was measured on its images or on a sample of them, one entry an image.

    Attributes:
        index: Place in the data set, ascending.
        part: 0 train, 1 test; all 0 without a published split.
        good: Of class ``good``; all False where there is no such class.
        mean, low, high: Over the pixels.
        area: Anomalous share of the mask; None without masks.
        digest: Equal for equal pixels.
    """

    data: Dataset
    index: Ints
    label: Ints
    part: Ints
    good: Bools
    mean: Floats
    low: Floats
    high: Floats
    area: Floats | None
    digest: NDArray[np.bytes_]


def examine(dataset: Dataset, *, budget: int = BUDGET, seed: int = 0) -> tuple[Finding, ...]:
    """What there is first, then what is odd.

    Args:
        dataset: Read once, or as many of its images as ``budget`` allows.
        budget: Values to read at most.
        seed: Of the sample.

    Raises:
        DataError: An image that cannot be read.
    """
    if len(dataset.labels) == 0:
        return (Finding("warning", "there are no images; add some, or name another folder"),)
    scan = _scan(dataset, budget, seed)
    odd = (_unusable, _few, _copies, _order, _balance, _brightness)
    warnings = [*dataset.notes, *(text for look in odd for text in look(scan))]
    return (*(Finding("info", text) for text in _contents(scan)), *(Finding("warning", w) for w in warnings))


def _scan(data: Dataset, budget: int, seed: int) -> _Scan:
    n, size = len(data.labels), int(np.prod(data.shape))
    index = np.sort(np.random.default_rng(seed).permutation(n)[: max(budget // size, 1)])
    statistics, areas, digests = [], [], []
    for rows in np.array_split(index, -(-len(index) * size // _CHUNK)):
        images = data.read(rows)
        statistics.append([f(images, axis=(1, 2, 3)) for f in (np.mean, np.min, np.max)])
        digests += image_hashes(images)
        if (masks := data.masks(rows)) is not None:
            areas.append(np.array([np.nan if mask is None else mask.mean() for mask in masks]))
    mean, low, high = np.concatenate(statistics, axis=1)
    return _Scan(
        data=data,
        index=index,
        label=data.labels[index],
        part=_parts(data)[index],
        good=np.array([name == GOOD for name in data.classes])[data.labels[index]],
        mean=mean,
        low=low,
        high=high,
        area=np.concatenate(areas) if areas else None,
        digest=np.array(digests, dtype="V16"),
    )


def _parts(data: Dataset) -> Ints:
    return np.zeros(len(data.labels), np.int64) if data.parts is None else data.parts


def _contents(scan: _Scan) -> Iterator[str]:
    data, (channels, height, width) = scan.data, scan.data.shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    yield f"{len(data.labels):,} images, {width}x{height} pixels, {colour}"
    for part, name in enumerate(("classes", "") if data.parts is None else ("train part", "test part")):
        labels = data.labels[_parts(data) == part]
        if len(labels):
            yield f"{name}, {len(labels):,} images: {_tally(labels, data.classes)}"
    sampled = f"; from a sample of {len(scan.index):,} images" if len(scan.index) < len(data.labels) else ""
    low, high = scan.low.min(), scan.high.max()
    yield f"pixel values from {low:.2f} to {high:.2f}, mean {scan.mean.mean():.2f}{sampled}"
    if scan.area is not None and (marked := scan.area[scan.area > 0]).size:
        yield f"masks on {len(marked):,} images, which cover {np.median(marked):.1%} of the image in the median"


def _tally(labels: Ints, classes: tuple[str, ...]) -> str:
    found, counts = np.unique(labels, return_counts=True)
    if len(found) > _LISTED:
        return f"{len(found)} classes, {counts.min():,} to {counts.max():,} in each"
    return ", ".join(f"{classes[label]} ({count:,})" for label, count in zip(found, counts, strict=True))


def _name(scan: _Scan, place: int) -> str:
    """The file behind an image, where the data set has files."""
    index = int(scan.index[place])
    files = getattr(scan.data, "files", None)
    return str(files[index]) if files else f"number {index}"


def _unusable(scan: _Scan) -> Iterator[str]:
    if not (scan.low.min() >= 0 and scan.high.max() <= 1):  # so written that NaN is odd
        yield "pixel values are not all within 0 and 1, which every method assumes; rescale them"
    elif (high := scan.high.max()) < 0.25:
        yield f"the brightest pixel of all is {high:.3f}, as of 10 or 12 bits in a file of 16; rescale them"
    if len(constant := np.flatnonzero(scan.low == scan.high)):
        yield f"{len(constant):,} images are of one value all over, e.g. {_name(scan, constant[0])}"
    if scan.area is not None and scan.good.any():
        if empty := int((~scan.good & (scan.area == 0)).sum()):
            yield f"{empty:,} anomalous images have an empty mask, so for pixel metrics they are normal"
        if marked := int((scan.good & (scan.area > 0)).sum()):
            yield f"{marked:,} good images have a mask that marks something; is their label right?"


def _few(scan: _Scan) -> Iterator[str]:
    labels, part = scan.data.labels, _parts(scan.data)
    has_good = GOOD in scan.data.classes
    good = labels == scan.data.classes.index(GOOD) if has_good else np.ones_like(labels, bool)
    if (n := int((good & (part == 0)).sum())) < FEW:
        yield f"only {n} {GOOD if has_good else 'such'} images to train on; below {FEW} results mean little"
    if has_good and good.all():
        yield (
            "no anomalous images: models cannot be compared on them; add some, each kind in a folder of its own, "
            "or use protocol ood with another data set"
        )
    elif has_good and part.any() and not (good & (part == 1)).any():
        yield "the test part has no good images; some of the training part will be held back for it"


def _copies(scan: _Scan) -> Iterator[str]:
    _, group, sizes = np.unique(scan.digest, return_inverse=True, return_counts=True)
    if extra := int((sizes - 1).sum()):
        first, second = np.flatnonzero(group == sizes.argmax())[:2]
        example = f"{_name(scan, first)} and {_name(scan, second)}"
        yield f"{extra:,} images are exact copies of others, e.g. {example}"
    if leaked := int(np.isin(group[scan.part == 1], group[scan.part == 0]).sum()):
        yield f"{leaked:,} images of the test part are also in the training part; scores would be too good"
    if torn := np.unique([group, scan.label], axis=1).shape[1] - len(sizes):
        yield f"{torn:,} images occur under more than one class; correct their labels"


def _order(scan: _Scan) -> Iterator[str]:
    labels = scan.data.labels
    changes = len(labels) * (1 - np.square(np.bincount(labels) / len(labels)).sum())  # expected if shuffled
    if GOOD in scan.data.classes or changes < FEW:
        return  # images from folders always come in order
    if np.count_nonzero(np.diff(labels)) < changes / 10:
        yield "images are stored class by class: the first ones are no fair sample; draw subsets with a seed"


def _balance(scan: _Scan) -> Iterator[str]:
    counts = np.bincount(scan.data.labels, minlength=len(scan.data.classes))
    most, least = counts.argmax(), counts.argmin()
    if GOOD not in scan.data.classes and counts[most] >= 10 * counts[least]:
        names = scan.data.classes[most], scan.data.classes[least]
        yield f"class {names[0]} has {counts[most]:,} images, but class {names[1]} only {counts[least]:,}"


def _brightness(scan: _Scan) -> Iterator[str]:
    """Where the mean pixel alone separates two groups, the light may be all that a detector learns."""
    normal = scan.good if scan.good.any() else np.ones_like(scan.good)
    tested = normal & (scan.part == 1)
    if apart := _apart(scan, normal & ~tested, tested):
        whose = "good images of the two parts" if scan.good.any() else "the two parts"
        yield f"mean brightness alone tells {whose} apart: test images are {apart}"
    kinds = [i for i, name in enumerate(scan.data.classes) if scan.good.any() and name != GOOD]
    told = {i: _apart(scan, tested if tested.any() else normal, scan.label == i) for i in kinds}
    if found := [f"{scan.data.classes[i]} is {apart}" for i, apart in told.items() if apart]:
        yield f"mean brightness alone tells anomalies from good images: {', '.join(found)}"


def _apart(scan: _Scan, first: Bools, second: Bools) -> str | None:
    """How the second group differs, if its AUROC is 0.2 and three standard errors or more from chance."""
    n, m = int(first.sum()), int(second.sum())
    if not n or not m or not np.isfinite(scan.mean).all():
        return None
    value = auroc(np.concatenate([scan.mean[first], scan.mean[second]]), np.repeat([0, 1], [n, m]))
    if abs(value - 0.5) < max(0.2, 3 * np.sqrt((n + m + 1) / (12 * n * m))):
        return None
    return f"{'brighter' if value > 0.5 else 'darker'} (AUROC {max(value, 1 - value):.2f})"
