"""A child model as an anomaly detector: network, hypothesis and distances, and the scores made of their terms.

``score = DIST(g(f(x)), x) + REG(f(x))`` (eq. 2). Each term is standardised by its median and its MAD over training images,
so that neither drowns the other; the raw terms are kept beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autoad_core.component import Kind
from autoad_core.data import Floats
from autoad_core.geometry import Shape
from autoad_core.model import Autoencoder
from autoad_core.protocols import Batch, Distance
from autoad_core.registry import Registry
from autoad_core.spec import Spec

HYPOTHESIS = "hypothesis"  # the term that is not a distance
OWN_DISTANCE = "distance"  # in a score's definition: the distances of the spec itself
SCORING_BATCH = 256

Terms = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Scale:
    """Centre and spread of a term over training images."""

    median: float
    mad: float

    @classmethod
    def of(cls, values: Floats) -> Scale:
        """Median and median absolute deviation of (n,) values; a term that varies by rounding alone has spread 1."""
        wide = values.astype(np.float64)
        median = float(np.median(wide))
        mad = float(np.median(np.abs(wide - median)))
        spread = mad or float(np.std(wide))
        return cls(median, spread if spread > max(1e-12, 1e-6 * abs(median)) else 1.0)


class Detector(nn.Module):
    """A child model with all that scoring needs.

    Args:
        spec: Resolved: full ids.
        shape: (C, H, W) of the images.
        registry: Where the components come from.
        distances: Ids of the distances to evaluate beside the spec's own.
        decoder: See `Autoencoder`.
        bfloat16: Run the networks in bfloat16 and channels-last; losses and scores stay float32.

    Attributes:
        scales: By term; set after training.
    """

    def __init__(
        self,
        spec: Spec,
        shape: Shape,
        registry: Registry,
        *,
        distances: Sequence[str] = (),
        decoder: str = "upsample-first",
        bfloat16: bool = False,
    ) -> None:
        super().__init__()
        self.spec, self.shape, self.decoder, self.low_precision = spec, shape, decoder, bfloat16
        self.network = Autoencoder(spec, shape, registry, decoder)
        entry = registry.get(Kind.HYPOTHESIS, spec.hypothesis)
        factory, own = entry.load(), spec.own_choices("hypothesis", entry.component.name)
        probe = factory(1, **own)  # the view decides the length of the code
        self.hypothesis = factory(self.network.geometry.code_dim(probe.view), **own)
        self.distances: dict[str, Distance] = {}
        for name in dict.fromkeys((*spec.distances, *distances)):
            found = registry.get(Kind.DISTANCE, name)
            self.distances[name] = found.load()(**spec.own_choices("distance", found.component.name))
        self.scales: dict[str, Scale] = {}
        if bfloat16:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Batch:
        """What the model knows about ``images``: (B, C, H, W) float32 in [0, 1]."""
        x = images.contiguous(memory_format=torch.channels_last) if self.low_precision else images
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low_precision):
            reconstruction, code = self.network(x)
        return Batch(images, reconstruction.float(), self.network.view(code, self.hypothesis.view))

    def codes(self, images: Tensor) -> Tensor:
        """(n, D) codes of (n, C, H, W) images, as the hypothesis views them, without gradients."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.low_precision):
            parts = [self.network.encode(x) for x in images.split(SCORING_BATCH)]
        return torch.cat([self.network.view(part, self.hypothesis.view) for part in parts])

    def loss(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss of a batch, DIST + REG, and its codes (B, D), detached."""
        batch = self(images)
        own = [self.distances[name] for name in self.spec.distances]
        distance = torch.stack([measured(d, batch).mean() for d in own]).sum()
        return distance + self.hypothesis.loss(batch), batch.code.detach()

    def batches(self, images: Tensor) -> Iterator[Batch]:
        """`forward` over (n, C, H, W) images, without gradients, in batches."""
        with torch.inference_mode():
            for x in images.split(SCORING_BATCH):
                yield self(x)

    def raw_terms(self, images: Tensor) -> Terms:
        """Every distance and the hypothesis's term for (n, C, H, W) images, each (n,) float32, in one pass."""
        rows: dict[str, list[Tensor]] = {name: [] for name in (*self.distances, HYPOTHESIS)}
        for batch in self.batches(images):
            with torch.inference_mode():
                for name, distance in self.distances.items():
                    rows[name].append(measured(distance, batch))
                rows[HYPOTHESIS].append(self.hypothesis.score(batch))
        return {name: torch.cat(parts).numpy().astype(np.float32) for name, parts in rows.items()}

    def calibrate(self, images: Tensor) -> None:
        """Fix the scales of the terms on training images (n, C, H, W)."""
        self.scales = {name: Scale.of(values) for name, values in self.raw_terms(images).items()}

    def score(self, raw: Mapping[str, Floats], definition: Sequence[str]) -> Floats:
        """Sum of standardised terms, (n,) float32; ``definition`` as in `Reward.scores`, with resolved names."""
        names: list[str] = []
        for name in definition:
            names += self.spec.distances if name == OWN_DISTANCE else (name,)
        total = sum((raw[n].astype(np.float64) - self.scales[n].median) / self.scales[n].mad for n in names)
        return np.asarray(total, dtype=np.float32)


def measured(distance: Distance, batch: Batch) -> Tensor:
    """One number an image, (B,), from a distance's map."""
    distances = distance(batch.image, batch.reconstruction)
    return distances.sum((1, 2)) if distance.reduction == "sum" else distances.mean((1, 2))
