"""Thresholds: what they promise, over many splits, and against counting."""

from __future__ import annotations

import numpy as np
import pytest

from autoad_core.thresholds import RATES, Usual


def test_the_p_value_is_the_rank_among_all_scores() -> None:
    usual = Usual.of(np.array([3.0, 1.0, 2.0, 2.0], np.float32))
    assert usual.scores == (1, 2, 2, 3)
    assert [usual.p_value(s) for s in (0, 1, 1.5, 2, 2.5, 3, 4)] == [1, 1, 0.8, 0.8, 0.4, 0.4, 0.2]
    assert usual.least_rate == 0.2


@pytest.mark.parametrize("rate", [0.2, 0.21, 0.4, 0.5, 0.9, 1.0])
def test_a_score_above_the_threshold_is_one_with_a_small_p_value(rate: float) -> None:
    usual = Usual((1.0, 2.0, 3.0, 4.0))
    threshold = usual.threshold(rate)
    assert threshold is not None
    for score in (0.5, 1.5, 2.5, 3.5, 4.5):
        assert (score > threshold) == (usual.p_value(score) <= rate) or rate == 1


def test_a_rate_that_few_images_cannot_promise_has_no_threshold() -> None:
    usual = Usual((1.0, 2.0, 3.0))
    assert usual.threshold(0.2499) is None
    assert usual.threshold(0.25) == 3.0


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (50, 0.1), (200, 0.05)])
def test_false_alarms_on_held_back_images_keep_to_the_rate(count: int, rate: float) -> None:
    """Over 4,000 splits. The rate's mean is known: floor(rate * (n + 1)) / (n + 1); 5 standard errors are allowed."""
    rng = np.random.default_rng(0)
    alarms = np.empty(4000)
    for i in range(len(alarms)):
        scores = rng.gamma(0.5, size=count + 40)
        usual = Usual.of(scores[:count])
        threshold = usual.threshold(rate)
        assert threshold is not None
        alarms[i] = (scores[count:] > threshold).mean()
    expected = np.floor(rate * (count + 1) + 1e-9) / (count + 1)
    error = alarms.std() / np.sqrt(len(alarms))
    assert alarms.mean() == pytest.approx(expected, abs=5 * error)
    assert expected <= rate


def maps(rng: np.random.Generator, count: int) -> np.ndarray:
    """Images that differ in level more than their pixels do, as normal images may."""
    level = rng.normal(size=(count, 1, 1))
    return (level + 0.3 * rng.normal(size=(count, 12, 12))).astype(np.float32)


@pytest.mark.parametrize(("count", "rate"), [(30, 0.05), (30, 0.2), (100, 0.02)])
def test_the_share_of_pixels_above_keeps_to_the_rate(count: int, rate: float) -> None:
    rng = np.random.default_rng(1)
    shares = np.empty(1500)
    for i in range(len(shares)):
        threshold, promised = Usual.of(maps(rng, count)).pixel_threshold(rate)
        assert promised
        shares[i] = (maps(rng, 20) > threshold).mean()
    error = shares.std() / np.sqrt(len(shares))
    assert shares.mean() <= rate + 3 * error
    assert shares.mean() > rate / 4  # and it is no trivial threshold


def test_what_few_images_cannot_promise_for_pixels_is_what_they_have() -> None:
    found = maps(np.random.default_rng(0), 10)
    usual = Usual.of(found)
    assert usual.scores == tuple(sorted(found.max((1, 2)).tolist()))
    threshold, promised = usual.pixel_threshold(0.01)
    assert not promised
    assert 0.005 < (found > threshold).mean() <= 0.01
    assert usual.pixel_threshold(1e-9)[0] == found.max()


def test_connected_parts_of_normal_maps_stay_below_their_area() -> None:
    from autoad_core.pixel_metrics import largest_part

    found = maps(np.random.default_rng(0), 6)
    connected = Usual.of(found, 5).connected
    assert connected is not None
    assert max(largest_part(one > connected) for one in found) < 5
    assert Usual.of(found[:, 0, 0]).connected is None


def test_thresholds_survive_being_written_and_read() -> None:
    for found in (np.arange(5, dtype=np.float32), maps(np.random.default_rng(0), 3)):
        usual = Usual.of(found)
        assert Usual.from_json(usual.to_json()) == usual
    assert RATES[0] == 1
    assert len(usual.pixels) == len(RATES)
