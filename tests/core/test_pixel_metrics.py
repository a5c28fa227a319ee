"""Pixel metrics against brute force: threshold by threshold, region by region, and scikit-learn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from autoad_core import pixel_metrics
from autoad_core.errors import DataError
from autoad_core.pixel_metrics import Truth, area_threshold, figures, intervals, largest_part, rpro, summary

Maps = list[np.ndarray[Any, Any]]


def regions(mask: np.ndarray[Any, Any]) -> list[set[tuple[int, int]]]:
    """Connected parts by flooding, diagonal neighbours included."""
    left = set(zip(*(i.tolist() for i in np.nonzero(mask)), strict=True))
    found = []
    while left:
        part, front = set(), [left.pop()]
        while front:
            i, j = front.pop()
            part.add((i, j))
            near = {(i + a, j + b) for a, b in itertools.product((-1, 0, 1), repeat=2)} & left
            left -= near
            front += near
        found.append(part)
    return found


def brute_au_pro(maps: Maps, masks: Maps, limit: float = 0.3) -> float:
    """Every distinct score as a threshold, the curve integrated by hand."""
    scores = sorted({float(v) for m in maps for v in m.ravel()}, reverse=True)
    parts = [(m, part) for m, k in zip(maps, masks, strict=True) for part in regions(k)]
    normal = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for t in scores:
        overlap = [sum(m[i, j] >= t for i, j in part) / len(part) for m, part in parts]
        points.append((float((normal >= t).mean()), sum(overlap) / len(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def truths(masks: Maps) -> list[Truth]:
    return [Truth.of(mask) for mask in masks]


def some(seed: int, kind: str = "blobs", ties: bool = False) -> tuple[Maps, Maps]:
    """Three maps of different sizes and their masks."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for shape in ((9, 7), (6, 11), (8, 8)):
        mask = rng.uniform(size=shape) < {"blobs": 0.15, "touching": 0.5}[kind]
        maps.append((rng.normal(size=shape) + mask).round(1 if ties else 9))
        masks.append(mask)
    return maps, masks


def cases() -> dict[str, tuple[Maps, Maps]]:
    maps, masks = some(1)
    return {
        "scattered": (maps, masks),
        "touching regions": some(2, "touching"),
        "ties": some(3, ties=True),
        "empty masks": (maps, [masks[0], np.zeros_like(masks[1]), np.zeros_like(masks[2])]),
        "an image of nothing but defect": (maps, [np.ones_like(masks[0]), *masks[1:]]),
        "one defect pixel": (
            maps,
            [np.pad([[True]], ((4, 4), (3, 3))), *(np.zeros_like(m) for m in masks[1:])],
        ),
        "constant maps": ([np.zeros_like(m) for m in maps], masks),
        "perfect": ([k.astype(float) for k in masks], masks),
        "upside down": ([-k.astype(float) for k in masks], masks),
    }


@pytest.mark.parametrize("case", cases(), ids=str)
def test_summary_is_that_of_brute_force(case: str) -> None:
    maps, masks = cases()[case]
    found = summary(maps, truths(masks))
    scores, labels = (np.concatenate([a.ravel() for a in arrays]) for arrays in (maps, masks))
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert found["pixel_aupr"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found["pixel_best_f1"] == pytest.approx(f1.max(), abs=1e-9)
    assert found["au_pro"] == pytest.approx(brute_au_pro(maps, masks), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["blobs", "touching"]), st.booleans())
def test_au_pro_is_that_of_brute_force_on_anything(seed: int, kind: str, ties: bool) -> None:
    maps, masks = some(seed, kind, ties)
    assert summary(maps, truths(masks))["au_pro"] == pytest.approx(brute_au_pro(maps, masks), abs=1e-9)


