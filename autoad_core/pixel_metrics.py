"""How well score maps show defects, pixel by pixel and region by region.

A larger score means more anomalous. Maps are (H, W) floats, one for each image, of any sizes; masks are bool and true where the
defect is. A mask may be finer than its map: it is scored at its own size, against the map with its pixels enlarged (`Truth`). A
*region* is a connected part of a mask, diagonal neighbours included. One sort of all pixels serves all figures of `summary`: they
depend only on what lies at each distinct score (`Profile`), which makes ties exact. Beyond `EXACT` pixels the scores are put into
`BINS` bins, and the `TOP` highest kept apart, which moves no figure by more than 1e-4 and bounds the memory.

`au_pro` and `rpro` are different figures: the first is the mean overlap of regions integrated over false positive rates
[Bergmann et al. 2021], the second the mean overlap at the one threshold that normal images allow [Bergmann et al. 2019].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoad_core.errors import DataError
from autoad_core.metrics import Curve, Interval, aupr_out_of, auroc, auroc_of, best_f1_of

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
class Truth:
    """What lies under each pixel of an (H, W) map.

    Attributes:
        normals: (H, W) float32, pixels of the mask without a defect.
        defects: (H, W) float32, pixels of defects.
        overlap: (H, W) float64, sum over regions of the share of the region.
        regions: How many there are.
    """

    normals: NDArray[np.float32]
    defects: NDArray[np.float32]
    overlap: Floats
    regions: int

    @classmethod
    def of(cls, mask: Mask, size: tuple[int, int] | None = None) -> Truth:
        """What a mask says of a map of ``size``, its own by default.

        Where the mask is finer, a pixel of the map stands for all pixels of the mask whose centres lie in it: so regions are
        what they are in the mask, however small the map. Where it is coarser, its pixels are repeated.

        Raises:
            ValueError: A mask that is not (H, W) bool.
        """
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"a mask must be (H, W) bool, got {mask.shape} {mask.dtype}")
        height, width = size or mask.shape
        mask = mask[_nearest(mask.shape[0], height)][:, _nearest(mask.shape[1], width)]
        labels, count = ndimage.label(mask, _CONNECTED)
        sizes = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
        sizes[0] = np.inf
        rows, columns = (
            (2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(mask.shape, (height, width), strict=True)
        )
        place = (rows[:, None] * width + columns).ravel()

        def under(weights: NDArray[Any]) -> NDArray[Any]:
            return np.bincount(place, weights.ravel(), height * width).reshape(height, width)

        return cls(
            under(~mask).astype(np.float32),
            under(mask).astype(np.float32),
            under((1 / sizes)[labels]),
            int(count),
        )


def _nearest(have: int, want: int) -> slice | NDArray[np.int64]:
    """Which of ``have`` pixels each of ``want`` repeats; all as they are where there are enough."""
    return slice(None) if have >= want else (2 * np.arange(want) + 1) * have // (2 * want)


@dataclass(frozen=True, slots=True)
class Profile:
    """What lies at each of k distinct scores, the highest first; leading axes are resamples.

    Attributes:
        normals: (..., k) pixels of masks without a defect.
        defects: (..., k) pixels of defects.
        overlap: (..., k) sum over regions of the share of the region that lies at the score.
        regions: (...), how many there are.
    """

    normals: Floats
    defects: Floats
    overlap: Floats
    regions: Floats


def summary(maps: Sequence[Map], truths: Sequence[Truth]) -> dict[str, float]:
    """Every metric of `METRICS` by its name.

    Raises:
        ValueError: A map that is not finite, or of another size than its truth.
        DataError: No defect, or nothing but defects.
    """
    profile = _profile(maps, truths)
    return {name: float(metric(profile)) for name, metric in METRICS.items()}


def figures(maps: Sequence[Map], truths: Sequence[Truth], threshold: float) -> dict[str, float]:
    """`summary`; and with it ``rpro``, ``image_auroc``, that of the largest score of each image, and ``mean``, of `AVERAGED`.

    Args:
        threshold: Of RPRO, from `area_threshold` on normal images of validation.

    Raises:
        As `summary`; DataError also where there is no image without a defect.
    """
    found = summary(maps, truths)
    found["rpro"] = rpro(maps, truths, threshold)
    found["image_auroc"] = auroc([one.max() for one in maps], [truth.regions > 0 for truth in truths])
    return found | {"mean": float(np.mean([found[name] for name in AVERAGED]))}


def intervals(
    maps: Sequence[Map], truths: Sequence[Truth], threshold: float, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Each of `figures` with its 95 % bootstrap interval. Images are resampled, for the pixels of one image are not independent.

    Images with and without a defect are resampled separately. Resamples are taken from `BOOTSTRAP_BINS` bins.

    Raises:
        As `figures`.
    """
    values = figures(maps, truths, threshold)
    edges = _edges(maps, BOOTSTRAP_BINS)
    each = [_binned(m, t, edges) for m, t in zip(maps, truths, strict=True)]
    stacked = [np.stack(part) for part in zip(*each, strict=True)]
    defective = np.array([t.regions > 0 for t in truths])
    above = np.array([t.overlap[m > threshold].sum() for m, t in zip(maps, truths, strict=True)])
    highest = np.array([one.max() for one in maps])
    at_score = np.unique(highest)[::-1] == highest[:, None]  # (images, distinct scores)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Floats]] = {name: [] for name in values}
    for start in range(0, resamples, _CHUNK):
        times = min(_CHUNK, resamples - start)
        weights = np.zeros((times, len(maps)))
        for kind in (True, False):
            of_kind = np.flatnonzero(defective == kind)
            if len(of_kind):
                share = np.full(len(of_kind), 1 / len(of_kind))
                weights[:, of_kind] = rng.multinomial(len(of_kind), share, size=times)
        resampled = Profile(*(weights @ part for part in stacked))
        normal, defect = (weights @ (at_score & kind[:, None]) for kind in (~defective, defective))
        found = {name: metric(resampled) for name, metric in METRICS.items()}
        found["rpro"] = weights @ above / resampled.regions
        found["image_auroc"] = auroc_of(Curve(normal.astype(np.int64), defect.astype(np.int64)))
        found["mean"] = np.mean([found[name] for name in AVERAGED], axis=0)
        for name, resampled_values in found.items():
            drawn[name].append(resampled_values)
    ends = {name: np.quantile(np.concatenate(d), (0.025, 0.975)) for name, d in drawn.items()}
    # Bins may move what hardly varies by as little past its exact value.
    return {
        name: Interval(value, min(value, float(ends[name][0])), max(value, float(ends[name][1])))
        for name, value in values.items()
    }


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


