"""Score maps from term maps: each term standardised, summed up, smoothed.

A term is standardised in one of two ways: `l2` by its median and MAD over all pixels of training images; `l2@place` by its mean
and deviation at the same place of all training images, where too little counts as too much does. The second knows what belongs
where: it is for objects that always lie alike.

The last name of a definition may be `~8`: the sum is smoothed by a Gaussian with a sigma of 8 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from autoad_core.data import Floats
from autoad_core.detector import Scale

PLACE = "@place"
SMOOTHED = "~"
MAX_SIGMA = 100
_FRACTION = 2**17  # pixels of each batch that medians are taken of, at most
_FLOOR = 0.1  # of the median deviation, added to each: where nothing ever varies, rounding is no defect
_SPREAD = (
    2.0  # sigma by which variances at neighbouring places are averaged: a few images say little of one pixel
)


@dataclass(frozen=True, slots=True)
class Standard:
    """What is usual of each term.

    Attributes:
        scales: By term, over all pixels.
        places: By term, (2, H, W) float32: mean and deviation at each place.
    """

    scales: Mapping[str, Scale]
    places: Mapping[str, Tensor]

    @classmethod
    def of(cls, batches: Iterable[Mapping[str, Tensor]]) -> Standard:
        """From the terms of training images, maps (B, H, W) each, batch by batch."""
        batches = iter(batches)
        first = next(batches)
        # Sums of squares of deviations from the first image, which are small where the terms are large.
        start = {name: maps[0].double() for name, maps in first.items()}
        drawn: dict[str, list[Tensor]] = {name: [] for name in first}
        sums = {name: torch.zeros(2, *maps.shape[1:], dtype=torch.float64) for name, maps in first.items()}
        count = 0
        for batch in chain([first], batches):
            for name, maps in batch.items():
                step = (maps.numel() // _FRACTION) | 1  # odd, so that it falls on every column
                drawn[name].append(maps.flatten()[::step])
                deviations = maps.double() - start[name]
                sums[name] += torch.stack([deviations.sum(0), deviations.square().sum(0)])
            count += len(next(iter(batch.values())))
        return cls(
            {name: Scale.of(torch.cat(parts).numpy()) for name, parts in drawn.items()},
            {name: _place(start[name], sums[name] / count) for name in first},
        )

    def score(self, raw: Mapping[str, Floats], definition: Sequence[str]) -> Floats:
        """Sum of the named terms (n, H, W), standardised and smoothed; float32.

        Raises:
            ValueError: A term ``@place`` on maps of another size than those that this was made of.
        """
        total = torch.zeros(())
        for name in (name for name in definition if not name.startswith(SMOOTHED)):
            term = name.removesuffix(PLACE)
            values = torch.from_numpy(raw[term])
            if name == term:
                total = total + (values - self.scales[term].median) / self.scales[term].mad
                continue
            mean, deviation = self.places[term]
            if values.shape[1:] != mean.shape:
                raise ValueError(f"maps of {tuple(values.shape[1:])} and places of {tuple(mean.shape)}")
            total = total + ((values - mean) / deviation).abs()
        return blurred(total, sigma_of(definition)).numpy()


def smoothed(terms: Sequence[str], sigma: float) -> tuple[str, ...]:
    """A definition of a score: the terms, smoothed by ``sigma`` pixels."""
    return (*terms, f"{SMOOTHED}{sigma:g}")


def sigma_of(definition: Sequence[str]) -> float:
    """Of the smoothing; 0 where none is named.

    Raises:
        ValueError: It is no number from 0 to `MAX_SIGMA`, or not at the end.
    """
    if any(name.startswith(SMOOTHED) for name in definition[:-1]):
        raise ValueError("smoothing before the end of a score")
    if not definition or not definition[-1].startswith(SMOOTHED):
        return 0.0
    sigma = float(definition[-1].removeprefix(SMOOTHED))
    if not 0 <= sigma <= MAX_SIGMA:
        raise ValueError(f"smoothing {sigma}")
    return sigma


def terms_in(definition: Sequence[str]) -> set[str]:
    """The terms of a score, without marks."""
    return {name.removesuffix(PLACE) for name in definition if not name.startswith(SMOOTHED)}


def _place(start: Tensor, means: Tensor) -> Tensor:
    """(2, H, W) float32 from the first image's map, (H, W), and the mean deviation from it and its square, (2, H, W) float64."""
    variance = (means[1] - means[0].square()).clamp(min=0)
    deviation = blurred(variance.float()[None], _SPREAD)[0].sqrt()
    return torch.stack([(start + means[0]).float(), deviation + _FLOOR * deviation.median() + 1e-12])


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """(n, H, W) maps after a Gaussian of ``sigma`` pixels, cut off at 4 sigma, edges repeated."""
    if not sigma:
        return maps
    radius = int(4 * sigma + 0.5)
    weights = torch.exp(-(torch.arange(-radius, radius + 1) / sigma).square() / 2)
    kernel = (weights / weights.sum()).to(maps.dtype)
    wide = F.pad(maps[:, None], (radius, radius, radius, radius), mode="replicate")
    down = F.conv2d(wide, kernel[None, None, :, None])
    across: Tensor = F.conv2d(down, kernel[None, None, None, :])
    return across[:, 0]