def test_bins_move_no_figure_by_more_than_1e_4(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    masks = [np.zeros((128, 128), bool) for _ in range(12)]
    for i, mask in enumerate(masks[:8]):
        mask[10 + i : 30, 20 : 40 + 3 * i] = True
        mask[90:94, 90:94] = True
    maps = [np.exp(rng.normal(size=m.shape) + 1.5 * m) for m in masks]
    exact = summary(maps, truths(masks))
    monkeypatch.setattr(pixel_metrics, "EXACT", 1000)
    monkeypatch.setattr(pixel_metrics, "TOP", 2**12)
    binned = summary(maps, truths(masks))
    assert binned != exact
    assert binned == pytest.approx(exact, abs=1e-4)


@pytest.mark.slow
def test_bins_keep_a_few_defect_pixels_among_millions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty pixels among 4 million: in equal bins of 64 pixels, AUPR and F1 would be far off."""
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(1448, 1448)).astype(np.float32) for _ in range(2)]
    masks = [np.zeros(m.shape, bool) for m in maps]
    masks[0][100:105, 200:204] = True
    maps[0][masks[0]] += 5
    exact = summary(maps, truths(masks))
    monkeypatch.setattr(pixel_metrics, "EXACT", 1000)
    assert summary(maps, truths(masks)) == pytest.approx(exact, abs=1e-4)


def test_intervals_are_those_of_resampled_images() -> None:
    """Against whole summaries of images drawn by hand: ends within the error of 400 resamples."""
    rng = np.random.default_rng(0)
    masks = [np.pad(np.ones((4, 4), bool), ((6, 6), (i, 12 - i))) for i in range(8)]
    masks += [np.zeros((16, 16), bool)] * 4
    maps = [rng.normal(rng.uniform(0, 0.6), 1, m.shape) + rng.uniform(0, 2) * m for m in masks]
    found = intervals(maps, truths(masks), 0.5, resamples=400)
    drawn = []
    for _ in range(400):
        rows = [*rng.integers(0, 8, 8), *rng.integers(8, 12, 4)]
        drawn.append(figures([maps[i] for i in rows], truths([masks[i] for i in rows]), 0.5))
    for name, interval in found.items():
        values = np.array([d[name] for d in drawn])
        assert interval.value == figures(maps, truths(masks), 0.5)[name]
        assert interval.low <= interval.value <= interval.high
        low, high = np.quantile(values, (0.025, 0.975))
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=values.std() / 2)


# Masks of another size than their maps


@pytest.mark.parametrize("size", [(3, 7), (9, 7), (4, 3), (9, 14), (18, 5), (1, 1)])
def test_a_mask_is_scored_at_its_own_size(size: tuple[int, int]) -> None:
    """As if the map were brought to the mask's size, its pixels repeated; or the mask to the map's, where that is finer."""
    rng = np.random.default_rng(0)
    mask = rng.uniform(size=(9, 7)) < 0.3
    small = rng.normal(size=size)
    rows, columns = (
        np.floor((np.arange(max(m, s)) + 0.5) * s / max(m, s)).astype(int)
        for m, s in zip(mask.shape, size, strict=True)
    )
    below, right = (
        np.floor((np.arange(max(m, s)) + 0.5) * m / max(m, s)).astype(int)
        for m, s in zip(mask.shape, size, strict=True)
    )
    enlarged, repeated = small[rows][:, columns], mask[below][:, right]
    expected = summary([enlarged], truths([repeated]))
    assert summary([small], [Truth.of(mask, size)]) == pytest.approx(expected, abs=1e-9)
    assert rpro([small], [Truth.of(mask, size)], 0.1) == pytest.approx(
        rpro([enlarged], truths([repeated]), 0.1), abs=1e-9
    )


def test_a_small_map_neither_joins_nor_loses_regions() -> None:
    mask = np.zeros((64, 64), bool)
    mask[::8, ::8] = True  # 64 defects of one pixel, which halving the mask would lose or join
    assert Truth.of(mask, (4, 4)).regions == 64
    assert Truth.of(mask, (4, 4)).overlap.sum() == pytest.approx(64)
    assert Truth.of(mask, (4, 4)).defects.sum() == 64


# Regions and thresholds


@pytest.mark.parametrize("area", [1, 2, 5, 12, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_the_area_threshold_is_the_lowest_that_holds(area: int, ties: bool) -> None:
    maps, _ = some(5, ties=ties)
    t = area_threshold(maps, area)

    def holds(threshold: float) -> bool:
        return all(len(part) < area for m in maps for part in regions(m > threshold))

    assert holds(t)
    lower = [v for v in sorted({float(v) for m in maps for v in m.ravel()}) if v < t]
    assert all(not holds(v) for v in lower)


def test_rpro_is_that_of_brute_force() -> None:
    for seed, kind in itertools.product(range(5), ("blobs", "touching")):
        maps, masks = some(seed, kind)
        shares = [
            sum(m[i, j] > 0.5 for i, j in part) / len(part)
            for m, k in zip(maps, masks, strict=True)
            for part in regions(k)
        ]
        assert rpro(maps, truths(masks), 0.5) == pytest.approx(sum(shares) / len(shares))


def test_diagonal_neighbours_are_connected() -> None:
    assert largest_part(np.eye(5, dtype=bool)) == 5
    assert largest_part(np.zeros((3, 3), bool)) == 0


# Mistakes


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda maps, masks: (maps, [np.zeros_like(k) for k in masks]), DataError, "no mask has a defect"),
        (lambda maps, masks: (maps, [np.ones_like(k) for k in masks]), DataError, "every pixel is a defect"),
        (lambda maps, masks: (maps, [k.T for k in masks]), ValueError, "must be alike"),
        (lambda maps, masks: ([np.where(k, np.nan, 1) for k in masks], masks), ValueError, "not finite"),
        (lambda maps, masks: (maps, [255 * k.astype(np.uint8) for k in masks]), ValueError, "bool, got"),
    ],
)
def test_mistakes_are_said(change: Callable[..., Any], error: type[Exception], says: str) -> None:
    maps, masks = change(*some(0))
    with pytest.raises(error, match=says):
        summary(maps, truths(masks))
    with pytest.raises(error, match=says):
        intervals(maps, truths(masks), 0.5)
    if says != "every pixel is a defect":
        with pytest.raises(error, match=says):
            rpro(maps, truths(masks), 0.5)


def test_thresholds_need_maps() -> None:
    with pytest.raises(DataError, match="there are none"):
        area_threshold([], 3)
    with pytest.raises(ValueError, match="at least 1"):
        area_threshold([np.zeros((2, 2))], 0)
    with pytest.raises(DataError, match="no mask has a defect"):
        rpro([np.zeros((2, 2))], truths([np.zeros((2, 2), bool)]), 0.5)
