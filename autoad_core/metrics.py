"""How well scores tell anomalies from normals, with 95 % bootstrap intervals.

A larger score means more anomalous; labels are 0 for normal and 1 for anomalous. One sort serves all metrics,
for they depend only on how many normals and anomalies lie at each distinct score (`Curve`). That makes ties
exact, and lets a bootstrap resample the counts of the sorted scores instead of sorting every resample.

`auroc`, `aupr_in`, `aupr_out`, `fpr_at_95_tpr`, `best_f1` and `summary` give values; `intervals` and
`grouped_intervals` give values with intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoad_core.errors import DataError

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Aggregate = Literal["minimum", "mean"]

AGGREGATES: Mapping[Aggregate, Callable[[Values], Values]] = {
    "minimum": lambda values: np.asarray(values.min(axis=0)),
    "mean": lambda values: np.asarray(values.mean(axis=0)),
}
_CHUNK = 2**16  # counts resampled at once: arrays of 0.5 MB stay in the cache


@dataclass(frozen=True, slots=True)
class Curve:
    """How many images lie at each of k distinct scores, the highest first; leading axes are resamples.

    Attributes:
        normals: (..., k), normals at the score.
        anomalies: (..., k), anomalies at the score.
        fp: (..., k), normals at the score or above: the false positives when it is the threshold.
        tp: (..., k), anomalies at the score or above.
    """

    normals: Counts
    anomalies: Counts
    fp: Counts = field(init=False)
    tp: Counts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fp", np.cumsum(self.normals, axis=-1))
        object.__setattr__(self, "tp", np.cumsum(self.anomalies, axis=-1))

    @classmethod
    def of(cls, scores: ArrayLike, labels: ArrayLike) -> Curve:
        """The curve of scores (n,) with labels (n,), bool or 0 and 1.

        Raises:
            ValueError: Other labels, lengths that differ, or a score that is not finite.
            DataError: No normals or no anomalies.
        """
        if not np.isin(labels, (0, 1)).all():
            raise ValueError("labels must be 0 for normal and 1 for anomalous")
        counts = _count(scores, np.equal(labels, 1))
        return cls(counts[0], counts[1])


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the ends of its 95 % percentile bootstrap interval.

    The interval of a perfect figure has no width, and that of a maximum or minimum leans to one side.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class GroupedIntervals:
    """Figures of several sets of anomalies.

    Attributes:
        aggregate: Of the sets' AUROCs.
        groups: AUROC of each set against all normals, by number of the set.
        pooled: Every metric of all anomalies together, by name.
    """

    aggregate: Interval
    groups: dict[int, Interval]
    pooled: dict[str, Interval]


def auroc_of(curve: Curve) -> Values:
    return _against_normals(curve, curve.anomalies)


def _against_normals(curve: Curve, anomalies: Counts) -> Values:
    """AUROC of some of the curve's anomalies, (..., k), against all of its normals."""
    # The share of pairs in which the anomaly scores above the normal, ties counting half: in integers.
    total = curve.fp[..., -1:]
    twice_below = 2 * (total - curve.fp) + curve.normals
    twice = np.einsum("...k,...k->...", anomalies, twice_below)
    return np.asarray(twice / (2 * total[..., 0] * anomalies.sum(axis=-1)))


def aupr_out_of(curve: Curve) -> Values:
    # The highest scores of a resample can be empty: no positives there, so the precision does not matter.
    precision = curve.tp / np.maximum(curve.tp + curve.fp, 1)
    return np.asarray(np.einsum("...k,...k->...", curve.anomalies, precision) / curve.tp[..., -1])


def aupr_in_of(curve: Curve) -> Values:
    # From the lowest score up, the anomalies are what is found wrongly.
    negatives = curve.fp[..., -1:] - curve.fp + curve.normals
    missed = curve.tp[..., -1:] - curve.tp + curve.anomalies
    precision = negatives / np.maximum(negatives + missed, 1)
    return np.asarray(np.einsum("...k,...k->...", curve.normals, precision) / curve.fp[..., -1])


def fpr_at_95_tpr_of(curve: Curve) -> Values:
    enough = 20 * curve.tp >= 19 * curve.tp[..., -1:]  # in integers, where 95 % is exact
    first = np.argmax(enough, axis=-1, keepdims=True)
    return np.asarray(np.take_along_axis(curve.fp, first, axis=-1)[..., 0] / curve.fp[..., -1])


def best_f1_of(curve: Curve) -> Values:
    return np.asarray((2 * curve.tp / (curve.tp + curve.fp + curve.tp[..., -1:])).max(axis=-1))


METRICS: Mapping[str, Callable[[Curve], Values]] = {
    "auroc": auroc_of,
    "aupr_in": aupr_in_of,
    "aupr_out": aupr_out_of,
    "fpr_at_95_tpr": fpr_at_95_tpr_of,
    "best_f1": best_f1_of,
}


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """The chance that an anomaly scores above a normal, ties counting half. Errors of all: see `Curve.of`."""
    return float(auroc_of(Curve.of(scores, labels)))


