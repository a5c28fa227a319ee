"""How well score maps show defects, pixel by pixel and region by region.

A larger score means more anomalous. Maps are (H, W) floats, one for each image, of any sizes; masks are bool and true where the
defect is. A *region* is a connected part of a mask, diagonal neighbours included. One sort of all pixels serves all figures of
`summary`: they depend only on what lies at each distinct score (`Profile`), which makes ties exact. Beyond `EXACT` pixels the
scores are put into `BINS` bins, and the `TOP` highest kept apart, which moves no figure by more than 1e-4 and bounds the memory.

`au_pro` and `rpro` are different figures: the first is the mean overlap of regions integrated over false positive rates
[Bergmann et al. 2021], the second the mean overlap at the one threshold that normal images allow [Bergmann et al. 2019].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoad_core.errors import DataError
from autoad_core.metrics import Curve, Interval, aupr_out_of, auroc_of, best_f1_of

EXACT = 2**24  # pixels that are sorted at most
BINS = 2**16
TOP = 2**18  # highest scores that have a bin of their own, beside those
BOOTSTRAP_BINS = 2**12
FPR_LIMIT = 0.3
_CONNECTED = np.ones((3, 3), bool)
_SAMPLE = 2**20  # pixels that decide the bins
_CHUNK = 100  # resamples at once

Map = NDArray[Any]  # (H, W) floats
Mask = NDArray[np.bool_]  # (H, W)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Profile:
    """What lies at each of k distinct scores, the highest first; leading axes are resamples.

    Attributes:
        normals: (..., k) pixels without a defect.
        defects: (..., k) pixels of defects.
        overlap: (..., k) sum over regions of the share of the region that lies at the score.
        regions: (...), how many there are.
    """

    normals: Floats
    defects: Floats
    overlap: Floats
    regions: Floats


def summary(maps: Sequence[Map], masks: Sequence[Mask]) -> dict[str, float]:
    """Every metric of `METRICS` by its name.

    Raises:
        ValueError: A map that is not finite, or whose mask has another size or type.
        DataError: No defect, or nothing but defects.
    """
    profile = _profile(maps, masks)
    return {name: float(metric(profile)) for name, metric in METRICS.items()}


def intervals(
    maps: Sequence[Map], masks: Sequence[Mask], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Every metric with its 95 % bootstrap interval. Images are resampled, for the pixels of one image are not independent.

    Images with and without a defect are resampled separately. Resamples are taken from `BOOTSTRAP_BINS` bins.

    Raises:
        As `summary`.
    """
    values = summary(maps, masks)
    edges = _edges(maps, BOOTSTRAP_BINS)
    each = [_binned(m, k, edges) for m, k in zip(maps, masks, strict=True)]
    stacked = [np.stack(part) for part in zip(*each, strict=True)]
    defective = np.array([bool(k.any()) for k in masks])
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Floats]] = {name: [] for name in METRICS}
    for start in range(0, resamples, _CHUNK):
        times = min(_CHUNK, resamples - start)
        weights = np.zeros((times, len(maps)))
        for kind in (True, False):
            of_kind = np.flatnonzero(defective == kind)
            if len(of_kind):
                share = np.full(len(of_kind), 1 / len(of_kind))
                weights[:, of_kind] = rng.multinomial(len(of_kind), share, size=times)
        resampled = Profile(*(weights @ part for part in stacked))
        for name, metric in METRICS.items():
            drawn[name].append(metric(resampled))
    ends = {name: np.quantile(np.concatenate(d), (0.025, 0.975)) for name, d in drawn.items()}
    return {name: Interval(value, *map(float, ends[name])) for name, value in values.items()}


def area_threshold(normal_maps: Sequence[Map], area: int) -> float:
    """The lowest score t for which no connected part of ``map > t`` on normal images has ``area`` pixels or more.

    Raises:
        DataError: No maps.
        ValueError: An area below 1, or a map that is not finite.
    """
    if area < 1:
        raise ValueError(f"area must be at least 1, got {area}")
    if not normal_maps:
        raise DataError("a threshold needs maps of normal images, and there are none")
    scores = np.unique(np.concatenate([_checked(m).ravel() for m in normal_maps]))
    low, high = -1, len(scores) - 1  # nothing lies above the highest
    while high - low > 1:
        middle = (low + high) // 2
        if max(largest_part(m > scores[middle]) for m in normal_maps) < area:
            high = middle
        else:
            low = middle
    return float(scores[high])


def largest_part(found: Mask) -> int:
    """Pixels of the largest connected part of a bool (H, W), diagonal neighbours included; 0 where nothing is true."""
    labels, count = ndimage.label(found, _CONNECTED)
    return int(np.bincount(labels.ravel())[1:].max()) if count else 0


def rpro(maps: Sequence[Map], masks: Sequence[Mask], threshold: float) -> float:
    """Mean over all regions of the share of the region where ``map > threshold``; see `area_threshold`.

    Raises:
        As `summary`, but for images that are nothing but defects.
    """
    shares: list[float] = []
    for one, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(_fitting(one, mask), _CONNECTED)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            shares += (np.bincount(labels[one > threshold], minlength=count + 1)[1:] / sizes).tolist()
    if not shares:
        raise DataError("no mask has a defect; overlap of regions needs one")
    return float(np.mean(shares))


