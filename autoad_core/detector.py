"""A child model as an anomaly detector: network, hypothesis and distances, and the scores made of their terms.

``score = DIST(g(f(x)), x) + REG(f(x))`` (eq. 2). Each term is standardised by its median and its MAD over training images,
so that neither drowns the other; the raw terms are kept beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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
SCORING_PIXELS = 2**20  # of a batch
CALIBRATION_IMAGES = 1024

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
    """A child model with all that scoring of images needs; of their pixels, see `autoad_core.pixel_detector`.

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

    aligned = False  # see `Autoencoder`

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
        self.network = Autoencoder(spec, self.layout, registry, decoder, aligned=self.aligned)
        entry = registry.get(Kind.HYPOTHESIS, spec.hypothesis)
        factory, own = entry.load(), spec.own_choices("hypothesis", entry.component.name)
        self.hypothesis = factory(self.vector_length(factory(1, **own).view), **own)
        self.distances: dict[str, Distance] = {}
        for name in dict.fromkeys((*spec.distances, *distances)):
            found = registry.get(Kind.DISTANCE, name)
            self.distances[name] = found.load()(**spec.own_choices("distance", found.component.name))
        self.scales: dict[str, Scale] = {}
        if bfloat16:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms that scores may have."""
        return (*self.distances, HYPOTHESIS)

    @property
    def layout(self) -> Shape:
        """(C, H, W) of what it is trained on."""
        return self.shape

    def vector_length(self, view: str) -> int:
        """Length of the vectors that a hypothesis with this ``view`` gets."""
        return self.network.geometry.code_dim(view)

    def vectors(self, code: Tensor) -> Tensor:
        """(n, D) float32, what the hypothesis gets of a code (B, C', H', W'): one vector an image."""
        return self.network.view(code, self.hypothesis.view)

    def seen(self, batch: Batch) -> Batch:
        """What the hypothesis gets of `forward`."""
        return replace(batch, code=self.vectors(batch.code))

    def forward(self, images: Tensor) -> Batch:
        """What the model knows about ``images``, (B, C, H, W) float32 in [0, 1]; the code as it is, (B, C', H', W')."""
        reconstruction, code = self.through(images)
        return Batch(images, reconstruction.float(), code)

    def through(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions and codes, as the network gives them."""
        x = images.contiguous(memory_format=torch.channels_last) if self.low_precision else images
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low_precision):
            reconstruction, code = self.network(x)
        return reconstruction, code

    def codes(self, images: Tensor) -> Tensor:
        """(n, D) vectors that the hypothesis gets of (N, C, H, W) images, without gradients."""
        return torch.cat([self.vectors(part) for part in self.code_batches(images)])

    def code_batches(self, images: Tensor) -> Iterator[Tensor]:
        """Codes (B, C', H', W') of (N, C, H, W) images, without gradients, batch by batch."""
        for x in images.split(batch_size(images)):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.low_precision):
                yield self.network.encode(x)

    def loss(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss of a batch, DIST + REG, and the vectors that the hypothesis got, (n, D), detached."""
        batch = self(images)
        seen = self.seen(batch)
        own = [self.distances[name] for name in self.spec.distances]
        distance = torch.stack([measured(d, batch).mean() for d in own]).sum()
        return distance + self.hypothesis.loss(seen), seen.code.detach()

    def batches(self, images: Tensor) -> Iterator[Batch]:
        """`forward` over (n, C, H, W) images, without gradients, in batches."""
        with torch.inference_mode():
            for x in images.split(batch_size(images)):
                yield self(x)

    def raw_terms(self, images: Tensor) -> Terms:
        """Every distance and the hypothesis's term for (n, C, H, W) images, each (n,) float32, in one pass."""
        rows: dict[str, list[Tensor]] = {name: [] for name in self.terms}
        for batch in self.batches(images):
            with torch.inference_mode():
                for name, distance in self.distances.items():
                    rows[name].append(measured(distance, batch))
                rows[HYPOTHESIS].append(self.hypothesis.score(self.seen(batch)))
        return {name: torch.cat(parts).numpy().astype(np.float32) for name, parts in rows.items()}

    def calibrate(self, images: Tensor, codes: Tensor) -> None:
        """Fix the scales of the terms on training images (n, C, H, W), the first `CALIBRATION_IMAGES` of them.

        Args:
            codes: What the hypothesis got of them, or of some.
        """
        raw = self.raw_terms(images[:CALIBRATION_IMAGES])
        self.scales = {name: Scale.of(values) for name, values in raw.items()}

    def score(self, raw: Mapping[str, Floats], definition: Sequence[str]) -> Floats:
        """Sum of standardised terms, (n,) float32; ``definition`` as in `Reward.scores`, with resolved names."""
        names = self.terms_of(definition)
        total = sum((raw[n].astype(np.float64) - self.scales[n].median) / self.scales[n].mad for n in names)
        return np.asarray(total, dtype=np.float32)

    def terms_of(self, definition: Sequence[str]) -> list[str]:
        """The terms of a score, with the spec's own distances in the place of `OWN_DISTANCE`."""
        return [t for name in definition for t in (self.spec.distances if name == OWN_DISTANCE else (name,))]


def batch_size(images: Tensor) -> int:
    """How many of (n, C, H, W) images to score at once."""
    return max(1, min(SCORING_BATCH, SCORING_PIXELS // (images.shape[2] * images.shape[3])))


def measured(distance: Distance, batch: Batch) -> Tensor:
    """One number an image, (B,), from a distance's map."""
    distances = distance(batch.image, batch.reconstruction)
    return distances.sum((1, 2)) if distance.reduction == "sum" else distances.mean((1, 2))
