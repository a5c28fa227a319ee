"""What curves of searches say, with intervals: means, tests, evaluations needed.

A curve is (seeds, evaluations): the reward of each evaluation, NaN where there was none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
RESAMPLES = 1000
SLACK = 1e-9  # sums round differently


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with its 95 % interval (Student's t, or bootstrap where said)."""

    value: float
    low: float
    high: float


def best_so_far(curves: Floats) -> Floats:
    """The best reward up to each evaluation."""
    found: Floats = np.fmax.accumulate(curves, axis=1)
    return found


def first_occurrences(rows: NDArray[np.int16]) -> NDArray[np.bool_]:
    """(seeds, evaluations), whether an evaluation is the first of its row in its search."""
    out = np.zeros(rows.shape, bool)
    for found, row in zip(out, rows, strict=True):
        found[np.unique(row, return_index=True)[1]] = True
    return out


def top_so_far(curves: Floats, count: int = 5) -> Floats:
    """Mean of the ``count`` best rewards up to each evaluation; NaN until there are so many."""
    top = np.full((len(curves), count), -np.inf)
    out = np.empty_like(curves)
    for t, values in enumerate(curves.T):
        worst = top.argmin(1)
        rows = np.arange(len(top))
        better = np.nan_to_num(values, nan=-np.inf) > top[rows, worst]
        top[rows[better], worst[better]] = values[better]
        out[:, t] = np.where(np.isinf(top).any(1), np.nan, top.mean(1))
    return out


def per_block(curves: Floats, length: int = 20) -> tuple[Floats, Floats]:
    """Mean and standard deviation of every ``length`` evaluations, (seeds, blocks) each."""
    blocks = curves.reshape(len(curves), -1, length)
    return np.nanmean(blocks, 2), np.nanstd(blocks, 2)


def mean(values: Floats) -> Interval:
    """Of (seeds,) values."""
    centre, error = float(values.mean()), float(stats.sem(values)) if len(values) > 1 else 0.0
    half = error * float(stats.t.ppf(0.975, len(values) - 1)) if error else 0.0
    return Interval(centre, centre - half, centre + half)


def paired_p(a: Floats, b: Floats) -> float:
    """Two-sided p of Student's paired test, of no difference between the means of (seeds,) values; 1 where all are alike."""
    if np.ptp(a - b) < SLACK:
        return 0.0 if abs(a[0] - b[0]) > SLACK else 1.0
    return float(stats.ttest_rel(a, b).pvalue)


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for their number (Holm 1979)."""
    out: dict[str, float] = {}
    worst = 0.0
    for i, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, (len(ps) - i) * p))
        out[name] = worst
    return {name: out[name] for name in ps}


def evaluations_to(best: Floats, target: float) -> int | None:
    """The first evaluation, counted from 1, at which the mean over seeds of the best so far reaches ``target``."""
    reached = best.mean(0) >= target - SLACK
    return int(reached.argmax()) + 1 if reached.any() else None


def evaluations_interval(best: Floats, other: Floats, seed: int = 0) -> tuple[int | None, int | None]:
    """95 % bootstrap interval of `evaluations_to` the mean of ``other``, (seeds,); None for not within the budget.

    Seeds are resampled in pairs: the target moves with them.
    """
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(best), np.full(len(best), 1 / len(best)), size=RESAMPLES) / len(best)
    reached = weights @ best >= (weights @ other)[:, None] - SLACK
    found = np.sort(np.where(reached.any(1), reached.argmax(1) + 1, best.shape[1] + 1))
    ends = [int(found[round(q * (RESAMPLES - 1))]) for q in (0.025, 0.975)]
    low, high = (None if e > best.shape[1] else e for e in ends)
    return low, high


def rank_of(best: Floats, worth: Floats) -> Floats:
    """(seeds,) the rank in the table of the best that each search found; 1 is the table's best."""
    order = np.sort(worth[~np.isnan(worth)])
    return 1.0 + len(order) - np.searchsorted(order, best, side="right")