def au_pro(profile: Profile, limit: float = FPR_LIMIT) -> Floats:
    """Mean overlap of regions, integrated over false positive rates up to ``limit`` and divided by it; in [0, 1]."""
    zero = np.zeros((*profile.normals.shape[:-1], 1))
    fpr = np.concatenate([zero, np.cumsum(profile.normals, -1)], -1) / profile.normals.sum(-1)[..., None]
    pro = np.concatenate([zero, np.cumsum(profile.overlap, -1)], -1) / profile.regions[..., None]
    # Up to the limit, where the last step is cut: the overlap at the cut lies on the line between its ends.
    step, rise = np.diff(fpr, axis=-1), np.diff(pro, axis=-1)
    inside = np.clip(limit - fpr[..., :-1], 0, step)
    share = np.divide(inside, step, out=np.zeros_like(step), where=step > 0)
    area = (inside * (pro[..., :-1] + rise * share / 2)).sum(-1)
    return np.asarray(area / limit)


def _curve(profile: Profile) -> Curve:
    return Curve(profile.normals.astype(np.int64), profile.defects.astype(np.int64))


METRICS: Mapping[str, Callable[[Profile], Floats]] = {
    "pixel_auroc": lambda profile: auroc_of(_curve(profile)),
    "pixel_aupr": lambda profile: aupr_out_of(_curve(profile)),
    "pixel_best_f1": lambda profile: best_f1_of(_curve(profile)),
    "au_pro": au_pro,
}


def _profile(maps: Sequence[Map], masks: Sequence[Mask]) -> Profile:
    """Exact, or in bins where there are more than `EXACT` pixels."""
    if sum(m.size for m in maps) > EXACT:
        edges = _edges(maps, BINS, TOP)
        total: list[Any] = [0.0, 0.0, 0.0, 0.0]
        for one, mask in zip(maps, masks, strict=True):
            total = [t + part for t, part in zip(total, _binned(one, mask, edges), strict=True)]
        return _sound(Profile(*map(np.asarray, total)))
    scores = np.concatenate([_checked(m).ravel() for m in maps])
    order = np.argsort(scores)[::-1]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each distinct score
    defect, share, regions = (
        np.concatenate(part)
        for part in zip(*(_shares(m, k) for m, k in zip(maps, masks, strict=True)), strict=True)
    )

    def at_each(values: Floats) -> Floats:
        return np.diff(np.cumsum(values[order])[last], prepend=0.0)

    defects = at_each(defect.astype(np.float64))
    pixels = np.diff(last, prepend=-1).astype(np.float64)
    return _sound(Profile(pixels - defects, defects, at_each(share), np.asarray(regions.sum())))


def _sound(profile: Profile) -> Profile:
    if not profile.defects.sum():
        raise DataError("no mask has a defect; pixel metrics need one")
    if not profile.normals.sum():
        raise DataError("every pixel is a defect; pixel metrics need normal ones")
    return profile


def _shares(one: Map, mask: Mask) -> tuple[Mask, Floats, Floats]:
    """(n,) whether each pixel is of a defect, (n,) its share of its region, and (1,) the number of regions."""
    labels, count = ndimage.label(_fitting(one, mask), _CONNECTED)
    sizes = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
    sizes[0] = np.inf
    return mask.ravel(), (1 / sizes)[labels.ravel()], np.array([float(count)])


def _binned(one: Map, mask: Mask, edges: Floats) -> Iterator[Floats]:
    """The parts of the `Profile` of one image in bins, the highest first."""
    defect, share, regions = _shares(one, mask)
    place = np.searchsorted(edges, _checked(one).ravel(), side="right")
    bins = len(edges) + 1
    for weights in (1.0 - defect, 1.0 * defect, share):
        yield np.bincount(place, weights, bins)[::-1].astype(np.float64)
    yield regions[0]


def _edges(maps: Sequence[Map], bins: int, top: int = 0) -> Floats:
    """Borders that part a sample of all pixels into equal bins, and each of the ``top`` highest scores from all others.

    A few defect pixels among the highest scores decide precision, and no bin may mix them with others.
    """
    rng = np.random.default_rng(0)
    total = sum(m.size for m in maps)
    sample = [rng.choice(m.ravel(), min(m.size, -(-_SAMPLE * m.size // total)), replace=False) for m in maps]
    equal = np.quantile(np.concatenate(sample), np.arange(1, bins) / bins, method="nearest")
    highest = np.empty(0)
    for one in maps if top else ():
        highest = np.concatenate([highest, one.ravel()])
        if highest.size > top:
            highest = np.partition(highest, -top)[-top:]
    return np.unique(np.concatenate([equal, highest]))


def _checked(one: Map) -> Map:
    if not np.isfinite(one).all():
        raise ValueError("a map has values that are not finite")
    return one


def _fitting(one: Map, mask: Mask) -> Mask:
    if one.shape != mask.shape or one.ndim != 2:
        raise ValueError(f"a map of {one.shape} and its mask of {mask.shape} must be (H, W) and alike")
    if mask.dtype != np.bool_:
        raise ValueError(f"a mask must be bool, got {mask.dtype}")
    _checked(one)
    return mask
