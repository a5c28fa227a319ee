"""The table at the end: the best models beside what a user would try first, validation and test apart, with intervals.

Choices (which model, which score, how many components) are made on validation alone; the test is only looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from autoad_core import baselines
from autoad_core.data import Floats
from autoad_core.detector import HYPOTHESIS, OWN_DISTANCE, Detector, Scale, Terms, measured
from autoad_core.metrics import Aggregate, Interval, grouped_auroc, intervals
from autoad_core.protocols import Batch, Distance
from autoad_core.split import Part, Split

WIDE = 0.2  # an interval that says little
CALIBRATION_IMAGES = 1024

Row = dict[str, Any]
Scores = Callable[[Part], Floats]


@dataclass(frozen=True, slots=True)
class Judge:
    """How a score is judged: on which images, and how the AUROCs of the anomaly sets become one."""

    split: Split
    aggregate: Aggregate
    seed: int

    def figures(self, scores: Floats, part: Part) -> Row:
        """AUROC with interval, aggregated over the anomaly sets that validation knows and for each; and all metrics pooled."""
        searched = np.unique(self.split.validation.groups)
        known = np.isin(part.groups, searched)
        grouped = grouped_auroc(scores[known], part.groups[known], self.aggregate, seed=self.seed)
        sets = {self.split.groups[g - 1]: asdict(i) for g, i in grouped.groups.items()}
        for group in sorted({int(g) for g in part.groups} - {int(g) for g in searched}):
            rows = (part.groups == 0) | (part.groups == group)
            found = grouped_auroc(scores[rows], part.groups[rows], self.aggregate, seed=self.seed)
            sets[self.split.groups[group - 1]] = asdict(found.aggregate)
        pooled = intervals(scores, part.groups > 0, seed=self.seed)
        return {
            "auroc": asdict(grouped.aggregate),
            "sets": sets,
            "pooled": {name: asdict(interval) for name, interval in pooled.items()},
        }

    def row(self, name: str, validation: Floats, test: Floats, **more: Any) -> Row:
        """One line of the table."""
        return {
            "name": name,
            "validation": self.figures(validation, self.split.validation),
            "test": self.figures(test, self.split.test),
            **more,
        }

    def best_of(self, name: str, candidates: Mapping[str, tuple[Floats, Floats]], **more: Any) -> Row:
        """The candidate, (validation, test) scores by name, that validation prefers."""

        def value(scores: Floats) -> float:
            part = self.split.validation
            return grouped_auroc(scores, part.groups, self.aggregate, resamples=1).aggregate.value

        chosen = max(candidates, key=lambda c: value(candidates[c][0]))
        return self.row(name, *candidates[chosen], score=chosen, **more)


def detector_row(
    judge: Judge,
    name: str,
    detector: Detector,
    scores: Mapping[str, tuple[str, ...]],
    score: str,
    **more: Any,
) -> Row:
    """The figures of a trained model under ``score``."""
    definition = scores[score]
    validation, test = (
        detector.score(detector.raw_terms(torch.from_numpy(part.images)), definition)
        for part in (judge.split.validation, judge.split.test)
    )
    return judge.row(name, validation, test, score=score, **more)


def baseline_rows(
    judge: Judge, distances: Mapping[str, Distance], own: Sequence[str], scores: Mapping[str, tuple[str, ...]]
) -> list[Row]:
    """PCA under the same scores as the searched models, nearest neighbours, and mean pixel.

    Args:
        distances: By id: all that the scores need.
        own: Ids of the distances that a child of this search may have: PCA's ``own`` score is the best of them.
        scores: Definitions, resolved.
    """
    train, parts = judge.split.train.images, (judge.split.validation, judge.split.test)
    candidates: dict[str, tuple[Floats, Floats]] = {}
    for size, pca in baselines.Pca.fit(train).sizes().items():
        scales = {k: Scale.of(v) for k, v in _pca_terms(pca, train[:CALIBRATION_IMAGES], distances).items()}
        raw = [_pca_terms(pca, part.images, distances) for part in parts]
        for label, definition in _pca_scores(scores, own).items():
            validation, test = (sum_of_terms(terms, scales, definition) for terms in raw)
            candidates[f"{label}, {size} components"] = (validation, test)
    rows = [judge.best_of("PCA", candidates)]
    for name, function in (("nearest neighbours", baselines.knn), ("mean pixel", baselines.mean_pixel)):
        validation, test = (function(train, part.images).astype(np.float32) for part in parts)
        rows.append(judge.row(name, validation, test, score=""))
    return rows


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


def _pca_terms(pca: baselines.Pca, images: Floats, distances: Mapping[str, Distance]) -> Terms:
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
    interval = Interval(**best["test"]["auroc"])
    if interval.high - interval.low > WIDE:
        found.append(
            f"the test interval of the best model is wide, {interval}: more labelled images would narrow it"
        )
    for row in rows:
        if row["validation"]["auroc"]["value"] >= best["validation"]["auroc"]["value"]:
            found.append(f"{row['name']} is as good as the best model found on validation, and simpler")
    found += [f"best model: {warning}" for warning in best.get("warnings", [])]
    return found
