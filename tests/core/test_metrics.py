"""Metrics against scikit-learn, brute force and closed forms; intervals against simulation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from autoad_core.errors import AutoADError, DataError
from autoad_core.metrics import (
    METRICS,
    Curve,
    Interval,
    _bootstrap,
    aupr_in,
    aupr_out,
    auroc,
    best_f1,
    fpr_at_95_tpr,
    grouped_intervals,
    intervals,
    summary,
)

Case = tuple[Any, Any]

no_deadline = settings(deadline=None)  # the machine may be busy


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores with many ties and labels of both kinds."""
    n = draw(st.integers(2, 60))
    scores = draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    labels = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    assume(0 < sum(labels) < n)
    return np.array(scores) / 4, np.array(labels)


def random_case(seed: int, n: int = 400, ties: bool = False) -> Case:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < rng.uniform(0.05, 0.95)
    scores = rng.normal(size=n) + rng.uniform(-0.5, 2) * labels
    return (np.round(scores, 1) if ties else scores), labels


def sklearn_summary(scores: Any, labels: Any) -> dict[str, float]:
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(labels, scores)
    total = precision + recall
    return {
        "auroc": roc_auc_score(labels, scores),
        "aupr_in": average_precision_score(~labels, -scores),
        "aupr_out": average_precision_score(labels, scores),
        "fpr_at_95_tpr": fpr[tpr >= 0.95 - 1e-12].min(),
        "best_f1": (2 * precision * recall / np.where(total > 0, total, 1)).max(),
    }


@no_deadline
@given(cases())
def test_agrees_with_scikit_learn_on_ties(case: Case) -> None:
    assert summary(*case) == pytest.approx(sklearn_summary(*case), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scikit_learn_on_normal_scores(seed: int, ties: bool) -> None:
    case = random_case(seed, ties=ties)
    assert summary(*case) == pytest.approx(sklearn_summary(*case), abs=1e-9)


@no_deadline
@given(cases())
def test_auroc_is_the_share_of_pairs_in_order(case: Case) -> None:
    scores, labels = case
    pairs = [(a > n) + (a == n) / 2 for a in scores[labels] for n in scores[~labels]]
    assert auroc(scores, labels) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@no_deadline
@given(cases())
def test_thresholds_by_brute_force(case: Case) -> None:
    scores, labels = case
    flagged = [scores >= threshold for threshold in scores]
    f1 = [2 * np.sum(f & labels) / (np.sum(f) + np.sum(labels)) for f in flagged]
    enough = [f for f in flagged if 100 * np.sum(f & labels) >= 95 * np.sum(labels)]
    assert best_f1(scores, labels) == pytest.approx(max(f1), abs=1e-12)
    assert fpr_at_95_tpr(scores, labels) == pytest.approx(
        min(np.sum(f & ~labels) for f in enough) / np.sum(~labels), abs=1e-12
    )


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0, 1, 2, 3], [0, 0, 1, 1], (1, 1, 1, 0, 1)),  # told apart
        ([3, 2, 1, 0], [0, 0, 1, 1], (0, 5 / 12, 5 / 12, 1, 2 / 3)),  # the wrong way round
        ([7, 7, 7, 7], [0, 1, 0, 0], (0.5, 0.75, 0.25, 1, 0.4)),  # constant: the base rates
        ([1, 2, 3, 4], [0, 1, 0, 1], (0.75, 5 / 6, 5 / 6, 0.5, 0.8)),
    ],
)
def test_by_hand(scores: list[int], labels: list[int], expected: tuple[float, ...]) -> None:
    assert tuple(summary(scores, labels).values()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_auroc_of_two_normal_distributions(shift: float) -> None:
    """Phi(shift / sqrt 2), within 5 standard errors: a false alarm in 2 million runs."""
    rng = np.random.default_rng(1)
    n = 20_000
    scores = np.concatenate([rng.normal(size=n), shift + rng.normal(size=n)])
    expected = NormalDist().cdf(shift / math.sqrt(2))
    error = math.sqrt(expected * (1 - expected) / n)  # an upper bound of the standard error
    assert auroc(scores, np.repeat([0, 1], n)) == pytest.approx(expected, abs=5 * error)


@no_deadline
@given(cases(), st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(case: Case, rng: Any) -> None:
    scores, labels = case
    order = list(range(len(scores)))
    rng.shuffle(order)
    assert summary(scores[order], labels[order]) == summary(scores, labels)


@no_deadline
@given(cases(), st.sampled_from([np.exp, np.arctan, lambda s: 3 * s - 7, lambda s: s**3]))
def test_only_the_order_of_the_scores_matters(case: Case, increasing: Callable[[Any], Any]) -> None:
    scores, labels = case
    assert summary(increasing(scores), labels) == summary(scores, labels)


@no_deadline
@given(cases())
def test_swapping_the_sides_swaps_the_metrics(case: Case) -> None:
    scores, labels = case
    assert auroc(-scores, ~labels) == pytest.approx(auroc(scores, labels), abs=1e-12)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)
    assert aupr_out(-scores, ~labels) == pytest.approx(aupr_in(scores, labels), abs=1e-12)


def test_each_function_gives_its_part_of_the_summary() -> None:
    case = random_case(3, ties=True)
    functions = (auroc, aupr_in, aupr_out, fpr_at_95_tpr, best_f1)
    assert summary(*case) == {f.__name__: f(*case) for f in functions}
    assert all(type(value) is float for value in summary(*case).values())


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32, bool])
def test_labels_of_any_type(kind: type) -> None:
    scores, labels = random_case(0)
    assert summary(scores, labels.astype(kind)) == summary(scores, labels)
    assert summary(scores.tolist(), labels.tolist()) == summary(scores, labels)


