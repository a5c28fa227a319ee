"""How scores become the lines of the final table: on which images, by which metrics, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from autoad_core import pixel_metrics
from autoad_core.data import Floats
from autoad_core.metrics import Aggregate, group_aurocs, grouped_intervals
from autoad_core.pixel_detector import Pixels
from autoad_core.pixel_metrics import Truth
from autoad_core.split import Part, Split

BRIGHTNESS = "mean pixel"  # the baseline that shows whether brightness alone tells images apart

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that scores images.

    Attributes:
        name: Of its row.
        score: Images (n, C, H, W) to scores (n,), or to maps (n, H, W) at pixel level; several threads may call it at once.
        more: What else the row says.
    """

    name: str
    score: Callable[[Floats], Floats]
    more: Mapping[str, Any]


class Judge(Protocol):
    """Makes rows, with ``reward``, ``metrics`` and ``sets`` (by anomaly set, may be empty) under ``validation`` and ``test``."""

    @property
    def split(self) -> Split:
        """Its validation and test part give the figures."""

    @property
    def sample(self) -> Part:
        """Of validation, for choices between variants."""

    def row(self, contestant: Contestant) -> Row:
        """One line of the table."""

    def value(self, scores: Floats) -> float:
        """The reward of scores of the sample's images."""


def rows(judge: Judge, contestants: Sequence[Contestant], threads: int) -> list[Row]:
    """The lines of the table, in order. Each is computed by one thread, so that their number does not matter."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(judge.row, contestants))


@dataclass(frozen=True, slots=True)
class ImageJudge:
    """Of scores of images: AUROC, aggregated over the anomaly sets that validation knows, and for each; all metrics pooled.

    Attributes:
        split, sample: See `Judge`.
        aggregate: Of the AUROCs of the anomaly sets.
        seed: Of the bootstrap.
    """

    split: Split
    sample: Part
    aggregate: Aggregate
    seed: int

    def row(self, contestant: Contestant) -> Row:
        """See `Judge.row`."""
        parts = {"validation": self.split.validation, "test": self.split.test}
        figures = {name: self._figures(contestant.score(part.images), part) for name, part in parts.items()}
        return {"name": contestant.name, **figures, **contestant.more}

    def value(self, scores: Floats) -> float:
        """See `Judge.value`."""
        return group_aurocs(scores, self.sample.groups, self.split.groups, self.aggregate)["value"]

    def _figures(self, scores: Floats, part: Part) -> Row:
        searched = {int(g) for g in np.unique(self.split.validation.groups)}
        found = grouped_intervals(scores, part.groups, self.aggregate, aggregated=searched, seed=self.seed)
        return {
            "reward": asdict(found.aggregate),
            "sets": {self.split.groups[g - 1]: asdict(i) for g, i in found.groups.items()},
            "metrics": {name: asdict(interval) for name, interval in found.pooled.items()},
        }


@dataclass(frozen=True)
class PixelJudge:
    """Of score maps, against the masks at their own size; RPRO's threshold comes from the normal images of validation.

    The reward leaves out the types of anomaly that validation does not know.

    Attributes:
        split, sample: See `Judge`.
        pixels: Its metric is the reward.
        seed: Of the bootstrap.
    """

    split: Split
    sample: Part
    pixels: Pixels
    seed: int

    def row(self, contestant: Contestant) -> Row:
        """See `Judge.row`."""
        shown = contestant.score(self.split.validation.images)
        threshold = self._threshold(shown, self.split.validation)
        every = {"validation": shown, "test": contestant.score(self.split.test.images)}
        figures = {name: self._figures(maps, name, threshold) for name, maps in every.items()}
        return {"name": contestant.name, **figures, **contestant.more}

    def value(self, scores: Floats) -> float:
        """See `Judge.value`."""
        threshold = self._threshold(scores, self.sample)
        return pixel_metrics.figures(list(scores), self._truths["sample"], threshold)[self.pixels.metric]

    @cached_property
    def _parts(self) -> dict[str, Part]:
        return {"validation": self.split.validation, "test": self.split.test, "sample": self.sample}

    @cached_property
    def _truths(self) -> dict[str, tuple[Truth, ...]]:
        return {name: part.truths() for name, part in self._parts.items()}

    def _threshold(self, maps: Floats, part: Part) -> float:
        return pixel_metrics.area_threshold(list(maps[part.groups == 0]), self.pixels.area)

    def _figures(self, maps: Floats, name: str, threshold: float) -> Row:
        groups, truths = self._parts[name].groups, self._truths[name]
        searched = set(self.split.validation.groups.tolist())

        def among(wanted: set[int]) -> dict[str, Any]:
            rows = np.flatnonzero(np.isin(groups, list(wanted | {0})))
            chosen = [truths[i] for i in rows]
            found = pixel_metrics.intervals(list(maps[rows]), chosen, threshold, seed=self.seed)
            return {metric: asdict(interval) for metric, interval in found.items()}

        defective = {int(g) for g, truth in zip(groups, truths, strict=True) if g and truth.regions}
        metrics = among(set(groups.tolist()))
        of_searched = metrics if defective <= searched else among(defective & searched)
        apart = sorted(defective) if name == "test" and len(defective) > 1 else []
        sets = {self.split.groups[g - 1]: among({g})[self.pixels.metric] for g in apart}
        return {"reward": of_searched[self.pixels.metric], "sets": sets, "metrics": metrics}
