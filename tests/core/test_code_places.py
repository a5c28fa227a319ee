"""Gaussians of the code at each place, against scipy, one place after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from autoad_core.code_places import CHANNELS, POSITIONS, CodePlaces


def codes(count: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Correlated channels, whose mean and spread change from place to place."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, channels, *size, generator=generator)
    mixed[:, 1:] += 0.7 * mixed[:, :-1]
    places = torch.linspace(0, 5, size[0] * size[1]).reshape(size)
    return 100 + places.square() + (1 + places) * mixed


def fitted(train: Tensor, batch: int = 7) -> CodePlaces:
    made = CodePlaces(train.shape[1], (train.shape[2], train.shape[3]))

    made.fit(iter(train.split(batch)), train.permute(0, 2, 3, 1).flatten(0, 2))
    return made


def test_distances_are_those_of_mahalanobis_at_each_place() -> None:
    train, new = codes(40, 4, (3, 5)), codes(2, 4, (3, 5), seed=1)
    found = fitted(train)(new, (1, 1))
    assert found.shape == (2, 3, 5)
    wide = train.double().numpy()
    every = np.stack([np.cov(wide[:, :, y, x].T, bias=True) for y in range(3) for x in range(5)])
    shared = every.mean(0)
    ridge = 1e-3 * np.trace(shared) / 4 * np.eye(4)
    for n, y, x in np.ndindex(2, 3, 5):
        covariance = 0.95 * every[5 * y + x] + 0.05 * shared + ridge
        mean = wide[:, :, y, x].mean(0)
        expected = mahalanobis(new[n, :, y, x].double().numpy(), mean, np.linalg.inv(covariance))
        assert float(found[n, y, x]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("channels", [5, 40])
def test_the_batches_do_not_matter(channels: int) -> None:
    train, new = codes(30, channels, (4, 4)), codes(3, channels, (4, 4), seed=1)
    train[:10, 2] = 7.0  # silent at first
    whole, parts = fitted(train, 30)(new, (2, 2)), fitted(train, 7)(new, (2, 2))
    torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-3)


def test_random_directions_weigh_channels_alike() -> None:
    """A channel in other units changes nothing."""
    train, new = codes(60, 40, (2, 2)), codes(3, 40, (2, 2), seed=1)
    assert fitted(train).directions.shape == (40, CHANNELS)
    units = torch.ones(40, 1, 1)
    units[7] = 1000
    found = fitted(train)(new, (1, 1))
    torch.testing.assert_close(fitted(train * units)(new * units, (1, 1)), found, rtol=1e-2, atol=1e-2)


def test_a_map_lies_on_the_pixels_that_its_positions_stand_for() -> None:
    train = codes(20, 3, (4, 6))
    new = train[:1].clone()
    new[0, :, 1, 4] += 1000
    found = fitted(train)(new, (8, 5))[0]
    assert found.shape == (32, 30)
    rows, columns = np.unravel_index(int(found.argmax()), found.shape)
    assert 8 <= rows < 16
    assert 20 <= columns < 25


def test_a_large_code_is_averaged() -> None:
    size = (POSITIONS + 9, 2 * POSITIONS + 1)
    train = codes(4, 2, size)
    made = fitted(train)
    assert len(made.mean) == 21 * 22  # pools of 2 and 3, begun ones included
    assert made(train, (2, 2)).shape == (4, 21 * 4, 22 * 6)


@pytest.mark.parametrize("channels", [3, 40])
def test_codes_that_say_nothing_give_finite_distances(channels: int) -> None:
    train = codes(10, channels, (3, 3))
    train[:, 1] = 5  # a channel that never varies
    assert torch.isfinite(fitted(train)(codes(2, channels, (3, 3), seed=1), (1, 1))).all()
    large = codes(10, channels, (3, 3)) * 1e17
    assert torch.isfinite(fitted(large)(large, (1, 1))).all()
    constant = torch.full((4, channels, 2, 2), 3.0)
    found = fitted(constant)
    assert (found(constant, (1, 1)) < 1e-2).all()
    assert torch.isfinite(found(constant + 1, (1, 1))).all()


def test_a_channel_that_was_silent_does_not_drown_the_others() -> None:
    """What it says for once weighs no more than what the others say."""
    train, normal, defect = (codes(n, 40, (2, 2), seed=i) for i, n in enumerate((200, 40, 40)))
    for part in (train, normal, defect):
        part[:, 3] = 0.0
    normal[:20, 3] = 0.02 * float(train.std())
    defect[:, 10:20] += 8 * train[:, 10:20].std((0, 2, 3), keepdim=True)[0]
    found = fitted(train)
    assert found(normal, (1, 1)).amax((1, 2)).max() < found(defect, (1, 1)).amax((1, 2)).min()