@pytest.mark.parametrize("metric", [summary, auroc, aupr_in, aupr_out, fpr_at_95_tpr, best_f1, intervals])
def test_what_cannot_be_measured_is_refused(metric: Callable[[Any, Any], Any]) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
            metric([0.0, bad, 1.0], [0, 1, 1])
    for labels in ([0, 0, 0], [1, 1, 1]):
        with pytest.raises(DataError, match="metrics need normals and anomalies, got"):
            metric([0.0, 1.0, 2.0], labels)
    with pytest.raises(DataError, match="got 0 and 0"):
        metric([], [])
    with pytest.raises(ValueError, match="labels must be 0"):
        metric([0.0, 1.0, 2.0], [0, 1, 2])
    with pytest.raises(ValueError, match="labels must be 0"):
        metric([0.0, 1.0], [0, np.nan])
    with pytest.raises(ValueError, match="vectors of one length"):
        metric([0.0, 1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match="vectors of one length"):
        metric([[0.0, 1.0]], [[0, 1]])


def test_the_error_is_one_a_user_can_act_on() -> None:
    assert issubclass(DataError, AutoADError)


# Intervals


def test_intervals_hold_the_values_of_the_summary() -> None:
    case = random_case(5)
    found = intervals(*case)
    assert {name: interval.value for name, interval in found.items()} == summary(*case)
    assert list(found) == list(METRICS)
    for name in ("auroc", "aupr_in", "aupr_out"):
        assert found[name].low < found[name].value < found[name].high
    for interval in found.values():
        assert 0 <= interval.low <= interval.high <= 1


def test_intervals_agree_with_a_plain_bootstrap() -> None:
    """One resample after another through `summary`.

    The end of an interval is a quantile of 4,000 resamples, known to sqrt(0.025 * 0.975 / 4000) / 0.0584 = 0.042
    of their standard deviation where they are normal. 0.3 of it is 5 errors of a difference of two such ends: a
    false alarm in about 100,000 seeds for the ten of them.
    """
    scores, labels = random_case(11, n=150, ties=True)
    rng = np.random.default_rng(0)
    sides = np.flatnonzero(~labels), np.flatnonzero(labels)
    drawn = [np.concatenate([rng.choice(side, len(side)) for side in sides]) for _ in range(4000)]
    plain = [summary(scores[chosen], labels[chosen]) for chosen in drawn]
    found = intervals(scores, labels, resamples=4000)
    for name, interval in found.items():
        values = np.array([row[name] for row in plain])
        low, high = np.quantile(values, (0.025, 0.975))
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.3 * values.std())


def test_width_is_that_of_the_closed_form() -> None:
    """DeLong, DeLong and Clarke-Pearson's standard error of an AUROC (Biometrics, 1988).

    The ends of 2,000 resamples give the width to 2 %; 10 % is 5 of its errors, a false alarm in a million seeds.
    """
    scores, labels = random_case(2, n=600)
    above = scores[labels][:, None] > scores[~labels]
    area, a, n = above.mean(), labels.sum(), (~labels).sum()
    by_anomaly, by_normal = above.mean(axis=1).var(), above.mean(axis=0).var()
    error = math.sqrt(by_anomaly / a + by_normal / n)
    interval = intervals(scores, labels, resamples=2000)["auroc"]
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert interval.value == pytest.approx(area, abs=1e-12)


def test_intervals_cover_the_truth() -> None:
    """300 experiments, normals N(0, 1), anomalies N(1.2, 1).

    At a true coverage of 0.94, as a percentile bootstrap of 200 images may have, the count leaves [0.90, 0.98] for
    1 seed in 370 (binomial).
    """
    truth = NormalDist().cdf(1.2 / math.sqrt(2))
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [120, 80])
    hits = []
    for seed in range(300):
        interval = intervals(rng.normal(size=200) + 1.2 * labels, labels, resamples=400, seed=seed)["auroc"]
        hits.append(interval.low <= truth <= interval.high)
    assert 0.90 <= np.mean(hits) <= 0.98


def test_intervals_follow_the_seed_alone() -> None:
    case = random_case(1)
    np.random.seed(0)
    first = intervals(*case, resamples=200)
    np.random.seed(1)
    assert intervals(*case, resamples=200) == first
    assert intervals(*case, resamples=200, seed=1) != first


def test_a_perfect_figure_has_no_width() -> None:
    assert intervals([0, 1, 2, 3], [0, 0, 1, 1])["auroc"] == Interval(1.0, 1.0, 1.0)