def aupr_out(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision with the anomalies as positives."""
    return float(aupr_out_of(Curve.of(scores, labels)))


def aupr_in(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision with the normals as positives and the scores negated."""
    return float(aupr_in_of(Curve.of(scores, labels)))


def fpr_at_95_tpr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of the normals flagged at the highest threshold that flags at least 95 % of the anomalies."""
    return float(fpr_at_95_tpr_of(Curve.of(scores, labels)))


def best_f1(scores: ArrayLike, labels: ArrayLike) -> float:
    """The largest F1 of any threshold, with the anomalies as positives."""
    return float(best_f1_of(Curve.of(scores, labels)))


def summary(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Every metric by its name, from one sort."""
    return dict(zip(METRICS, _all(Curve.of(scores, labels)).tolist(), strict=True))


def group_aurocs(
    scores: NDArray[Any], groups: NDArray[Any], names: Sequence[str], aggregate: Aggregate
) -> dict[str, float]:
    """AUROC of each anomaly set that occurs against all normals, by name, and their aggregate as ``value``.

    Args:
        scores: (n,).
        groups: (n,) integers, 0 for a normal and g for an anomaly of the set ``names[g - 1]``.
    """
    out = {}
    for group, name in enumerate(names, start=1):
        rows = (groups == 0) | (groups == group)
        if (groups == group).any():
            out[name] = auroc(scores[rows], groups[rows] > 0)
    return out | {"value": float(AGGREGATES[aggregate](np.array(list(out.values()))))}


def intervals(
    scores: ArrayLike, labels: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Every metric by its name, with its interval.

    Normals and anomalies are resampled separately: the interval is that of test sets of these two sizes.
    """
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 for normal and 1 for anomalous")
    return grouped_intervals(scores, np.equal(labels, 1), resamples=resamples, seed=seed).pooled


def grouped_intervals(
    scores: ArrayLike,
    groups: ArrayLike,
    aggregate: Aggregate = "minimum",
    *,
    aggregated: Container[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> GroupedIntervals:
    """The AUROCs of several sets of anomalies against the same normals, and every metric of all of them together.

    Args:
        scores: (n,).
        groups: (n,) integers, 0 for a normal and g >= 1 for an anomaly of set g.
        aggregate: How the AUROCs become one figure.
        aggregated: The sets that enter the aggregate; all by default.
        resamples: Each draws the normals once for all sets, so the interval of the aggregate knows that the
            AUROCs move together, and every set of anomalies from itself.
        seed: Of the resampling.

    Raises:
        ValueError: Groups that are not such integers, lengths that differ, or a score that is not finite.
        DataError: No normals or no anomalies.
    """
    by_group = _count(scores, groups)
    _, *ids = by_group
    counts = list(by_group.values())
    values, pooled = _figures(counts)
    drawn = [_figures(resample) for resample in _bootstrap(counts, resamples, seed)]
    resampled, resampled_pooled = (np.concatenate(rows, axis=1) for rows in zip(*drawn, strict=True))
    reduce = AGGREGATES[aggregate]
    chosen = [i for i, g in enumerate(ids) if aggregated is None or g in aggregated]
    return GroupedIntervals(
        aggregate=_interval(reduce(values[chosen]), reduce(resampled[chosen])),
        groups={g: _interval(*ends) for g, *ends in zip(ids, values, resampled, strict=True)},
        pooled={m: _interval(*ends) for m, *ends in zip(METRICS, pooled, resampled_pooled, strict=True)},
    )


def _figures(counts: list[Counts]) -> tuple[Values, Values]:
    """(sets, ...), the AUROC of each set of anomalies, and (5, ...), every metric of them all; the normals come first."""
    normals, *sets = counts
    curve = Curve(normals, np.asarray(sum(sets)))
    return np.stack([_against_normals(curve, anomalies) for anomalies in sets]), _all(curve)


def _all(curve: Curve) -> Values:
    """(5, ...), every metric in the order of `METRICS`."""
    return np.stack([metric(curve) for metric in METRICS.values()])


def _count(scores: ArrayLike, groups: ArrayLike) -> dict[int, Counts]:
    """(k,) counts of every group, the normals' first, at the k distinct scores, highest first."""
    values, ids = np.asarray(scores, dtype=np.float64), np.asarray(groups)
    if values.ndim != 1 or values.shape != ids.shape:
        raise ValueError(f"scores {values.shape} and labels {ids.shape} must be vectors of one length")
    if ids.dtype.kind not in "biu" or (ids < 0).any():
        raise ValueError("groups must be integers, 0 for normal and larger for anomalous")
    if bad := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(f"{bad} of {values.size} scores are not finite")
    if not 0 < (anomalies := np.count_nonzero(ids)) < ids.size:
        raise DataError(
            f"metrics need normals and anomalies, got {ids.size - anomalies} and {anomalies}; "
            "add labelled images of the other kind"
        )
    distinct, rank = np.unique(-values, return_inverse=True)
    return {int(g): np.bincount(rank[ids == g], minlength=distinct.size) for g in np.unique(ids)}


def _bootstrap(counts: list[Counts], resamples: int, seed: int) -> Iterator[list[Counts]]:
    """Chunks of (b, k) counts, each group drawn with replacement from itself."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // sum(int(c.sum()) for c in counts))
    for start in range(0, resamples, size):
        yield [_resample(c, min(size, resamples - start), rng) for c in counts]


def _resample(counts: Counts, times: int, rng: np.random.Generator) -> Counts:
    # Multinomial, but by drawing images and counting them: many times faster than numpy's for many scores.
    k = counts.size
    rank = np.repeat(np.arange(k), counts)
    drawn = rank[rng.integers(rank.size, size=(times, rank.size))] + k * np.arange(times)[:, None]
    return np.bincount(drawn.ravel(), minlength=k * times).reshape(times, k)


def _interval(value: Values, resampled: Values) -> Interval:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(float(value), float(low), float(high))