def rpro(maps: Sequence[Map], truths: Sequence[Truth], threshold: float) -> float:
    """Mean over all regions of the share of the region where ``map > threshold``; see `area_threshold`.

    Raises:
        As `summary`, but for images that are nothing but defects.
    """
    pairs = list(zip(maps, truths, strict=True))
    if not (regions := sum(truth.regions for truth in truths)):
        raise DataError("no mask has a defect; overlap of regions needs one")
    return sum(float(truth.overlap[_fitting(one, truth) > threshold].sum()) for one, truth in pairs) / regions


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


AVERAGED = ("pixel_auroc", "au_pro", "rpro", "image_auroc")
METRICS: Mapping[str, Callable[[Profile], Floats]] = {
    "pixel_auroc": lambda profile: auroc_of(_curve(profile)),
    "pixel_aupr": lambda profile: aupr_out_of(_curve(profile)),
    "pixel_best_f1": lambda profile: best_f1_of(_curve(profile)),
    "au_pro": au_pro,
}


def _profile(maps: Sequence[Map], truths: Sequence[Truth]) -> Profile:
    """Exact, or in bins where there are more than `EXACT` pixels."""
    if sum(m.size for m in maps) > EXACT:
        edges = _edges(maps, BINS, TOP)
        total: list[Any] = [0.0, 0.0, 0.0, 0.0]
        for one, truth in zip(maps, truths, strict=True):
            total = [t + part for t, part in zip(total, _binned(one, truth, edges), strict=True)]
        return _sound(Profile(*map(np.asarray, total)))
    scores = np.concatenate([_fitting(m, t).ravel() for m, t in zip(maps, truths, strict=True)])
    order = np.argsort(scores)[::-1]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each distinct score

    def at_each(planes: Iterable[NDArray[Any]]) -> Floats:
        ranked = np.concatenate([plane.ravel() for plane in planes])[order]
        return np.diff(np.cumsum(ranked, dtype=np.float64)[last], prepend=0.0)

    return _sound(
        Profile(
            at_each(t.normals for t in truths),
            at_each(t.defects for t in truths),
            at_each(t.overlap for t in truths),
            np.asarray(float(sum(t.regions for t in truths))),
        )
    )


def _sound(profile: Profile) -> Profile:
    if not profile.defects.sum():
        raise DataError("no mask has a defect; pixel metrics need one")
    if not profile.normals.sum():
        raise DataError("every pixel is a defect; pixel metrics need normal ones")
    return profile


def _binned(one: Map, truth: Truth, edges: Floats) -> Iterator[Any]:
    """The parts of the `Profile` of one image in bins, the highest first."""
    place = np.searchsorted(edges, _fitting(one, truth).ravel(), side="right")
    for weights in (truth.normals, truth.defects, truth.overlap):
        yield np.bincount(place, weights.ravel(), len(edges) + 1)[::-1].astype(np.float64)
    yield float(truth.regions)


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


def _fitting(one: Map, truth: Truth) -> Map:
    if one.shape != truth.overlap.shape:
        raise ValueError(f"a map of {one.shape} and its truth of {truth.overlap.shape} must be alike")
    return _checked(one)