@pytest.mark.parametrize(("n", "chunks"), [(1000, 16), (20_000, 334), (70_000, 1000)])
def test_resamples_come_in_chunks_of_bounded_size(n: int, chunks: int) -> None:
    """1,000 in all; one at a time where a single one is larger than a chunk."""
    counts = [np.ones(n // 2, dtype=np.int64), np.array([n // 2])]
    found = [(len(normals), len(anomalies)) for normals, anomalies in _bootstrap(counts, 1000, seed=0)]
    assert len(found) == chunks
    assert tuple(map(sum, zip(*found, strict=True))) == (1000, 1000)


def test_resamples_keep_the_number_of_each_kind() -> None:
    curve = Curve.of(*random_case(0, ties=True))
    for normals, anomalies in _bootstrap([curve.normals, curve.anomalies], 200, seed=0):
        assert (normals.sum(axis=1) == curve.normals.sum()).all()
        assert (anomalies.sum(axis=1) == curve.anomalies.sum()).all()
        assert not normals[:, curve.normals == 0].any(), "a score that no normal had"


def test_interval_reads_well() -> None:
    assert str(Interval(0.93249, 0.9214, 0.9406)) == "0.932 [0.921, 0.941]"


def test_a_thousand_resamples_of_15_000_scores_take_less_than_two_seconds() -> None:
    """In CPU seconds, so that other work on the machine does not matter; 0.6 when this was written."""
    case = random_case(0, n=15_000)
    start = time.process_time()
    intervals(*case)
    assert time.process_time() - start < 2


# Several sets of anomalies


def grouped_case(
    seed: int, sizes: tuple[int, ...] = (200, 80, 120), shifts: tuple[float, ...] = (0, 1, 1.5)
) -> Case:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(size=len(groups)) + np.asarray(shifts)[groups], groups


def test_each_group_is_measured_against_all_normals() -> None:
    scores, groups = grouped_case(0)
    found = grouped_intervals(scores, groups, "mean")
    for g in (1, 2):
        mine = (groups == 0) | (groups == g)
        assert found.groups[g].value == pytest.approx(auroc(scores[mine], groups[mine] > 0), abs=1e-12)
    assert found.aggregate.value == pytest.approx(
        np.mean([i.value for i in found.groups.values()]), abs=1e-12
    )


def test_minimum_is_that_of_the_hardest_group() -> None:
    found = grouped_intervals(*grouped_case(0))
    assert found.aggregate.value == min(i.value for i in found.groups.values())
    assert found.aggregate == found.groups[1], "one group is harder in every resample here"


def test_numbers_of_groups_may_have_gaps() -> None:
    scores, groups = grouped_case(0)
    found = grouped_intervals(scores, np.where(groups == 2, 9, groups))
    assert set(found.groups) == {1, 9}
    assert found.groups[9] == grouped_intervals(scores, groups).groups[2]


def test_one_group_is_the_plain_auroc() -> None:
    scores, groups = grouped_case(0, sizes=(100, 50), shifts=(0, 1))
    found = grouped_intervals(scores, groups)
    assert found.aggregate == found.groups[1] == intervals(scores, groups)["auroc"]


def test_one_resample_of_the_normals_serves_all_groups() -> None:
    """Two groups of the same scores share the normals' luck.

    With few normals and many anomalies nearly all of the variance is the normals', and the mean of the two AUROCs
    is as uncertain as either; apart, it would be 1 / sqrt 2 of that.
    """
    scores, groups = grouped_case(4, sizes=(40, 4000, 4000), shifts=(0, 1, 1))
    found = grouped_intervals(scores, groups, "mean")
    width = found.aggregate.high - found.aggregate.low
    for interval in found.groups.values():
        assert width == pytest.approx(interval.high - interval.low, rel=0.1)


def test_aggregate_interval_covers_the_truth() -> None:
    """Mean of two AUROCs, 200 experiments; at a true 0.94 the count leaves [0.88, 0.99] for 1 seed in 2,000."""
    truth = np.mean([NormalDist().cdf(shift / math.sqrt(2)) for shift in (1, 1.5)])
    hits = []
    for seed in range(200):
        found = grouped_intervals(*grouped_case(1000 + seed), "mean", resamples=300, seed=seed).aggregate
        hits.append(found.low <= truth <= found.high)
    assert 0.88 <= np.mean(hits) <= 0.99


def test_groups_that_cannot_be_measured_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must be integers"):
        grouped_intervals([0.0, 1.0], [0, -1])
    with pytest.raises(ValueError, match="groups must be integers"):
        grouped_intervals([0.0, 1.0], [0, 0.5])
    with pytest.raises(DataError, match="got 2 and 0"):
        grouped_intervals([0.0, 1.0], [0, 0])
    with pytest.raises(DataError, match="got 0 and 2"):
        grouped_intervals([0.0, 1.0], [1, 2])
    with pytest.raises(ValueError, match="2 of 2 scores are not finite"):
        grouped_intervals([np.nan, np.inf], [0, 1])
