"""What a user would try first where defects are to be found in the image. No network is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from autoad_core import baselines
from autoad_core.data import Floats
from autoad_core.detector import HYPOTHESIS, OWN_DISTANCE, batch_size
from autoad_core.judges import BRIGHTNESS, Contestant, Judge
from autoad_core.pixel_detector import CALIBRATION_PIXELS, CODE
from autoad_core.protocols import Distance
from autoad_core.score_maps import PLACE, Standard, blurred, terms_in


def simple_maps(
    judge: Judge,
    distances: Mapping[str, Distance],
    own: Sequence[str],
    scores: Mapping[str, tuple[str, ...]],
    smoothings: Sequence[float],
    threads: int = 1,
) -> list[Contestant]:
    """PCA under the same scores as the searched models, nearest neighbours, mean pixel, and no model at all: the centre.

    PCA has no code at places, and so not the score that is made of it.

    Args:
        judge: Its sample chooses PCA's components and score, and how the maps of nearest neighbours are smoothed.
        distances: By id: all that the scores need.
        own: Ids of the distances that a child of this search may have: PCA's ``own`` score is the best of them.
        scores: Definitions, resolved.
        smoothings: Sigmas to choose from.
        threads: At work at once; the result does not depend on them.
    """
    train = judge.split.train.images

    def brightness(images: Floats) -> Floats:
        scores = baselines.mean_pixel(train, images).astype(np.float32)
        return np.broadcast_to(scores[:, None, None], (len(images), *images.shape[2:]))

    def centre(images: Floats) -> Floats:
        rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in images.shape[2:])
        nearness = -(rows[:, None] ** 2) - columns**2
        return np.broadcast_to(nearness, (len(images), *nearness.shape))

    return [
        _best_pca(judge, distances, _definitions(scores, own), threads),
        _best_neighbours(judge, smoothings),
        Contestant(BRIGHTNESS, brightness, {"score": ""}),
        Contestant("centre of the image", centre, {"score": ""}),
    ]


@dataclass(frozen=True, slots=True)
class _PcaMaps:
    """PCA and what is usual of the distances of its reconstructions."""

    pca: baselines.Pca
    distances: Mapping[str, Distance]
    standard: Standard

    @classmethod
    def of(cls, pca: baselines.Pca, distances: Mapping[str, Distance], train: Floats) -> _PcaMaps:
        few = train[: max(2, CALIBRATION_PIXELS // train[0, 0].size)]
        return cls(pca, distances, Standard.of(_term_maps(pca, distances, few)))

    def terms(self, images: Floats) -> dict[str, Floats]:
        """(n, H, W) float32 each."""
        every = list(_term_maps(self.pca, self.distances, images))
        return {k: torch.cat([maps[k] for maps in every]).numpy() for k in self.distances}

    def score(self, definition: Sequence[str], images: Floats) -> Floats:
        """Maps (n, H, W)."""
        return self.standard.score(self.terms(images), definition)


def _term_maps(
    pca: baselines.Pca, distances: Mapping[str, Distance], images: Floats
) -> Iterator[dict[str, Tensor]]:
    whole = torch.from_numpy(images)
    for x in whole.split(batch_size(whole)):
        y = torch.from_numpy(pca.reconstruct(x.numpy()))
        with torch.inference_mode():
            yield {name: distance(x, y).float() for name, distance in distances.items()}


def _best_pca(
    judge: Judge,
    distances: Mapping[str, Distance],
    definitions: Mapping[str, tuple[str, ...]],
    threads: int,
) -> Contestant:
    train = judge.split.train.images

    def best_of(size: int, pca: baselines.Pca) -> tuple[float, Contestant]:
        model = _PcaMaps.of(pca, distances, train)
        raw = model.terms(judge.sample.images)
        values = {k: judge.value(model.standard.score(raw, names)) for k, names in definitions.items()}
        label = max(values, key=lambda k: values[k])
        more = {"score": f"{label}, {size} components"}
        return values[label], Contestant("PCA", partial(model.score, definitions[label]), more)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(best_of, *zip(*baselines.Pca.fit(train).sizes().items(), strict=True)))
    return max(found, key=lambda pair: pair[0])[1]


def _best_neighbours(judge: Judge, smoothings: Sequence[float]) -> Contestant:
    train = judge.split.train.images

    def maps(images: Floats) -> Tensor:
        return torch.from_numpy(baselines.knn_maps(train, images))

    raw = maps(judge.sample.images)
    sigma = max(smoothings, key=lambda sigma: judge.value(blurred(raw, sigma).numpy()))
    score = f"~{sigma:g}" if len(smoothings) > 1 else ""
    return Contestant(
        "nearest neighbours", lambda images: blurred(maps(images), sigma).numpy(), {"score": score}
    )


def _definitions(scores: Mapping[str, tuple[str, ...]], own: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Definitions for PCA, which has no hypothesis and no code at places; where a child has its own distance, PCA tries each."""
    out: dict[str, tuple[str, ...]] = {}
    for name, definition in scores.items():
        kept = tuple(t for t in definition if t.removesuffix(PLACE) not in (HYPOTHESIS, OWN_DISTANCE, CODE))
        marks = {t.removeprefix(OWN_DISTANCE) for t in definition if t.removesuffix(PLACE) == OWN_DISTANCE}
        if not marks:
            out[name] = kept
        for distance in own if marks else ():
            short = "+".join(d.rpartition("/")[2] for d in distance.split("+"))
            out[f"{name}: {short}"] = (*(d + mark for d in distance.split("+") for mark in marks), *kept)
    return {label: names for label, names in out.items() if terms_in(names)}
