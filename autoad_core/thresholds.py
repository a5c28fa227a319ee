"""From which score on something is anomalous: split conformal prediction on normal validation images alone.

With n scores of normal images that the model was not trained on, a new normal image's score is as likely to take any of the n + 1
ranks. So ``p = (1 + #{scores >= s}) / (n + 1)`` is at most ``a`` for at most a share ``a`` of new normal images, whatever the
scores' distribution [Vovk et al. 2005; Angelopoulos and Bates 2023]. No rate below 1 / (n + 1) can be promised.

For pixels the loss of a normal image is the share of its pixels above the threshold. Its mean over new normal images is at most
``a`` where ``(n * mean share + 1) / (n + 1) <= a`` [conformal risk control, Angelopoulos et al. 2022].

Both promises hold for images like those of validation. The search has looked at these to choose a model, which costs the promise
a little: more, the fewer there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoad_core.data import Floats
from autoad_core.pixel_metrics import area_threshold

RATES = tuple(
    float(f"{r:.3g}") for r in np.geomspace(1, 1e-6, 121)
)  # shares of pixels whose thresholds are kept


@dataclass(frozen=True, slots=True)
class Usual:
    """Scores of normal validation images, and what share of their pixels lies above which score.

    Attributes:
        scores: (n,), ascending.
        pixels: For each of `RATES` the score that this share of all pixels lies above; empty where images are scored.
        connected: Score that RPRO takes as its threshold, see `autoad_core.pixel_metrics.area_threshold`; None for images.
    """

    scores: tuple[float, ...]
    pixels: tuple[float, ...] = ()
    connected: float | None = None

    @classmethod
    def of(cls, found: Floats, area: int = 1) -> Usual:
        """From scores (n,), or from maps (n, H, W), whose images' scores are their maxima.

        Args:
            area: Pixels that a connected part above ``connected`` must stay below.
        """
        if found.ndim == 1:
            return cls(tuple(np.sort(found).tolist()))
        values = np.quantile(found, [1 - rate for rate in RATES], method="higher")
        highest = tuple(np.sort(found.max((1, 2))).tolist())
        return cls(highest, tuple(map(float, values)), area_threshold(list(found), area))

    @property
    def least_rate(self) -> float:
        """The lowest rate of false alarms that can be promised."""
        return 1 / (len(self.scores) + 1)

    def p_value(self, score: float) -> float:
        """Share of normal images that would score so high, in (0, 1]."""
        above = len(self.scores) - int(np.searchsorted(self.scores, score, side="left"))
        return (1 + above) / (len(self.scores) + 1)

    def threshold(self, rate: float) -> float | None:
        """A score that at most a share ``rate`` of new normal images lies above; None where none can be promised."""
        rank = math.ceil((len(self.scores) + 1) * (1 - rate) - 1e-9)
        if rank > len(self.scores):
            return None
        return self.scores[max(rank, 1) - 1]

    def pixel_threshold(self, rate: float) -> tuple[float, bool]:
        """A score that at most a share ``rate`` of a new normal image's pixels lies above in the mean; whether that is promised.

        Where it cannot be, for want of images, it is the score that this share of the validation pixels lies above.
        """
        allowed = (rate * (len(self.scores) + 1) - 1) / max(1, len(self.scores))
        promised = allowed > 0
        wanted = allowed if promised else rate
        at = next((i for i, known in enumerate(RATES) if known <= wanted), len(RATES) - 1)
        return self.pixels[at], promised

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"scores": list(self.scores), "pixels": list(self.pixels), "connected": self.connected}

    @classmethod
    def from_json(cls, value: Any) -> Usual:
        """Raises KeyError, TypeError or ValueError for what `to_json` cannot have made."""
        scores, pixels = (tuple(float(v) for v in value[key]) for key in ("scores", "pixels"))
        if not _ascending(scores) or not _ascending(pixels) or len(pixels) not in (0, len(RATES)):
            raise ValueError("scores of normal images that are not finite and ascending")
        connected = value["connected"]
        if (connected is None) != (not pixels) or not math.isfinite(connected or 0.0):
            raise ValueError("a threshold of connected parts that does not fit the rest")
        return cls(scores, pixels, None if connected is None else float(connected))


def _ascending(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values)) and all(a <= b for a, b in itertools.pairwise(values))
