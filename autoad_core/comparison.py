"""The table at the end: the best models beside what a user would try first, validation and test apart, with intervals.

Choices (which model, which score, how many components) are made on validation alone; the test is only looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from autoad_core import baselines
from autoad_core.data import Floats
from autoad_core.detector import HYPOTHESIS, OWN_DISTANCE, Scale, Terms, measured
from autoad_core.judges import BRIGHTNESS, Contestant, Judge, Row
from autoad_core.metrics import Interval
from autoad_core.modelfile import Model
from autoad_core.protocols import Batch, Distance
from autoad_core.split import Split

WIDE = 0.2  # an interval that says little
CALIBRATION_IMAGES = 1024
SHORTCUT = 0.8  # AUROC of brightness from which images can be told by it; or as far below 0.5


def trained(name: str, model: Model, more: Mapping[str, Any]) -> Contestant:
    """A trained model under the score that it prefers."""

    def score(images: Floats) -> Floats:
        return model(torch.from_numpy(images))

    return Contestant(name, score, {"score": model.score, **more})


def simple_methods(
    judge: Judge,
    distances: Mapping[str, Distance],
    own: Sequence[str],
    scores: Mapping[str, tuple[str, ...]],
) -> list[Contestant]:
    """PCA under the same scores as the searched models, nearest neighbours, and mean pixel.

    Args:
        judge: Its sample chooses PCA's components and score.
        distances: By id: all that the scores need.
        own: Ids of the distances that a child of this search may have: PCA's ``own`` score is the best of them.
        scores: Definitions, resolved.
    """
    train = judge.split.train.images

    def neighbours(images: Floats) -> Floats:
        return baselines.knn(train, images).astype(np.float32)

    def brightness(images: Floats) -> Floats:
        return baselines.mean_pixel(train, images).astype(np.float32)

    return [
        _best_pca(judge, distances, _pca_scores(scores, own)),
        Contestant("nearest neighbours", neighbours, {"score": ""}),
        Contestant(BRIGHTNESS, brightness, {"score": ""}),
    ]


def _best_pca(
    judge: Judge, distances: Mapping[str, Distance], scores: Mapping[str, tuple[str, ...]]
) -> Contestant:
    train = judge.split.train.images
    best: tuple[float, Contestant] | None = None
    for size, pca in baselines.Pca.fit(train).sizes().items():
        terms = partial(_pca_terms, pca, distances)
        scales = {k: Scale.of(v) for k, v in terms(train[:CALIBRATION_IMAGES]).items()}
        raw = terms(judge.sample.images)
        for label, definition in scores.items():
            value = judge.value(sum_of_terms(raw, scales, definition))
            if best is None or value > best[0]:
                score = partial(_scored, terms, scales, definition)
                best = (value, Contestant("PCA", score, {"score": f"{label}, {size} components"}))
    assert best is not None  # there is always a size and a score
    return best[1]


def _scored(
    terms: Callable[[Floats], Terms], scales: Mapping[str, Scale], definition: Sequence[str], images: Floats
) -> Floats:
    return sum_of_terms(terms(images), scales, definition)


def sum_of_terms(raw: Terms, scales: Mapping[str, Scale], names: Sequence[str]) -> Floats:
    """Sum of standardised terms, (n,)."""
    total = sum((raw[n].astype(np.float64) - scales[n].median) / scales[n].mad for n in names)
    return np.asarray(total, dtype=np.float32)


def _pca_scores(scores: Mapping[str, tuple[str, ...]], own: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Definitions for PCA: where a child has its own distance, PCA tries each, with the term of its code and without."""
    out: dict[str, tuple[str, ...]] = {}
    for name, definition in scores.items():
        if OWN_DISTANCE not in definition:
            out[name] = definition
            continue
        rest = tuple(t for t in definition if t != OWN_DISTANCE)
        for distance in own:
            short = "+".join(d.rpartition("/")[2] for d in distance.split("+"))
            out[f"{name}: {short}"] = (*distance.split("+"), *(t for t in rest if t != HYPOTHESIS))
            out[f"{name}: {short} + code"] = (*distance.split("+"), *rest)
    return out


def _pca_terms(pca: baselines.Pca, distances: Mapping[str, Distance], images: Floats) -> Terms:
    """Every distance between images and their projections, and Hotelling's T squared as the hypothesis's term."""
    with torch.inference_mode():
        pair = (torch.from_numpy(images), torch.from_numpy(pca.reconstruct(images)))
        terms: Terms = {}
        for name, distance in distances.items():
            rows = [
                measured(distance, Batch(x, y, x.flatten(1)))
                for x, y in zip(*(t.split(256) for t in pair), strict=True)
            ]
            terms[name] = torch.cat(rows).numpy().astype(np.float32)
    terms[HYPOTHESIS] = pca.code_term(images).astype(np.float32)
    return terms


def cautions(rows: Sequence[Row], models: Sequence[Row], split: Split) -> list[str]:
    """What a reader of the table must know before quoting it."""
    found = []
    for part, images in (("validation", split.validation), ("test", split.test)):
        anomalous = int((images.groups > 0).sum())
        if anomalous < 20 or len(images) - anomalous < 20:
            found.append(
                f"{part} has {len(images) - anomalous} normal and {anomalous} anomalous images: its figures mean little"
            )
    if not models:
        return found
    best = models[0]
    interval = Interval(**best["test"]["reward"])
    if interval.high - interval.low > WIDE:
        found.append(
            f"the test interval of the best model is wide, {interval}: more labelled images would narrow it"
        )
    for row in rows:
        if row["validation"]["reward"]["value"] >= best["validation"]["reward"]["value"]:
            simpler = "" if "spec" in row else ", and simpler"
            found.append(f"{row['name']} is as good as the best model found on validation{simpler}")
    for row in rows:
        for part in ("validation", "test") if row["name"] == BRIGHTNESS else ():
            metrics = row[part]["metrics"]
            told = Interval(**metrics.get("image_auroc", metrics.get("auroc")))
            if told.low >= SHORTCUT or told.high <= 1 - SHORTCUT:  # normal images may be the odd ones
                found.append(
                    f"the mean pixel alone tells anomalous {part} images from normal ones, AUROC {told}: the sets differ in "
                    "brightness, and a figure for whole images means little"
                )
    found += [f"best model: {warning}" for warning in best.get("warnings", [])]
    return found
